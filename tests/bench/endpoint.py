"""A server that keeps connections, as AWS's endpoints do: werkzeug's ends each with its answer, and a function would
connect anew for every request."""

import contextlib
import io
import threading
from collections.abc import Iterator
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication

from sandbox.servers import HOST


@contextlib.contextmanager
def serving(application: WSGIApplication) -> Iterator[str]:
    """The address of an application on a free port of this machine, until the block ends."""
    with _Server((HOST, 0), _Connection) as server:
        server.set_app(application)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://{HOST}:{server.server_port}"
        server.shutdown()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False  # a client may keep its connection for longer
    request_queue_size = 1024


class _Connection(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one packet
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """One request after the other."""
        self.close_connection = False
        while not self.close_connection:
            self.handle_one_request()

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environ = {
            **self.get_environ(),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": self.get_stderr(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        head: list[str] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: object) -> None:
            head[:] = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]

        content = b"".join(self.server.get_app()(environ, start_response))  # type: ignore[attr-defined]
        if not any(line.lower().startswith("content-length:") for line in head):
            head.append(f"Content-Length: {len(content)}")
        self.wfile.write("\r\n".join([*head, "", ""]).encode() + content)

    do_DELETE = do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass
