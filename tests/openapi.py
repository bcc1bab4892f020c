"""infra/openapi.yaml, read for tests: its operations, its schemas, and which codes the handlers' source can answer."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from sandbox.template import ROOT

PATH = ROOT / "infra/openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(PATH.read_text())
PROBLEM = "application/problem+json"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
HTML = "text/html"

_URI = "urn:openapi"
_REGISTRY: Any = Registry().with_resource(_URI, Resource(DOCUMENT, DRAFT202012))


def _pattern(_validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    """As in ECMAScript, where `$` is the end and no line feed may follow."""
    if isinstance(instance, str) and not re.search(pattern.replace("$", r"\Z"), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_Validator: Any = validators.extend(Draft202012Validator, {"pattern": _pattern})


@dataclass(frozen=True)
class Operation:
    route: str
    """As API Gateway calls it: `GET /orders/{orderId}`."""
    pointer: str
    content: dict[str, Any]

    def media(self, status: int, content_type: str) -> dict[str, Any] | None:
        """What is documented of an answer's body."""
        answer = deref(self.content["responses"].get(str(status), {}))
        media: dict[str, Any] | None = answer.get("content", {}).get(content_type)
        return media

    def codes(self) -> set[tuple[int, str]]:
        """Status and code of its problems."""
        return {
            (int(status), code)
            for status, answer in self.content["responses"].items()
            if (media := deref(answer).get("content", {}).get(PROBLEM))
            for code in media["schema"]["allOf"][1]["properties"]["code"]["enum"]
        }

    def parameters(self) -> list[dict[str, Any]]:
        return [deref(parameter) for parameter in self.content.get("parameters", [])]


def deref(thing: dict[str, Any]) -> dict[str, Any]:
    """What a $ref leads to; else the thing itself."""
    if "$ref" not in thing:
        return thing
    found: Any = DOCUMENT
    for step in thing["$ref"].removeprefix("#/").split("/"):
        found = found[step.replace("~1", "/").replace("~0", "~")]
    return deref(found)


def _operations() -> Iterator[Operation]:
    for path, methods in DOCUMENT["paths"].items():
        for method, content in methods.items():
            pointer = f"#/paths/{path.replace('/', '~1')}/{method}"
            yield Operation(f"{method.upper()} {path}", pointer, content)


OPERATIONS = {operation.route: operation for operation in _operations()}


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][name]
    return found


def errors(wanted: Mapping[str, Any], value: Any, *, closed: bool = False) -> list[str]:
    """What is wrong with a value. `closed` also forbids fields that are not documented."""
    whole: dict[str, Any] = {"allOf": [_absolute(wanted)]}
    if closed:
        whole["unevaluatedProperties"] = False
    found = _Validator(whole, registry=_REGISTRY).iter_errors(value)
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


def _absolute(thing: Any) -> Any:
    """References within the document, from outside of it."""
    if isinstance(thing, dict):
        return {
            name: f"{_URI}{value}" if name == "$ref" and value.startswith("#") else _absolute(value)
            for name, value in thing.items()
        }
    return [_absolute(each) for each in thing] if isinstance(thing, list) else thing


def examples(media: Mapping[str, Any]) -> dict[str, Any]:
    """Of a body, a header or a parameter, by name."""
    named = {name: deref(each)["value"] for name, each in media.get("examples", {}).items()}
    return named | ({"example": media["example"]} if "example" in media else {})


# --- The source -------------------------------------------------------------------------------------------------------

ENTRIES = {
    "POST /checkout": ("checkout", "_checkout"),
    "GET /orders/{orderId}": ("checkout", "_status"),
    "POST /webhooks/pocketsflow": ("webhook", "_receive"),
    "POST /server/checkout": ("server", "_checkout"),
    "PUT /server/orders/{reference}": ("server", "_register"),
    "POST /access": ("access", "_open"),
    "GET /access": ("access", "_renew"),
    "POST /access/link": ("access", "_link"),
    "GET /.well-known/jwks.json": ("access", "_keys"),
}
IMPOSSIBLE = {  # what the source seems to be able to answer, and cannot
    "POST /checkout": {
        (409, "reference_reused"),  # no reference is read there
        (502, "product_refused"),  # and no cart
        (502, "product_differs"),
    },
    "PUT /server/orders/{reference}": {
        (409, "idempotency_key_reused"),  # there is always a reference, and no key
        (503, "return_address_not_allowed"),  # no return address is looked at
    },
}


class Source:
    """The functions of the handlers and of what they share, and the problems in each of them."""

    MODULES = ("checkout", "server", "access", "webhook", "payments/opening")

    def __init__(self) -> None:
        self._functions: dict[tuple[str, str], ast.AST] = {}
        self._failures: dict[str, int] = {}
        for path in self.MODULES:
            module = path.rpartition("/")[2]
            tree = ast.parse((ROOT / f"functions/{path}.py").read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef):
                    self._functions[module, node.name] = node
                elif isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "_FAILURES":
                    assert isinstance(node.value, ast.Dict)
                    for key, value in zip(node.value.keys, node.value.values, strict=True):
                        self._failures[ast.literal_eval(key)] = ast.literal_eval(value)[0]  # type: ignore[arg-type]

    def codes(self, route: str) -> set[tuple[int, str]]:
        """Status and code of each problem that a route can answer."""
        return self.all_codes(route) - IMPOSSIBLE.get(route, set())

    def all_codes(self, route: str) -> set[tuple[int, str]]:
        """Status and code of each problem that a route's handler, and what it calls, has in its source. All answer
        what `opening.answering` answers, but for the webhook and for members."""
        module, name = ENTRIES[route]
        todo, seen = [(module, name)], set()
        if module != "webhook":
            todo.append(("access", "_answering") if module == "access" else ("opening", "answering"))
        while todo:
            at = todo.pop()
            if at not in seen:
                seen.add(at)
                todo += self._named_in(*at)
        return {code for at in seen for code in self._in(*at)}

    def _named_in(self, module: str, name: str) -> list[tuple[str, str]]:
        found = []
        for node in ast.walk(self._functions[module, name]):
            if isinstance(node, ast.Name):
                found.append((module, node.id))
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                found.append((node.value.id, node.attr))
        return [each for each in found if each in self._functions]

    def _in(self, module: str, name: str) -> Iterator[tuple[int, str]]:
        for node in ast.walk(self._functions[module, name]):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called not in ("Refused", "Misconfigured", "problem", "_refused"):
                continue
            constants = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            codes = [each for each in constants[:2] if isinstance(each, str) and re.fullmatch("[a-z_]+", each)]
            statuses = [each for each in constants if isinstance(each, int)]
            if codes:
                yield (503 if called == "Misconfigured" else statuses[0]), codes[0]
            elif statuses != [503] and module == "opening":  # of a failure of Pocketsflow
                for reason, status in self._failures.items():
                    yield status, f"pocketsflow_{reason}"
