"""JSON from strangers: what is ambiguous or unbounded is refused, numbers stay exact."""

import json
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn


class Unreadable(Exception):
    """The bytes are not JSON that everybody reads the same way. Says where or why, in no word of the input."""


def parse(body: bytes) -> Any:
    """UTF-8 JSON with numbers as Decimal. Raises Unreadable for a BOM, another encoding, NaN, a duplicate
    key, a number out of Decimal's range, or nesting beyond the interpreter's limit."""
    try:
        return _decode(body.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise Unreadable(f"line {error.lineno}, column {error.colno}") from None
    except (ValueError, InvalidOperation, RecursionError) as error:
        raise Unreadable(type(error).__name__) from None


def _refuse(_constant: str) -> NoReturn:
    raise Unreadable("no number")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise Unreadable("a key twice in one object")
    return unique


_decode = json.JSONDecoder(
    parse_int=Decimal, parse_float=Decimal, parse_constant=_refuse, object_pairs_hook=_without_duplicates
).decode
