"""Buyers' addresses: whole only for whoever asked for them, wherever they stand."""

import re
from typing import Any

import click

personal_option = click.option("--personal", is_flag=True, help="Show buyers' addresses whole.")

_PART = r"[^\s@<>\"',;:()\[\]]"
_ADDRESS = re.compile(f"({_PART}){_PART}*?(@|%40)({_PART}+)")
"""Also as addresses of pages write it."""


def hidden(content: Any, asked: str | None = None) -> Any:
    """JSON with each address in it as `j…@example.com`, but for the one that was asked for."""
    match content:
        case str():
            return _ADDRESS.sub(lambda found: _masked(found, asked), content)
        case dict():
            return {hidden(name, asked): hidden(each, asked) for name, each in content.items()}
        case list():
            return [hidden(each, asked) for each in content]
    return content


def _masked(found: re.Match[str], asked: str | None) -> str:
    if asked is not None and found[0].casefold() == asked.casefold():
        return found[0]
    return f"{found[1]}…{found[2]}{found[3]}"
