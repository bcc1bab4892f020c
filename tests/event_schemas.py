"""The schemas in infra/events/, and a look at every event through them."""

import json
import re
from typing import Any

import jsonschema
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from payments import outbox
from sandbox.template import ROOT

EVENTS = ROOT / "infra/events"
FILES: dict[str, Any] = {path.name: json.loads(path.read_text()) for path in sorted(EVENTS.glob("*.json"))}
TYPES = sorted(name.removesuffix(".json") for name in FILES if name != "common.json")


def _without(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != name}


_REGISTRY: Registry[Any] = Registry().with_resources(
    # Without its $schema, for which the library would take its own validator instead of this one.
    (f"{EVENTS.as_uri()}/{name}", DRAFT202012.create_resource(_without(schema, "$schema")))
    for name, schema in FILES.items()
)


def _pattern(_validator: Any, pattern: str, text: Any, _schema: Any) -> Any:
    """JSON Schema's patterns are ECMAScript's, where $ is the very end; Python's also stops before a newline."""
    if isinstance(text, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), text):
        yield jsonschema.ValidationError(f"does not match {pattern}")


_Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _pattern})


def validator(event_type: str) -> Any:
    """Of the details of one type."""
    return _Validator({"$ref": f"{EVENTS.as_uri()}/{event_type}.json"}, registry=_REGISTRY)


def example(event_type: str) -> Any:
    [only] = FILES[f"{event_type}.json"]["examples"]
    return only


def shape(content: Any) -> Any:
    """The keys of an object and of those inside it. What a page sent along may have any."""
    if not isinstance(content, dict):
        return None
    return {
        name: None if name in ("metadata", "untrusted_metadata") else shape(value) for name, value in content.items()
    }


def check(event: outbox.Event) -> dict[str, Any]:
    """The detail as it goes over the bus: JSON that its schema takes, with all that the schema's example has."""
    detail: dict[str, Any] = json.loads(json.dumps(event.detail, allow_nan=False))
    assert detail == event.detail, "lost on the way through JSON"
    errors = [f"{error.json_path}: {error.message}" for error in validator(event.type).iter_errors(detail)]
    assert errors == [], f"{event.type}: {errors}"
    assert shape(detail) == shape(example(event.type))
    return detail
