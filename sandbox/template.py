"""Reads template.yaml as CloudFormation and SAM would, for the few resource types that the sandbox creates."""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
PSEUDO_PARAMETERS = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::StackId": "arn:aws:cloudformation:eu-west-1:123456789012:stack/sandbox/00000000-0000-4000-8000-000000000000",
    "AWS::StackName": "sandbox",
    "AWS::URLSuffix": "amazonaws.com",
}
_NO_VALUE = object()
_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_SECONDS = {"minute": 60, "hour": 3_600, "day": 86_400}


@dataclass(frozen=True)
class Stream:
    """A `DynamoDB` event: the changes of a table, in order."""

    name: str
    """Of the event in the template, as in `Changes`."""
    arn: str
    filters: tuple[str, ...]
    """Patterns in JSON; one that matches lets a record through, none at all lets every record through."""
    latest: bool
    """From now on, instead of from the beginning."""
    batch_size: int
    bisects: bool
    max_retries: int | None
    """None is for ever, here and in `max_age` (seconds)."""
    max_age: int | None
    reports_failures: bool
    """Whether the answer names the records that failed."""
    failure_bucket: str | None


@dataclass(frozen=True)
class Queue:
    """An `SQS` event: the messages of a queue."""

    arn: str
    batch_size: int
    reports_failures: bool


@dataclass(frozen=True)
class Schedule:
    """A `ScheduleV2` event: `input` is the whole event of the function."""

    seconds: int
    """From one to the next."""
    input: Any


@dataclass(frozen=True)
class Rule:
    """An `EventBridgeRule` event: what is put on a bus and fits the pattern."""

    name: str
    bus: str
    pattern: str
    """JSON."""


@dataclass(frozen=True)
class Function:
    logical_id: str
    handler: str
    environment: dict[str, str]
    timeout: int
    """Seconds."""
    routes: list[tuple[str, str]]
    """Method and path, as in `POST`, `/orders/{orderId}`."""
    streams: tuple[Stream, ...] = ()
    queues: tuple[Queue, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    rules: tuple[Rule, ...] = ()
    retries: int = 2
    """How often an asynchronous invocation that failed is tried again: a schedule's, a rule's."""


def parse(text: str) -> dict[str, Any]:
    """YAML or JSON with every intrinsic function by its long name, as CloudFormation reads either."""
    content: dict[str, Any] = yaml.load(text, _Loader)  # noqa: S506  # a SafeLoader with CloudFormation's tags
    return content


@functools.cache
def _read(text: str) -> dict[str, Any]:
    """For templates, which change nothing of it: YAML takes half a second."""
    return parse(text)


class Template:
    """A template with its parameters filled in.

    `references` answers `Ref` and `GetAtt` of resources once they are there: {"Ledger": {"Ref": name, "Arn": arn}}.
    `stack` begins the names of what is made of it, `prefix` the logical ids of its functions, as others know them.
    """

    def __init__(
        self,
        text: str,
        parameters: Mapping[str, str],
        stack: str = PSEUDO_PARAMETERS["AWS::StackName"],
        prefix: str = "",
    ) -> None:
        self._content = _read(text)
        self.stack, self.prefix = stack, prefix
        self.references: dict[str, dict[str, str]] = {}
        self.stacks: dict[str, Template] = {}
        """Nested ones by logical id, once they were asked for."""
        self.give(parameters)

    def give(self, parameters: Mapping[str, str]) -> None:
        """Raises ValueError for one that is not declared, and for one that is missing."""
        self._parameters: dict[str, Any] = {**PSEUDO_PARAMETERS}
        if unknown := parameters.keys() - self._content["Parameters"].keys():
            raise ValueError(f"the template has no parameter {', '.join(sorted(unknown))}")
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
                yield logical_id, self._resolve(resource.get("Properties", {}))

    def nested(self) -> Iterator[tuple[str, "Template"]]:
        """Nested stacks by logical id: their templates, with the parameters that this one gives them now."""
        for logical_id, stack in self.resources("AWS::CloudFormation::Stack"):
            given = {name: str(value) for name, value in stack["Parameters"].items()}
            if logical_id in self.stacks:
                self.stacks[logical_id].give(given)
            else:
                text = (ROOT / stack["TemplateURL"]).read_text()
                self.stacks[logical_id] = Template(text, given, f"{self.stack}-{logical_id}", logical_id)
            yield logical_id, self.stacks[logical_id]

    def functions(self) -> list[Function]:
        """Those of nested stacks behind its own."""
        own = [_function(f"{self.prefix}{name}", it) for name, it in self.resources("AWS::Serverless::Function")]
        return own + [function for _, nested in self.nested() for function in nested.functions()]

    def parameters(self) -> dict[str, str]:
        """As CloudFormation tells them: lists joined by commas."""
        given = {name: self._parameters[name] for name in self._content["Parameters"]}
        return {name: ",".join(value) if isinstance(value, list) else str(value) for name, value in given.items()}

    def outputs(self) -> dict[str, str]:
        """Those whose condition holds."""
        return {
            name: str(self._resolve(output["Value"]))
            for name, output in self._content["Outputs"].items()
            if self._holds(output.get("Condition"))
        }

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
                return self._reference(*argument)
            case "Fn::Sub":
                return re.sub(r"\$\{([^}]+)\}", lambda match: str(self._substitute(match[1])), argument)
            case "Fn::If":
                condition, yes, no = argument
                return self._resolve(yes if self._holds(condition) else no)
            case "Fn::Equals":
                left, right = map(self._resolve, argument)
                return str(left) == str(right)
            case "Fn::Not":
                return not self._resolve(argument[0])
            case "Fn::And":
                return all(map(self._resolve, argument))
            case "Fn::Or":
                return any(map(self._resolve, argument))
            case "Fn::FindInMap":
                mapping, first, second = map(self._resolve, argument)
                return self._content["Mappings"][mapping][first][second]
            case "Fn::Join":
                separator, items = argument
                return separator.join(self._resolve(items))
            case "Fn::Select":
                index, items = argument
                return self._resolve(items)[int(index)]
            case "Fn::Split":
                separator, text = argument
                return self._resolve(text).split(separator)
        raise NotImplementedError(f"the sandbox does not know {name}")

    def _substitute(self, name: str) -> Any:
        """What stands in `${…}`: a name, or the attribute of a resource."""
        resource, dot, attribute = name.partition(".")
        return self._reference(resource, attribute if dot else "Ref")

    def _reference(self, name: str, attribute: str) -> Any:
        if name == "AWS::NoValue":
            return _NO_VALUE
        if name in self._parameters:
            return self._parameters[name]
        return self.references.get(name, {}).get(attribute, f"{name}.{attribute}")


def _function(logical_id: str, properties: dict[str, Any]) -> Function:
    found: dict[str, list[Any]] = {kind: [] for kind in ("HttpApi", "DynamoDB", "SQS", "ScheduleV2", "EventBridgeRule")}
    for name, event in properties.get("Events", {}).items():
        if event["Type"] not in found:
            raise NotImplementedError(f"the sandbox does not know events of type {event['Type']}")
        found[event["Type"]].append((name, event["Properties"]))
    return Function(
        logical_id=logical_id,
        handler=properties["Handler"],
        environment={name: str(value) for name, value in properties["Environment"]["Variables"].items()},
        timeout=properties["Timeout"],
        routes=[(event["Method"], event["Path"]) for _, event in found["HttpApi"]],
        streams=tuple(_stream(name, event) for name, event in found["DynamoDB"]),
        queues=tuple(
            Queue(event["Queue"], event.get("BatchSize", 10), _reports_failures(event)) for _, event in found["SQS"]
        ),
        schedules=tuple(
            Schedule(_rate(event["ScheduleExpression"]), json.loads(event["Input"])) for _, event in found["ScheduleV2"]
        ),
        rules=tuple(
            Rule(name, event["EventBusName"], json.dumps(event["Pattern"])) for name, event in found["EventBridgeRule"]
        ),
        retries=properties.get("EventInvokeConfig", {}).get("MaximumRetryAttempts", 2),
    )


def _stream(name: str, event: dict[str, Any]) -> Stream:
    """Defaults as in docs.aws.amazon.com/lambda/latest/dg/services-ddb-params.html."""
    destination = event.get("DestinationConfig", {}).get("OnFailure")
    if destination is not None and destination["Type"] != "S3":
        raise NotImplementedError(f"the sandbox does not know failure destinations of type {destination['Type']}")
    return Stream(
        name=name,
        arn=event["Stream"],
        filters=tuple(each["Pattern"] for each in event.get("FilterCriteria", {}).get("Filters", [])),
        latest=event["StartingPosition"] == "LATEST",
        batch_size=event.get("BatchSize", 100),
        bisects=event.get("BisectBatchOnFunctionError", False),
        max_retries=_unless_infinite(event.get("MaximumRetryAttempts", -1)),
        max_age=_unless_infinite(event.get("MaximumRecordAgeInSeconds", -1)),
        reports_failures=_reports_failures(event),
        failure_bucket=destination and destination["Destination"].rpartition(":")[2],
    )


def _unless_infinite(number: int) -> int | None:
    return None if number == -1 else number


def _reports_failures(event: dict[str, Any]) -> bool:
    return "ReportBatchItemFailures" in event.get("FunctionResponseTypes", [])


def _rate(expression: str) -> int:
    match = _RATE.fullmatch(expression)
    if match is None:
        raise NotImplementedError(f"the sandbox does not know the schedule {expression}")
    return int(match[1]) * _SECONDS[match[2]]


class _Loader(yaml.SafeLoader):
    pass


def _construct_tag(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        text = loader.construct_scalar(node)
        content: Any = text.split(".", 1) if tag == "GetAtt" else text
    elif isinstance(node, yaml.SequenceNode):
        content = loader.construct_sequence(node, deep=True)
    else:
        raise TypeError(f"!{tag} of a mapping")
    return {tag if tag == "Ref" else f"Fn::{tag}": content}


_Loader.add_multi_constructor("!", _construct_tag)
