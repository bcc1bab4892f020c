"""Lambda's Invoke, which moto needs containers for: the functions of a world, in this process."""

import contextlib
import io
import json
from collections.abc import Callable
from typing import Any

import botocore.client
import pytest

import reconcile
import relay
from tests.world import Context, World


class Lambdas:
    """`answers` are functions by name; `invoked` is what each was invoked with."""

    def __init__(self, shop: World, patch: pytest.MonkeyPatch) -> None:
        self.invoked: list[tuple[str, Any]] = []
        self.answers: dict[str, Callable[[Any], Any]] = {
            "RelayFunction": lambda event: relay.handler(event, Context(shop.clock, 30)),
            "ReconcileFunction": lambda event: reconcile.handler(event, Context(shop.clock, 240)),
        }
        call = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]

        def calling(client: Any, name: str, arguments: Any) -> Any:
            return self._invoke(**arguments) if name == "Invoke" else call(client, name, arguments)

        patch.setattr(botocore.client.BaseClient, "_make_api_call", calling)

    def _invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        event = json.loads(Payload)
        self.invoked.append((FunctionName, event))
        error = {}
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                content = self.answers[FunctionName](event)
        except (KeyError, ValueError) as problem:
            error = {"FunctionError": "Unhandled"}
            content = {"errorMessage": str(problem), "errorType": type(problem).__name__}
        return {**error, "Payload": io.BytesIO(json.dumps(content).encode())}
