"""What the sandbox shows and does for people and tests, below `/_sandbox/` of the API's address."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import simplejson
from werkzeug.wrappers import Request, Response

from sandbox import mailbox
from sandbox.aws import mails
from sandbox.bus import Published
from sandbox.challenge import Verifier
from sandbox.faults import Faults, WrongFault
from sandbox.orders_view import NotJudged, OrdersView
from sandbox.pages import Pages
from sandbox.worker import Worker


@dataclass
class Control:
    workers: Mapping[str, Worker]
    read_order: Callable[[str], dict[str, Any] | None]
    """A record of the ledger by its order's id."""
    published: Published
    faults: Faults
    view: OrdersView
    pages: Pages
    verifier: Verifier
    """Of challenges."""

    def __call__(self, request: Request) -> Response:
        _, _, kind, name, *_ = [*request.path.split("/", 3), ""]
        if request.method == "GET" and (page := self.pages.page(request.path.removeprefix("/_sandbox/"))):
            return page
        match request.method, kind, name:
            case "GET", "orders", "":
                return self._unless_known(request, lambda _: self.view.listed())
            case "GET", "ways", "":
                return self._unless_known(request, lambda _: self.view.without_order())
            case "GET", "ways", _:
                return self._unless_known(request, self.view.way, name)
            case "GET", "orders", _ if (order := self.read_order(name)) is not None:
                return _json(200, order)
            case "GET", "logs", _ if name in self.workers:
                return _json(200, list(self.workers[name].logs))
            case "GET", "bus", "":
                return _json(200, self.published.shown(request.args.get("order")))
            case "GET", "mails", "":
                return mailbox.page(mails())
            case "GET", "faults", "":
                return _json(200, self.faults.shown())
            case "POST", "faults", "":
                return self._replace_faults(request)
            case "POST", "siteverify", "":
                return self.verifier(request)
            case "POST", "invoke", _ if name in self.workers:
                return self._invoke(request, self.workers[name])
        return _message(404, "Not Found")

    def _unless_known(self, request: Request, read: Callable[[str], dict[str, Any] | None], name: str = "") -> Response:
        """304 for who asks again and has seen all that there is."""
        try:
            version = self.view.version()
        except NotJudged as failure:
            return _message(503, str(failure))
        if request.headers.get("If-None-Match") == version:
            response = Response(status=304)
        elif (content := read(name)) is not None:
            response = Response(simplejson.dumps(content, use_decimal=True), content_type="application/json")
        else:
            return _message(404, "Not Found")
        response.headers.update({"ETag": version, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"})
        return response

    def _invoke(self, request: Request, worker: Worker) -> Response:
        try:
            event = json.loads(request.get_data())
        except (ValueError, RecursionError):
            return _message(400, "The event must be JSON")
        return _json(200, worker.invoke(event))

    def _replace_faults(self, request: Request) -> Response:
        try:
            self.faults.replace(json.loads(request.get_data()))
        except WrongFault as wrong:
            return _message(400, str(wrong))
        except (ValueError, RecursionError):
            return _message(400, "The faults must be JSON")
        return _json(200, self.faults.shown())


def _message(status: int, text: str) -> Response:
    return _json(status, {"message": text})


def _json(status: int, content: Any) -> Response:
    return Response(json.dumps(content), status=status, content_type="application/json")
