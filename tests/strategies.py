"""What a stranger may write, for hypothesis: texts, numbers, JSON that is nearly what is documented."""

import copy
import json
from typing import Any

from hypothesis import strategies as st

# Half of a surrogate pair too, as JSON can smuggle it in: second halves only, since two halves make a whole. Mapped, or
# they would drown in the million other characters.
ANY_CHARACTER = st.characters(exclude_categories=["Cs"]) | st.sampled_from('\udfff\0\x7f\u2028\u212a\xe9 "').map(str)
ANY_TEXT = st.text(ANY_CHARACTER, max_size=80)

# As text, because some of them are out of the range of every Python type.
ODD_NUMBERS = ["0", "-0", "-0.0", "0E+999999", "1e400", "1E-7", "0.000001", "999999999999999.999999", "1E+15", "-1e-9"]
OUT_OF_RANGE = ["1e99999999999999999999", "NaN", "Infinity", "-Infinity"]


class Number(str):
    """A number in JSON, as it is written there."""

    __slots__ = ()


def encoded(value: Any) -> str:
    """JSON with numbers as they are written."""
    match value:
        case Number():
            return str(value)
        case dict():
            return "{" + ", ".join(f"{json.dumps(name)}: {encoded(inner)}" for name, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(encoded, value)) + "]"
    return json.dumps(value)


def numbers(*more: str) -> st.SearchStrategy[Number]:
    written = st.decimals(allow_nan=False, allow_infinity=False).map(str) | st.integers().map(str)
    return (st.sampled_from([*ODD_NUMBERS, *more]) | written).map(Number)


def json_values(texts: st.SearchStrategy[str], numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | numbers | texts
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
    )


def places(content: Any) -> list[tuple[Any, Any]]:
    """Every container in a JSON value, with every key or index in it."""
    keys = list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else []
    return [place for key in keys for place in [(content, key), *places(content[key])]]


@st.composite
def near(draw: st.DrawFn, documented: list[dict[str, Any]], names: list[str], values: st.SearchStrategy[Any]) -> Any:
    """A documented body, changed at up to three places."""
    content = copy.deepcopy(draw(st.sampled_from(documented)))
    for _ in range(draw(st.sampled_from([0, 1, 1, 2, 3]))):
        if not places(content):
            break
        holder, key = draw(st.sampled_from(places(content)))
        match draw(st.sampled_from(["replace", "remove", "copy", "add"])):
            case "replace":
                holder[key] = draw(values)
            case "remove":
                del holder[key]
            case "copy":
                source, name = draw(st.sampled_from(places(content)))
                holder[key] = copy.deepcopy(source[name])
            case "add" if isinstance(holder, dict):
                holder[draw(st.sampled_from(names) | ANY_TEXT)] = draw(values)
    return content


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """A text with one character removed, inserted or replaced, cut short, or with something before or after it."""
    position = draw(st.integers(0, len(text)))
    begin, end = text[:position], text[position:]
    character = draw(st.sampled_from("0123456789abcdefABCDEF \n\0０ａ") | ANY_CHARACTER)
    return draw(
        st.sampled_from(
            [begin, end, begin + end[1:], begin + character + end, begin + character + end[1:], end + begin, text * 2]
        )
    )
