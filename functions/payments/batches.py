"""What AWS takes at once, be it events (PutEvents) or messages (SendMessageBatch): ten, and 256 kB in all."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

MOST, MAX_BYTES = 10, 200_000

OF_AN_ENTRY = 200
"""Bytes of an event beside its detail: source, type and bus."""

Thing = TypeVar("Thing")


def batches(things: Iterable[Thing], length: Callable[[Thing], int]) -> Iterator[list[Thing]]:
    """In order; `length` is in bytes. One that is too long for company goes alone."""
    batch: list[Thing] = []
    size = 0
    for thing in things:
        more = length(thing)
        if batch and (len(batch) == MOST or size + more > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(thing)
        size += more
    if batch:
        yield batch


def bytes_of(detail: str) -> int:
    """That an event with this detail takes."""
    return len(detail.encode()) + OF_AN_ENTRY
