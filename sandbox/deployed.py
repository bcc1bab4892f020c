"""What AWS knows of a stack that is deployed, and moto does not: its parameters and outputs, and functions that run.

CloudFormation's DescribeStacks (moto's own needs packages that nothing else here needs) and Lambda's Invoke (moto's
needs containers); every other request goes to moto.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from xml.sax.saxutils import escape

from sandbox.template import PSEUDO_PARAMETERS

NAME = PSEUDO_PARAMETERS["AWS::StackName"]
_INVOKE = re.compile(r"/2015-03-31/functions/([^/]+)/invocations")
_SCOPE = re.compile(r"Credential=[^,]*/cloudformation/aws4_request")


@dataclass
class Deployed:
    """The stack `sandbox`: it has outputs once it is there."""

    parameters: Mapping[str, str]
    outputs: Mapping[str, str] = field(default_factory=dict)
    invoke: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    """Functions by name: event to answer."""

    def beside(self, application: WSGIApplication) -> WSGIApplication:
        """AWS, which knows the stack as well."""

        def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            if match := _INVOKE.fullmatch(environ["PATH_INFO"]):
                return self._invoke(unquote(match[1]), environ, start_response)
            if _SCOPE.search(environ.get("HTTP_AUTHORIZATION", "")):
                return self._describe(environ, start_response)
            return application(environ, start_response)

        return serve

    def _invoke(self, name: str, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """docs.aws.amazon.com/lambda/latest/api/API_Invoke.html, RequestResponse."""
        if name not in self.invoke:
            start_response("404 Not Found", [_JSON, ("X-Amzn-ErrorType", "ResourceNotFoundException")])
            return [b'{"Type": "User", "Message": "Function not found"}']
        answer = self.invoke[name](json.loads(_body(environ) or b"{}"))
        has_failed = isinstance(answer, dict) and "errorMessage" in answer
        start_response("200 OK", [_JSON, *([("X-Amz-Function-Error", "Unhandled")] if has_failed else [])])
        return [json.dumps(answer).encode()]

    def _describe(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStacks.html."""
        asked = parse_qs(_body(environ).decode(errors="replace"))
        action, name = asked.get("Action", [""])[0], asked.get("StackName", [NAME])[0]
        if action != "DescribeStacks":
            return _refuse(start_response, "InvalidAction", "the sandbox's CloudFormation describes its stack, no more")
        if name != NAME:
            return _refuse(start_response, "ValidationError", f"Stack with id {name} does not exist")
        start_response("200 OK", [_XML])
        return [
            "<DescribeStacksResponse><DescribeStacksResult><Stacks><member>"
            f"<StackName>{NAME}</StackName><StackId>{PSEUDO_PARAMETERS['AWS::StackId']}</StackId>"
            "<CreationTime>2026-01-01T00:00:00Z</CreationTime><StackStatus>CREATE_COMPLETE</StackStatus>"
            f"<Parameters>{_members('Parameter', self.parameters)}</Parameters>"
            f"<Outputs>{_members('Output', self.outputs)}</Outputs>"
            "</member></Stacks></DescribeStacksResult></DescribeStacksResponse>".encode()
        ]


_JSON = ("Content-Type", "application/json")
_XML = ("Content-Type", "text/xml")


def _members(kind: str, values: Mapping[str, str]) -> str:
    return "".join(
        f"<member><{kind}Key>{escape(name)}</{kind}Key><{kind}Value>{escape(value)}</{kind}Value></member>"
        for name, value in values.items()
    )


def _refuse(start_response: StartResponse, code: str, message: str) -> Iterable[bytes]:
    start_response("400 Bad Request", [_XML])
    error = f"<Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message>"
    return [f"<ErrorResponse><Error>{error}</Error></ErrorResponse>".encode()]


def _body(environ: WSGIEnvironment) -> bytes:
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return body
