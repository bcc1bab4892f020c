"""The webhook's endpoint at Pocketsflow and its secret here: which belongs to which, and how a new one begins.

Pocketsflow shows a secret once and sends an event once. So an endpoint is made inactive, its secret's SHA-256 is noted
and the secret stored, the functions are seen to take it, and only then does Pocketsflow send there. Whatever breaks off
leaves an endpoint to which nothing is sent; the next run goes on with it, or ends it.

rotate#state, an item of the ledger:
    endpoint#<id>   {sha256: of the words of the secret that may be its own, noted_at, refused: its own is none of them}
    rotation        {old: ids, begun_at, grace: minutes, and from some step on new: id, active_at}
"""

import hashlib
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ops import audit, items, selftest
from ops.cli import Failed, TryAgain, printable, progress, tell
from ops.provider import Provider
from ops.stack import Stack
from payments.event_names import EVENTS

STATE = "rotate#state"
LAST = "webhook#last"
"""The item that notes the last webhook whose signature was right."""
KNOWN_AFTER = timedelta(seconds=90)
"""From the note of a secret on, which is stored just behind it: by then every function that runs has looked again
(functions/payments/secrets.py, REFRESH)."""
PROOF_SECONDS = 30
"""For Pocketsflow's sample to come through the webhook, the ledger's stream and the relay."""
_PREFIX = "endpoint#"
_MADE_HERE = "pf: stage "
_MIN_LENGTH = 20
"""As functions/payments/secrets.py has it."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Endpoint:
    id: str
    active: bool
    events: frozenset[str]
    created_at: str
    description: str

    @property
    def missing(self) -> list[str]:
        """Events that are handled here and not sent there."""
        return [event for event in EVENTS if event not in self.events]


@dataclass(frozen=True)
class View:
    """What there is at one moment: endpoints that lead here, the stored words, and what `pf` noted of both."""

    endpoints: tuple[Endpoint, ...]
    """Newest first."""
    words: tuple[str, ...]
    notes: dict[str, Row]
    """By endpoint, also of those that are gone."""
    rotation: Row | None

    def words_of(self, endpoint_id: str) -> list[str]:
        """The stored words that may be an endpoint's secret; none where that is not known, or the secret is lost."""
        note = self.notes.get(endpoint_id)
        if note is None or note["refused"]:
            return []
        found = [word for word in self.words if sha256(word) in note["sha256"]]
        return found if len(found) == len(note["sha256"]) else []

    def is_leftover(self, endpoint: Endpoint) -> bool:
        """Made by a run of `pf` that ended before it could note it: nothing has been sent there."""
        return not endpoint.active and endpoint.id not in self.notes and endpoint.description.startswith(_MADE_HERE)

    def of(self, identity: str) -> Endpoint:
        """Raises TryAgain: the list may lag behind."""
        for endpoint in self.endpoints:
            if endpoint.id == identity:
                return endpoint
        raise TryAgain("Pocketsflow's list does not have the new endpoint; run the same command again")

    @property
    def unclaimed(self) -> list[str]:
        """Stored words that no note speaks of: put there by hand."""
        noted = {each for note in self.notes.values() for each in note["sha256"]}
        return [word for word in self.words if sha256(word) not in noted]


def sha256(word: str) -> str:
    return hashlib.sha256(word.encode()).hexdigest()


def is_usable(word: str, *, sandbox: bool) -> bool:
    """Whether the functions take it for a webhook secret; a placeholder is none."""
    long_enough = sandbox or len(word) >= _MIN_LENGTH
    return word.startswith("whsec_") and word.isascii() and word.isprintable() and long_enough


def stored_words(stack: Stack) -> list[str]:
    """Of the webhook's secret, usable or not. Raises what AWS raises."""
    secrets = stack.client("secretsmanager")
    try:
        value: str = secrets.get_secret_value(SecretId=stack.output("WebhookSecretsSecret")).get("SecretString", "")
    except secrets.exceptions.ResourceNotFoundException:
        return []
    return value.split()


def look(stack: Stack, provider: Provider) -> View:
    """Raises Failed, TryAgain and what AWS raises."""
    return view_of(stack, provider.endpoints(), stored_words(stack), items.get(stack, STATE) or {})


def view_of(stack: Stack, rows: Iterable[Row], words: Sequence[str], state: Row) -> View:
    url = stack.output("WebhookUrl")
    found = [_endpoint(row) for row in rows if _leads_to(row, url)]
    return View(
        endpoints=tuple(sorted(found, key=lambda each: each.created_at, reverse=True)),
        words=tuple(word for word in words if is_usable(word, sandbox=stack.is_sandbox)),
        notes={name.removeprefix(_PREFIX): note for name, note in state.items() if name.startswith(_PREFIX)},
        rotation=state.get("rotation"),
    )


def _leads_to(row: Row, url: str) -> bool:
    return str(row.get("url", "")).rstrip("/") == url


def _endpoint(row: Row) -> Endpoint:
    events = row.get("events")
    return Endpoint(
        id=str(row["_id"]),
        active=row.get("active") is not False,
        events=frozenset(str(each) for each in events) if isinstance(events, list) else frozenset(),
        created_at=str(row.get("createdAt", "")),
        description=str(row.get("description") or ""),
    )


class Webhook:
    """What is done to the endpoints of a stack, one step at a time; each is audited before it happens."""

    def __init__(self, stack: Stack, provider: Provider, action: str, reason: str) -> None:
        self._stack, self._provider = stack, provider
        self._action, self._reason = action, reason
        self._url = stack.output("WebhookUrl")

    def look(self) -> View:
        return look(self._stack, self._provider)

    def audit(self, step: str, **details: str) -> None:
        audit.write(self._stack, f"{self._action}.{step}", self._reason, _now(), **details)

    def without_leftovers(self) -> View:
        """What there is once the endpoints are gone that a broken-off run has left."""
        view = self.look()
        leftovers = [endpoint for endpoint in view.endpoints if view.is_leftover(endpoint)]
        for endpoint in leftovers:
            self.delete(endpoint.id)
        return self.look() if leftovers else view

    # --- Steps --------------------------------------------------------------------------------------------------------

    def make(self) -> str:
        """A new endpoint, to which nothing is sent yet, whose secret is stored: its id. Raises Failed and TryAgain; the
        endpoint is gone then, or the message says where it lies."""
        self.audit("create_endpoint", url=self._url)
        made = self._provider.create_endpoint(
            self._url, EVENTS, f"{_MADE_HERE}{self._stack.stage}, {_now():%Y-%m-%d}", active=False
        )
        identity, secret = str(made["_id"]), made.pop("secret", None)
        try:
            if not isinstance(secret, str) or not is_usable(secret, sandbox=self._stack.is_sandbox):
                raise Failed("Pocketsflow's answer has no webhook secret in it")
            self.note(identity, [secret])
            stored = stored_words(self._stack)
            usable = [word for word in stored if is_usable(word, sandbox=self._stack.is_sandbox)]
            self._store([*usable, secret])
        except (BotoCoreError, ClientError, Failed) as failure:
            raise self._undone(identity, failure) from None
        return identity

    def _undone(self, identity: str, failure: Exception) -> Failed:
        """The secret is nowhere, so its endpoint must not stay."""
        why = " ".join(str(failure).split())
        try:
            self._provider.delete_endpoint(identity)
        except Failed:
            return Failed(
                f"the new endpoint's secret could not be stored ({why}), nor could the endpoint be deleted again. It is"
                f" inactive, so nothing is lost: run the same command again, which deletes it, or delete {identity} in"
                " Pocketsflow's dashboard, Developers, Webhooks"
            )
        return Failed(f"the new endpoint's secret could not be stored, so it was deleted again: {why}")

    def activate(self, endpoint: Endpoint) -> None:
        """Has all events sent there from now on. Whoever calls has seen the functions take its secret."""
        self.audit("update_endpoint", endpoint=endpoint.id)
        wanted = [*EVENTS, *sorted(endpoint.events - {*EVENTS})]
        self._provider.update_endpoint(endpoint.id, url=self._url, events=wanted, active=True)

    def delete(self, identity: str) -> None:
        self.audit("delete_endpoint", endpoint=identity)
        self._provider.delete_endpoint(identity)

    def await_functions(self, view: View, endpoint: Endpoint) -> None:
        """Until those that run with the words before have noticed the secret of an endpoint that is about to begin: a
        test before then would be counted, and alarmed, as a wrong signature."""
        if not endpoint.active and endpoint.id in view.notes and len(view.words) > 1:
            wait_until(known_at(view.notes[endpoint.id]), "Waiting for the functions to notice the new secret")

    def test(self, words: Collection[str]) -> None:
        """Each of the words is taken. Raises Failed and TryAgain, also when there is none."""
        if not words:
            raise TryAgain("somebody else has changed the webhook's secret at this moment; run the same command again")
        for word in words:
            selftest.insist(self._stack, word)

    def prove(self, view: View, endpoint: Endpoint) -> bool:
        """Whether a secret that is stored is this endpoint's own: a sample that Pocketsflow signs with it is taken.

        It comes with an order that does not exist, and stays in the ledger as a sale of somebody else's. What else
        comes in the same seconds may be taken for it.
        """
        words = view.unclaimed
        if not words:
            return False
        before = (items.get(self._stack, LAST) or {}).get("at")
        try:
            self._provider.test_endpoint(endpoint.id)
        except TryAgain:
            raise
        except Failed:
            return False
        with progress("Waiting for Pocketsflow's sample", PROOF_SECONDS) as advance:
            for _ in range(PROOF_SECONDS):
                if (items.get(self._stack, LAST) or {}).get("at") != before:
                    self.note(endpoint.id, words)
                    return True
                time.sleep(1)
                advance(1)
        return False

    def tidy(self) -> None:
        """Takes the words of endpoints that are gone out of the secret, and forgets those endpoints."""
        view = self.look()
        there = {endpoint.id for endpoint in view.endpoints}
        gone = {
            identity: note
            for identity, note in view.notes.items()
            if identity not in there and not self._is_there(identity)
        }
        if not gone:
            return
        kept = {each for identity in there & view.notes.keys() for each in view.notes[identity]["sha256"]}
        unwanted = {each for note in gone.values() for each in note["sha256"]} - kept
        words = stored_words(self._stack)
        left = [word for word in words if sha256(word) not in unwanted]
        if left != words:
            if not left:
                raise Failed("no webhook secret would be left; run `pf init`")
            self.audit("remove_secrets", number=str(len(words) - len(left)))
            self._store(left)
        self._write(removed=[f"{_PREFIX}{identity}" for identity in gone])

    def _is_there(self, identity: str) -> bool:
        """Whether an endpoint is there all the same, though not among those that lead here: a list may lag behind, and
        the stack may have had another address, where it still is. A secret that goes too early refuses payments."""
        row = self._provider.endpoint(identity)
        if row is not None and not _leads_to(row, self._url):
            who, where = printable(identity), printable(str(row.get("url")))
            tell(f"Webhook: {who} was made for this stack and sends to {where}; delete it at Pocketsflow.")
        return row is not None

    # --- What is kept -------------------------------------------------------------------------------------------------

    def note(self, identity: str, words: Iterable[str], *, refused: bool = False) -> None:
        self._write({f"{_PREFIX}{identity}": _note(words, refused=refused)})

    def note_rotation(self, rotation: Row | None, notes: Iterable[tuple[str, Sequence[str]]] = ()) -> None:
        """None when it is over."""
        written = {f"{_PREFIX}{identity}": _note(words, refused=False) for identity, words in notes}
        if rotation is None:
            self._write(removed=["rotation"])
        else:
            self._write({"rotation": rotation, **written})

    def _write(self, written: Row | None = None, removed: Collection[str] = ()) -> None:
        written = written or {}
        names = {f"#n{number}": name for number, name in enumerate([*written, *removed])}
        by_name = {name: placeholder for placeholder, name in names.items()}
        sets = ", ".join(f"{by_name[name]} = :{by_name[name][1:]}" for name in written)
        removes = ", ".join(by_name[name] for name in removed)
        values = {f":{by_name[name][1:]}": _typed(value) for name, value in written.items()}
        self._stack.client("dynamodb").update_item(
            TableName=self._stack.table,
            Key={"pk": {"S": STATE}},
            UpdateExpression=" ".join(
                [*([f"SET {sets}"] if sets else []), *([f"REMOVE {removes}"] if removes else [])]
            ),
            ExpressionAttributeNames=names,
            **({"ExpressionAttributeValues": values} if values else {}),
        )

    def _store(self, words: Sequence[str]) -> None:
        self._stack.client("secretsmanager").put_secret_value(
            SecretId=self._stack.output("WebhookSecretsSecret"), SecretString=" ".join(words)
        )


def known_at(note: Row) -> datetime:
    """From when on every function that runs takes the secret of this note."""
    return datetime.fromisoformat(note["noted_at"]) + KNOWN_AFTER


def wait_until(moment: datetime, description: str) -> None:
    seconds = int((moment - _now()).total_seconds()) + 1
    if seconds <= 0:
        return
    tell(f"{description}, until {moment:%H:%M:%S} UTC.")
    with progress(description, seconds) as advance:
        while _now() < moment:
            time.sleep(1)
            advance(1)


def _note(words: Iterable[str], *, refused: bool) -> Row:
    return {"sha256": [sha256(word) for word in words], "noted_at": _now().isoformat(), "refused": refused}


def _typed(value: Any) -> Any:
    match value:
        case dict():
            return {"M": {name: _typed(each) for name, each in value.items()}}
        case list():
            return {"L": [_typed(each) for each in value]}
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
    return {"S": value}


def _now() -> datetime:
    return datetime.now(UTC)
