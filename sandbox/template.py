"""Reads template.yaml as CloudFormation would, for the few resource types that the sandbox creates."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
PSEUDO_PARAMETERS = {
    "AWS::AccountId": "123456789012",
    "AWS::Region": "eu-west-1",
    "AWS::StackName": "sandbox",
    "AWS::URLSuffix": "amazonaws.com",
}
_NO_VALUE = object()


@dataclass(frozen=True)
class Function:
    logical_id: str
    handler: str
    environment: dict[str, str]
    timeout: int
    """Seconds."""
    routes: list[tuple[str, str]]
    """Method and path, as in `POST`, `/orders/{orderId}`."""


class Template:
    """A template with its parameters filled in.

    `references` answers `Ref` and `GetAtt` of resources once they are there: {"Ledger": {"Ref": name, "Arn": arn}}.
    """

    def __init__(self, text: str, parameters: Mapping[str, str]) -> None:
        self._content = yaml.load(text, _Loader)  # noqa: S506  # a SafeLoader with CloudFormation's tags
        self.references: dict[str, dict[str, str]] = {}
        self._parameters: dict[str, Any] = {**PSEUDO_PARAMETERS}
        for name, declared in self._content["Parameters"].items():
            value = parameters.get(name, declared.get("Default"))
            if value is None:
                raise ValueError(f"parameter {name} has no value")
            is_list = declared["Type"] == "CommaDelimitedList"
            self._parameters[name] = str(value).split(",") if is_list else value

    def resources(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Logical id and properties, intrinsics resolved, of the resources of a type whose condition holds."""
        for logical_id, resource in self._content["Resources"].items():
            if resource["Type"] == kind and self._holds(resource.get("Condition")):
                yield logical_id, self._resolve(resource["Properties"])

    def functions(self) -> list[Function]:
        return [
            Function(
                logical_id=logical_id,
                handler=properties["Handler"],
                environment={name: str(value) for name, value in properties["Environment"]["Variables"].items()},
                timeout=properties["Timeout"],
                routes=[
                    (event["Properties"]["Method"], event["Properties"]["Path"])
                    for event in properties.get("Events", {}).values()
                    if event["Type"] == "HttpApi"
                ],
            )
            for logical_id, properties in self.resources("AWS::Serverless::Function")
        ]

    def cors(self) -> dict[str, Any]:
        [(_, api)] = self.resources("AWS::Serverless::HttpApi")
        cors: dict[str, Any] = api["CorsConfiguration"]
        return cors

    def _holds(self, condition: str | None) -> bool:
        return condition is None or bool(self._resolve(self._content["Conditions"][condition]))

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, list):
            return [item for item in map(self._resolve, value) if item is not _NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(name, argument)] = value.items()
            if name == "Ref" or name.startswith("Fn::"):
                return self._intrinsic(name, argument)
        resolved = {name: self._resolve(item) for name, item in value.items()}
        return {name: item for name, item in resolved.items() if item is not _NO_VALUE}

    def _intrinsic(self, name: str, argument: Any) -> Any:
        match name:
            case "Ref":
                return self._reference(argument, "Ref")
            case "Fn::GetAtt":
                return self._reference(*argument.split(".", 1))
            case "Fn::Sub":
                return re.sub(r"\$\{([^}]+)\}", lambda match: str(self._reference(match[1], "Ref")), argument)
            case "Fn::If":
                condition, yes, no = argument
                return self._resolve(yes if self._holds(condition) else no)
            case "Fn::Equals":
                left, right = map(self._resolve, argument)
                return str(left) == str(right)
            case "Fn::Not":
                return not self._resolve(argument[0])
            case "Fn::Join":
                separator, items = argument
                return separator.join(self._resolve(items))
        raise NotImplementedError(f"the sandbox does not know {name}")

    def _reference(self, name: str, attribute: str) -> Any:
        if name == "AWS::NoValue":
            return _NO_VALUE
        if name in self._parameters:
            return self._parameters[name]
        return self.references.get(name, {}).get(attribute, f"{name}.{attribute}")


class _Loader(yaml.SafeLoader):
    pass


def _construct_tag(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        content: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        content = loader.construct_sequence(node, deep=True)
    else:
        raise TypeError(f"!{tag} of a mapping")
    return {tag if tag == "Ref" else f"Fn::{tag}": content}


_Loader.add_multi_constructor("!", _construct_tag)
