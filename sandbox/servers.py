"""HTTP servers of the sandbox: on 127.0.0.1 only, and deaf to every other name."""

import re
import socket
import threading
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

HOST = "127.0.0.1"
_LOCAL = re.compile(r"http://(127\.0\.0\.1|localhost):\d+")


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
        if type == "error":
            super().log(type, message, *args)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


class Server:
    """A WSGI application on a port of 127.0.0.1; port 0 takes a free one."""

    def __init__(self, port: int, private: str | None = "/") -> None:
        """Paths that begin with `private` are for pages of this machine only; None leaves it to the application."""
        self._private = private
        self._application: WSGIApplication | None = None
        # Bound here: werkzeug answers a port in use with sys.exit.
        with socket.create_server((HOST, port)) as bound:
            self._server: BaseWSGIServer = make_server(
                HOST, port, self._guarded, threaded=True, request_handler=_Quiet, fd=bound.fileno()
            )
        self.port: int = self._server.port
        self.url = f"http://{HOST}:{self.port}"

    def start(self, application: WSGIApplication) -> None:
        """Serves from now on. Apart from the constructor, so that applications can know each other's addresses."""
        self._application = application
        serve = {"poll_interval": 0.02}  # seconds until close() is heard
        threading.Thread(target=self._server.serve_forever, kwargs=serve, daemon=True).start()

    def close(self) -> None:
        if self._application:
            self._server.shutdown()
        self._server.server_close()

    def _guarded(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # A page of any site can have its name resolve to 127.0.0.1; its requests still carry that name.
        if environ.get("HTTP_HOST") not in (f"{HOST}:{self.port}", f"localhost:{self.port}"):
            start_response("421 Misdirected Request", [("Content-Type", "text/plain")])
            return [b"the sandbox answers to 127.0.0.1 and localhost only\n"]
        # A browser lets any page send simple requests here, but says which page it was.
        if self._private and environ["PATH_INFO"].startswith(self._private):
            origin = environ.get("HTTP_ORIGIN")
            if origin is not None and not _LOCAL.fullmatch(origin):
                start_response("403 Forbidden", [("Content-Type", "text/plain")])
                return [b"not for pages of other machines\n"]
        assert self._application is not None  # noqa: S101
        return self._application(environ, start_response)
