"""Marked values of all that is secret or somebody's, a search for them in every form that hides them from the eye, and
a witness of all that leaves the functions and `pf`.

A canary may be in some places and in no other; `rule` says which. See integration/test_canaries.py.
"""

import base64
import contextlib
import hashlib
import html
import io
import json
import logging
import traceback
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import botocore.client
import pytest

from payments import telemetry

API_KEY = "pk_test_Qcanary0apikey7731"
WEBHOOK_SECRET = "whsec_Qcanary1webhook7732"
SERVER_TOKEN = "pfs_test_" + "Qcanary2serverkey7733".ljust(43, "z")
CHALLENGE_SECRET = "Qcanary3challenge7734"
KEPT = {
    "api key": API_KEY,
    "webhook secret": WEBHOOK_SECRET,
    "server key": SERVER_TOKEN,
    "challenge secret": CHALLENGE_SECRET,
    "challenge token": "Qcanary4token7735",
    "idempotency key": "caca0a5b-7736-4d39-9f3b-0c8f0a5b7e21",
    "return address": "Qcanary5return7737",
    "address of the network": "203.0.113.238",
    "presigned address": "Qcanary6presigned7738",
    "product name": "Qcanary19name7751",
}
"""They go to whom they are for, and are kept nowhere."""
EMAIL = "qcanary7.mail+7739@buyer.example"
METADATA = "Qcanary8métadata7740"
PERSONAL = {
    "e-mail": EMAIL,
    "first name": "Qcanary9Zoë7741",
    "last name": "Qcanary10Ødegård7742",
    "street": "Qcanary11 Straße 7743",
    "postcode": "QC12 7744",
    "VAT number": "QCVAT137745",
    "body": "Qcanary14body7746",
    "metadata": METADATA,
}
"""They lie in the ledger, and where a body waits for it."""
PASSING = {
    "event name": "qcanary15.event7747",
    "path": "Qcanary16path7748",
    "echo": "Qcanary17echo7749",
    "discount code": "QCANARY187750",
}
"""Words of strangers: of a header, of a path, of Pocketsflow's errors and AWS's, of a buyer."""


def forms(value: str) -> Iterator[tuple[str, str]]:
    """How a value may stand in a text: a name for the form, and what to look for."""
    raw = value.encode()
    yield "itself", value
    yield "in other case", value.lower()
    yield "URL-encoded", urllib.parse.quote(value, safe="")
    yield "of a form", urllib.parse.quote_plus(value)
    yield "URL-encoded twice", urllib.parse.quote(urllib.parse.quote(value, safe=""), safe="")
    yield "JSON", json.dumps(value)[1:-1]
    yield "JSON in JSON", json.dumps(json.dumps(value)[1:-1])[1:-1]
    yield "repr of bytes", repr(raw)[2:-1]
    yield "HTML", html.escape(value)
    yield "hex", raw.hex()
    for skipped in range(3):  # wherever it begins within what was encoded
        encoded = base64.b64encode(b"\0" * skipped + raw).decode().rstrip("=")
        inside = encoded[(0, 2, 3)[skipped] : (skipped + len(raw)) * 8 // 6]
        yield "base64", inside
        yield "base64 for addresses", inside.replace("+", "-").replace("/", "_")
    for text in {value, value.lower()}:
        digest = hashlib.sha256(text.encode()).digest()
        yield "SHA-256", digest.hex()
        yield "SHA-256", base64.b64encode(digest).decode().rstrip("=")
        yield "MD5", hashlib.md5(text.encode()).hexdigest()


def hits(text: str, canaries: Mapping[str, str]) -> set[tuple[str, str]]:
    """Which of the canaries are in the text, each with its form."""
    lower = text.lower()
    return {
        (name, form)
        for name, value in canaries.items()
        for form, looked_for in forms(value)
        if looked_for in text or (form not in _EXACT and looked_for.lower() in lower)
    }


_EXACT = {"base64", "base64 for addresses"}
_PERSONAL_FIELDS = ("customer_email", "metadata", "untrusted_metadata")
"""Of an event: what its consumer needs of a buyer (docs/events.md)."""

BODIES = {**PERSONAL, "event name": PASSING["event name"]}


@dataclass
class Place:
    """Where text goes, and the canaries that belong there."""

    texts: list[str] = field(default_factory=list)
    allowed: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Command:
    """Of `pf`: its words, in which `{order}` and other names of what happened stand for what they were; the canaries
    that it shows because it was asked for them; its exit code; what is the matter meanwhile."""

    words: tuple[str, ...]
    shows: frozenset[str] = frozenset()
    code: int = 0
    answering: str | None = None
    when: str = ""


class Witness:
    """Notes what leaves the functions while they run, by the place it goes to."""

    def __init__(self) -> None:
        self.signatures: dict[str, str] = {}
        """Of what was delivered; canaries, too."""
        self.given: list[str] = []
        """What the functions were handed: that a canary can be found at all is seen here."""
        self.places: dict[str, Place] = {}
        self.authorizations: set[str] = set()
        self._inside = 0
        for name, allowed in {
            "log": set(),
            "standard output and error": set(),
            "exceptions": set(),
            "answers": set(),
            "names of events": set(),
            "events": {"event name"},
            "keys of the ledger": set(),
            "items of the ledger": set(BODIES),
            "requests to the ledger": set(BODIES),
            "messages of the queue": set(BODIES),
            "attributes of the queue": set(),
            "keys of the bucket": set(),
            "objects of the bucket": set(BODIES),
            "requests for secrets": set(),
            "addresses": set(),
            "requests to Pocketsflow": {"e-mail", "metadata", "discount code", "return address", "product name"},
            "requests to the verifier": {"challenge secret", "challenge token"},
        }.items():
            self.places[name] = Place(allowed=allowed)

    def note(self, place: str, text: object) -> None:
        self.places[place].texts.append(text if isinstance(text, str) else _text(text))

    @property
    def canaries(self) -> dict[str, str]:
        return {**KEPT, **PERSONAL, **PASSING, **self.signatures}

    def misplaced(self, place: str) -> list[str]:
        """Canaries that do not belong where they were found."""
        there = self.places[place]
        sought = {name: value for name, value in self.canaries.items() if name not in there.allowed}
        found = hits("\n".join(there.texts), sought)
        return sorted(f"{name}, {form}" for name, form in found if (place, name, form) not in _BELONGS)

    @property
    def logged(self) -> str:
        return "\n".join(self.places["log"].texts)

    # --- The functions ------------------------------------------------------------------------------------------------

    def watching(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """The handler, whose answers and failures are noted as Lambda passes them on."""

        def watched(event: Any, context: Any) -> Any:
            self.given.append(_text(event))
            self._inside += 1
            try:
                answer = handler(event, context)
            except Exception:
                self.note("exceptions", traceback.format_exc())
                raise
            finally:
                self._inside -= 1
            self.note("answers", answer)
            return answer

        return watched

    def called(self, operation: str, parameters: Mapping[str, Any]) -> None:
        """A request of a function to AWS."""
        if not self._inside:
            return
        match operation:
            case "SendMessage":
                self.note("messages of the queue", parameters["MessageBody"])
                self.note("attributes of the queue", _without(parameters, "MessageBody"))
            case "PutEvents":
                for entry in parameters["Entries"]:
                    self.note("names of events", _without(entry, "Detail"))
                    self.note("events", _without(json.loads(entry["Detail"]), *_PERSONAL_FIELDS))
            case "PutObject":
                self.note("objects of the bucket", parameters["Body"])
                self.note("keys of the bucket", _without(parameters, "Body"))
            case "GetSecretValue":
                self.note("requests for secrets", parameters)
            case _:
                self.note("requests to the ledger", parameters)
                self.note("keys of the ledger", _keys(parameters))

    def sent(self, request: Any, place: str) -> None:
        """A request of a function by HTTP. The header that the key is for is kept apart."""
        if "Authorization" in request.headers:
            self.authorizations.add(request.headers["Authorization"])
        self.note("addresses", request.url)
        headers = {name: value for name, value in request.headers.items() if name != "Authorization"}
        self.note(place, [headers, request.body])

    # --- pf -----------------------------------------------------------------------------------------------------------

    def ran(self, command: Command, run: Callable[..., Any], names: Mapping[str, str]) -> str:
        """Runs a command of `pf`; what it says, and the traceback it should not end with, is a place of its own."""
        words = tuple(word.format(**names) for word in command.words)
        result = run(*words, answering=command.answering)
        said = result.stdout + result.stderr
        if result.exception and not isinstance(result.exception, SystemExit):
            said += "".join(traceback.format_exception(result.exception))
        place = " ".join(("pf", *command.words, command.when)).rstrip()
        self.places[place] = Place([said], set(command.shows))
        assert result.exit_code == command.code, (place, said)
        return place


_BELONGS = {
    # 256 random bits hide behind a plain hash, which is what the ledger keeps (functions/payments/server_keys.py).
    ("items of the ledger", "server key", "SHA-256"),
    ("requests to the ledger", "server key", "SHA-256"),
    ("pf key list --json", "server key", "SHA-256"),
}


@contextlib.contextmanager
def witness() -> Iterator[Witness]:
    """In this block all is noted: log lines, what is printed, calls of AWS."""
    made, streams = Witness(), {name: io.StringIO() for name in ("log", "standard output and error")}
    call = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]

    def calling(self: Any, operation: str, parameters: Any) -> Any:
        made.called(operation, parameters)
        return call(self, operation, parameters)

    others = logging.StreamHandler(streams["log"])  # of libraries, as Lambda's own handler prints them
    others.setLevel(logging.WARNING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(telemetry.logger.registered_handler, "stream", streams["log"])
        patch.setattr(botocore.client.BaseClient, "_make_api_call", calling)
        logging.getLogger().addHandler(others)
        try:
            with (
                contextlib.redirect_stdout(streams["standard output and error"]),
                contextlib.redirect_stderr(streams["standard output and error"]),
            ):
                yield made
        finally:
            logging.getLogger().removeHandler(others)
            for name, stream in streams.items():
                made.note(name, stream.getvalue())


def _keys(parameters: Any) -> list[Any]:
    """Of the items that a request is about, wherever in it they are named."""
    if isinstance(parameters, list):
        return [key for each in parameters for key in _keys(each)]
    if not isinstance(parameters, dict):
        return []
    found = [value for name, value in parameters.items() if name in ("Key", "Keys", "pk")]
    return found + [key for value in parameters.values() for key in _keys(value)]


def _without(content: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in names}


def _text(content: Any) -> str:
    """Bytes as what they say, not as their numbers."""
    return _read(content) if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False, default=_read)


def _read(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return sorted(value) if isinstance(value, set) else str(value)
