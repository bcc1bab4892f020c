"""Requests on sockets: what is sent, and answers of servers that mean no good. See test_outgoing.py, too."""

import gzip
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from payments import outbound

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
MOST = 1_000


@contextmanager
def answering(*answers: bytes, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """A server that takes one connection, and gives each request on it the next answer; its address, and what came."""
    got: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with tls.wrap_socket(connection, server_side=True) if tls else connection as one:
            for answer in answers:
                request = b""
                while not request.endswith(b"\r\n\r\n"):
                    request += one.recv(1)
                got.append(request + one.recv(int(parsed(request).get("content-length", "0"))))
                one.sendall(answer)

    def served() -> None:
        with suppress(OSError):  # the other side has gone
            serve()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        thread = threading.Thread(target=served, daemon=True)
        thread.start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}", got


def parsed(request: bytes) -> dict[str, str]:
    """Its headers, by names in small letters."""
    headers = BytesParser(policy=HTTP).parsebytes(request.partition(b"\r\n")[2], headersonly=True)
    return {name.lower(): value for name, value in headers.items()}


def send(url: str, **more: object) -> outbound.Answer:
    return outbound.send(outbound.session(), "POST", url, 5, MOST, **{"body": b"{}", **more})  # type: ignore[arg-type]


def test_what_is_sent() -> None:
    """Our headers, those that say who asks and what is understood, and nothing else."""
    with answering(OK + b"\r\nhi") as (url, got):
        answer = send(
            f"{url}/path?q=a+b%20%C3%A9#part", headers={"Authorization": "Bearer key", "accept": "text/plain"}
        )
    assert (answer.status, answer.body) == (200, b"hi")
    [request] = got
    assert request.startswith(b"POST /path?q=a+b%20%C3%A9 HTTP/1.1\r\n")
    assert request.endswith(b"\r\n\r\n{}")
    headers = parsed(request)
    assert headers.pop("user-agent").startswith("python-urllib3/")
    assert headers == {
        "host": url.removeprefix("http://"), "content-length": "2", "accept": "text/plain",
        "accept-encoding": "gzip, deflate", "authorization": "Bearer key",
    }  # fmt: skip


def test_a_connection_is_kept_and_a_cookie_is_not() -> None:
    """The second request takes the first one's connection, and brings nothing that its answer left."""
    http = outbound.session()
    with answering(OK + b"Set-Cookie: session=1; Path=/\r\n\r\nhi", OK + b"\r\nho") as (url, got):
        said = [outbound.send(http, "GET", url, 5, MOST).body for _ in range(2)]
    assert said == [b"hi", b"ho"]
    assert [each for each in got if b"ookie" in each] == []


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may set a variable does not read along."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with answering(OK + b"\r\nhi") as (url, _):
        assert send(url).body == b"hi"


def test_attack_gzip_bomb() -> None:
    """Fifty megabytes in fifty thousand bytes: no more than the bound comes out."""
    bomb = gzip.compress(b"x" * 50_000_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    with answering(head + bomb) as (url, _):
        assert send(url).body == b"x" * MOST


@pytest.mark.parametrize(
    "value", ["a\r\nX-Other: b", "a\r\n X-Other: b", "a\n\tb", "a\nb", "a\rb", "a\0b", "€", "\ud800"]
)
def test_attack_header_that_is_none(value: str) -> None:
    """A value that would begin another header, or has no bytes, is not sent."""
    with answering(OK + b"\r\nhi") as (url, got), pytest.raises(outbound.NotHttp):
        send(url, headers={"Authorization": value})
    assert got == []


def test_attack_answer_before_the_answer() -> None:
    """What is told ahead of an answer (103) is none, and the answer that follows it is not the next request's."""
    early, late = b"HTTP/1.1 103 Early Hints\r\n\r\n", OK + b"\r\nhi"
    http = outbound.session()
    with answering(early + late) as (url, got):
        with pytest.raises(outbound.NoAnswer):
            outbound.send(http, "POST", url, 5, MOST, body=b"{}")
        with pytest.raises(outbound.NoAnswer):  # nobody listens to a second connection
            outbound.send(http, "POST", url, 1, MOST, body=b"{}")
    assert len(got) == 1


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX-Other: b", "/é", "/\ud800"])
def test_attack_path_that_is_none(path: str) -> None:
    """Whatever stands in a path is one line of ASCII when it is sent."""
    with answering(OK + b"\r\nhi") as (url, got):
        send(url + path)
    line = got[0].partition(b"\r\n")[0]
    assert line.isascii()
    assert len(line.split()) == 3
    assert "x-other" not in parsed(got[0])


@pytest.mark.parametrize(
    "url", ["https://", "https:///x", "https://[::1", "https://a:b/", "https://a:99999/", "https://a\r\nb/",
            "https://.a.invalid/", f"https://{'a' * 300}/", "https://127.0.0.1 /"],
)  # fmt: skip
def test_an_address_that_is_none(url: str) -> None:
    """There is no answer, and no other error."""
    with pytest.raises(outbound.NoAnswer):
        send(url)


@pytest.mark.parametrize("url", ["", "/", "//{}/", "{}/", "{}/?u=http://a/", "ftp://{}/", "gopher://{}/"])
def test_attack_address_without_a_scheme(url: str) -> None:
    """No key is sent in the clear because a scheme is missing, and nothing by another."""
    with answering(OK + b"\r\nhi") as (there, got), pytest.raises(outbound.NotHttp):
        send(url.format(there.removeprefix("http://")))
    assert got == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", outbound.NoAnswer),
        (b"hello\r\n\r\n", outbound.NoAnswer),
        (b"HTTP/1.1 abc\r\n\r\n", outbound.NoAnswer),
        (b"HTTP/9 200\r\n\r\n", outbound.NoAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nhi", outbound.NoAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhi", outbound.NoAnswer),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhi", outbound.NoAnswer),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhi", outbound.NotHttp),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", outbound.NoAnswer),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n", outbound.NoAnswer),
        (b"HTTP/1.1 200 OK\r\na: " + b"b" * 70_000 + b"\r\n\r\n", outbound.NoAnswer),
    ],
)
def test_an_answer_that_is_none(answer: bytes, error: type[Exception]) -> None:
    """What cannot be read is one of two errors, whatever it is."""
    with answering(answer) as (url, _), pytest.raises(error):
        send(url)


def test_attack_answer_that_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Headers that are none bring neither themselves nor the address, which may be secret, into a log."""
    with answering(b"HTTP/1.1 200 OK\r\ncanary\r\nContent-Length: 2\r\n\r\nhi") as (url, _):
        assert send(f"{url}/secret").status == 200
    assert caplog.text == ""


@pytest.mark.parametrize("where", [b"http://[::1", b"\xff\xfe", b"http://a:99999999/", b"http://127.0.0.1:9/"])
def test_a_redirect_is_an_answer(where: bytes) -> None:
    """Nobody looks where it leads."""
    with answering(b"HTTP/1.1 302 Found\r\nLocation: " + where + b"\r\nContent-Length: 0\r\n\r\n") as (url, _):
        assert send(url).status == 302


def test_attack_certificate_of_nobody(tmp_path: Path) -> None:
    """A server whose certificate no authority has signed is told nothing."""
    with answering(OK + b"\r\nhi", tls=_own_certificate(tmp_path)) as (url, got), pytest.raises(outbound.NoAnswer):
        send(url)
    assert got == []


def _own_certificate(folder: Path) -> ssl.SSLContext:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "both.pem").write_bytes(
        certificate.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context
