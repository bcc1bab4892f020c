"""Addresses that the merchant names: an attacker who may choose one reaches the internet and nothing else."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from connectors import outgoing
from connectors.outgoing import Undelivered

PUBLIC = "93.184.215.14"


def found(*addresses: str) -> Any:
    """What the resolver says."""
    return lambda _host, port, **_: [
        (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
        for each in addresses
    ]


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where a connection was tried; none comes about."""
    tried: list[str] = []

    def connect(address: tuple[str, int], *_: Any, **__: Any) -> socket.socket:
        tried.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(outgoing, "create_connection", connect)
    return tried


def reason(url: str = "https://merchant.example/hook") -> str:
    with pytest.raises(Undelivered) as raised:
        outgoing.send("POST", url, body=b"{}")
    return raised.value.reason


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.5.4",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "169.254.170.2",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:93.184.215.14",
        "::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::",
        "2001::1",
        "2001:db8::1",
        "100::1",
    ],
)
def test_attack_name_leads_into_the_network(
    address: str, connections: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loopback, link-local (where AWS hands out credentials), private, reserved and multicast addresses, and their
    disguises in IPv6, are not connected to."""
    monkeypatch.setattr(socket, "getaddrinfo", found(address))
    assert reason() == "forbidden_address"
    assert connections == []


@pytest.mark.parametrize("order", [(PUBLIC, "127.0.0.1"), ("127.0.0.1", PUBLIC), (PUBLIC, "::1")])
def test_attack_one_of_several_addresses(
    order: tuple[str, ...], connections: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One address that is not public is enough to refuse all of a name."""
    monkeypatch.setattr(socket, "getaddrinfo", found(*order))
    assert reason() == "forbidden_address"
    assert connections == []


def test_attack_rebinding(connections: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public when it is looked at and local right after: it is looked up once, and the connection goes
    to the very address that was looked at."""
    answers = iter([found(PUBLIC), found("169.254.169.254")])
    asked: list[str] = []

    def changing(host: str, port: int, **more: Any) -> Any:
        asked.append(host)
        return next(answers)(host, port, **more)

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    assert reason() == "no_answer"
    assert connections == [PUBLIC]
    assert asked == ["merchant.example"]


def test_the_next_address_is_tried(connections: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one of a name's addresses does not answer, the others are."""
    monkeypatch.setattr(socket, "getaddrinfo", found(PUBLIC, "2606:2800:21f:cb07::1"))
    assert reason() == "no_answer"
    assert connections == [PUBLIC, "2606:2800:21f:cb07::1"]


@pytest.mark.parametrize(
    "url",
    [
        "http://merchant.example/",
        "https://merchant.example:8443/",
        "https://merchant.example:80/",
        "https://user@merchant.example/",
        "https://user:password@merchant.example/",
        "https://merchant.example@169.254.169.254/",
        "https://merchant.example\\@169.254.169.254/",
        "https://merchant.example\t/",
        " https://merchant.example/",
        "https:///etc/passwd",
        "https://",
        "file:///etc/passwd",
        "ftp://merchant.example/",
        "gopher://merchant.example/",
        "//merchant.example/",
        "merchant.example",
        "",
        "http://localhost/",
        "http://127.0.0.1/",
        "https://merchant.example/" + "a" * 3_000,
    ],
)
def test_attack_address_is_no_https_address(url: str, connections: list[str]) -> None:
    """https, its own port, a host and a path: everything else is refused before any name is looked up."""
    assert not outgoing.is_address(url)
    assert reason(url) == "forbidden_address"
    assert connections == []


@pytest.mark.parametrize("address", ["https://127.0.0.1/", "https://2130706433/", "https://0x7f.1/", "https://[::1]/"])
def test_attack_numbers_as_host(address: str, connections: list[str]) -> None:
    """An address in digits, however written, is looked at like any other; the real resolver reads it."""
    assert reason(address) in ("forbidden_address", "no_answer")
    assert connections == []


def test_unknown_name(connections: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is not there, or is none at all, gets no answer."""

    def nowhere(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    assert reason() == "no_answer"
    assert connections == []


# --- A real server, on this machine: what is_public forbids is allowed to the tests alone -----------------------------


@contextmanager
def answering(monkeypatch: pytest.MonkeyPatch, *parts: bytes, pause: float = 0) -> Iterator[list[bytes]]:
    """A plain server in the place of one with TLS; the requests that it got."""
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    got.append(connection.recv(65_536))
                    try:
                        for part in parts:
                            connection.sendall(part)
                            time.sleep(pause)
                    except OSError:
                        continue

        threading.Thread(target=serve, daemon=True).start()
        port = listener.getsockname()[1]
        plain = outgoing.outbound.session()
        monkeypatch.setattr(outgoing, "_http", plain)
        monkeypatch.setattr(outgoing, "is_address", lambda _: True)
        monkeypatch.setattr(outgoing, "URL", f"http://127.0.0.1:{port}/", raising=False)
        yield got
        listener.shutdown(socket.SHUT_RDWR)


def test_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect is an answer like any other, and a failure."""
    head = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/\r\nContent-Length: 0\r\n\r\n"
    with answering(monkeypatch, head) as got:
        answer = outgoing.send("POST", outgoing.URL, body=b"{}")  # type: ignore[attr-defined]
    assert answer.status == 302
    assert len(got) == 1
    with pytest.raises(Undelivered, match="refused"):
        outgoing.must_succeed(answer)


def test_attack_http_past_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are made by https alone, even to an address that nobody has looked at."""
    with answering(monkeypatch, b"HTTP/1.1 200 OK\r\n\r\n") as got:
        monkeypatch.setattr(outgoing, "_http", outgoing._session())
        assert reason(outgoing.URL) == "no_answer"  # type: ignore[attr-defined]
    assert got == []


def test_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 kB are read, and no more, however much is sent."""
    with answering(monkeypatch, b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1_000_000):
        answer = outgoing.send("POST", outgoing.URL, body=b"{}")  # type: ignore[attr-defined]
    assert len(answer.body) == outgoing.MOST


def test_answer_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps no function waiting: the time is for all of the answer."""
    with answering(monkeypatch, b"HTTP/1.1 200 OK\r\n", *[b"a: b\r\n"] * 20, pause=0.05):
        begun = time.monotonic()
        with pytest.raises(Undelivered, match="no_answer"):
            outgoing.send("POST", outgoing.URL, seconds=0.2)  # type: ignore[attr-defined]
        assert time.monotonic() - begun < 0.9


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": " 7 "}, 7),
        ({"Retry-After": "Sat, 28 Nov 2026 10:00:30 GMT", "Date": "Sat, 28 Nov 2026 10:00:00 GMT"}, 30),
        ({"Retry-After": "Sat, 28 Nov 2026 09:00:00 GMT", "Date": "Sat, 28 Nov 2026 10:00:00 GMT"}, 0),
        ({"Retry-After": "Sat, 28 Nov 2026 10:00:30 GMT"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "1e9"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "9" * 400}, None),
        ({"Retry-After": f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT", "Date": "Sat, 28 Nov 2026 10:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: int | None) -> None:
    """Seconds or a date, by the clock of who says it; anything else says nothing."""
    with pytest.raises(Undelivered) as raised:
        outgoing.must_succeed(outgoing.Answer(429, headers, b""))
    assert (raised.value.reason, raised.value.retry_after) == ("busy", seconds)


@pytest.mark.parametrize(
    ("status", "told"),
    [(199, "refused"), (204, None), (300, "refused"), (400, "refused"), (401, "unauthorized"), (403, "unauthorized"),
     (404, "not_found"), (408, "no_answer"), (410, "gone"), (425, "busy"), (500, "failed"), (503, "failed"),
     (599, "failed")],
)  # fmt: skip
def test_statuses(status: int, told: str | None) -> None:
    """A 2xx has taken it; every other answer is one reason, without a word of the other side."""
    answer = outgoing.Answer(status, {}, b"secret")
    if told is None:
        assert outgoing.must_succeed(answer) is answer
        return
    with pytest.raises(Undelivered) as raised:
        outgoing.must_succeed(answer)
    assert raised.value.args == (told,)
