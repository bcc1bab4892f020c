"""Faults of AWS on demand: a service that is down, slow or throttled, for the functions' own requests only.

The sandbox's pollers and views, and a person at the AWS port, come with other access keys and notice nothing.
"""

import json
import math
import re
import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from sandbox.worker import ACCESS_KEY

KINDS = ("down", "slow", "throttled")
MAX_SECONDS = 3_600
THROTTLED = {
    "dynamodb": "ProvisionedThroughputExceededException",
    "events": "ThrottlingException",
    "secretsmanager": "ThrottlingException",
    "sqs": "RequestThrottled",
}
"""The services that can fail, and what each says when it has too much to do."""
SLOW_SECONDS = 15
"""Longer than any client of the functions waits for an answer: payments/aws.py, times the sandbox's patience."""
POCKETSFLOW: dict[str, dict[str, Any]] = {
    "down": {"http_status": 503},
    "slow": {"http_delay_seconds": 20},
    "throttled": {"http_status": 429},
}
"""The same kinds in the words of the fake Pocketsflow's own faults; slower than payments/pocketsflow.py waits."""

_OPTION = re.compile(r"(\w+)=(\w+):([0-9]{1,9})")
_CREDENTIAL = re.compile(r"Credential=([^/]+)/[^/]+/[^/]+/([^/]+)/aws4_request")


class WrongFault(Exception):
    """Not a fault that there is; the message says why. For whoever asked for it: 400."""


class Faults:
    """What fails at the moment. Each fault ends by itself."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends: dict[str, tuple[str, float]] = {}

    def replace(self, wanted: Any) -> None:
        """{"dynamodb": {"kind": "down", "seconds": 30}, …} instead of what was; {} ends all. Raises WrongFault."""
        if not isinstance(wanted, dict):
            raise WrongFault('must be an object like {"dynamodb": {"kind": "down", "seconds": 30}}')
        for service, fault in wanted.items():
            check(service, fault, THROTTLED)
        now = self._clock()
        self._ends = {service: (fault["kind"], now + fault["seconds"]) for service, fault in wanted.items()}

    def shown(self) -> dict[str, dict[str, Any]]:
        """What is on, as `replace` takes it; `seconds` is what is left."""
        now = self._clock()
        return {
            service: {"kind": kind, "seconds": math.ceil(end - now)}
            for service, (kind, end) in self._ends.items()
            if end > now
        }

    def of(self, service: str) -> str | None:
        """The kind of fault a service has."""
        kind, end = self._ends.get(service, (None, 0))
        return kind if end > self._clock() else None


def check(service: str, fault: Any, services: Iterable[str]) -> None:
    """Raises WrongFault unless `fault` is {"kind", "seconds"} and `service` one of `services`."""
    if service not in services:
        raise WrongFault(f"{service} is none of {', '.join(sorted(services))}")
    if not isinstance(fault, dict) or fault.keys() != {"kind", "seconds"}:
        raise WrongFault(f'{service} must have "kind" and "seconds"')
    if fault["kind"] not in KINDS:
        raise WrongFault(f"kind of {service} must be one of {', '.join(KINDS)}")
    seconds = fault["seconds"]
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 1 <= seconds <= MAX_SECONDS:
        raise WrongFault(f"seconds of {service} must be a whole number from 1 to {MAX_SECONDS}")


def from_option(text: str) -> tuple[str, dict[str, Any]]:
    """Service and fault of `dynamodb=down:60`; Pocketsflow is a service too. Raises WrongFault."""
    match = _OPTION.fullmatch(text)
    if match is None:
        raise WrongFault(f"{text} must be like dynamodb=down:60")
    service, kind, seconds = match.groups()
    fault = {"kind": kind, "seconds": int(seconds)}
    check(service, fault, {*THROTTLED, "pocketsflow"})
    return service, fault


def failing(application: WSGIApplication, faults: Faults) -> WSGIApplication:
    """AWS, with its faults."""

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        service = _service_asked_by_a_function(environ)
        match faults.of(service):
            case "down":
                start_response("503 Service Unavailable", [("Content-Length", "0")])
                return []
            case "throttled":
                start_response("400 Bad Request", [("Content-Type", "application/x-amz-json-1.1")])
                return [json.dumps({"__type": THROTTLED[service], "message": "Rate exceeded"}).encode()]
            case "slow":  # what was asked for happens, and nobody hears of it
                answer = application(environ, start_response)
                time.sleep(SLOW_SECONDS)
                return answer
        return application(environ, start_response)

    return serve


def _service_asked_by_a_function(environ: WSGIEnvironment) -> str:
    """The service a request is signed for; "" for one that no function has sent."""
    match = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
    return match[2] if match and match[1] == ACCESS_KEY else ""
