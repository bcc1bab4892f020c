"""Mails to the merchant about what needs a person: one each, no flood, and nothing that a stranger wrote."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from click.testing import CliRunner

from connectors import consumer, notices
from connectors.notices import MOST, NOTICES
from ops.__main__ import pf
from payments import orders
from sandbox import aws
from sandbox.platforms.notices import Platform
from sandbox.template import ROOT
from tests.conftest import Aws
from tests.connected import HIDDEN, TRIES, Line
from tests.event_schemas import TYPES, example
from tests.integration.outages import Told
from tests.payloads import NOW
from tests.world import Context, World, world

PAGE = (ROOT / "docs/connectors/notices.md").read_text()
FROM = Platform.parameters["NoticesFrom"]


class Mail:
    """SES, which fails so often as a test says."""

    def __init__(self) -> None:
        self._ses = aws.client("sesv2", None)
        self.errors: list[Exception] = []
        self.lost: list[Exception] = []
        """Of calls that have sent their mail, and whose answer nobody hears."""

    def send_email(self, **arguments: Any) -> Any:
        if self.errors:
            raise self.errors.pop(0)
        answer = self._ses.send_email(**arguments)
        if self.lost:
            raise self.lost.pop(0)
        return answer


def failure(code: str, status: int) -> ClientError:
    message = f"Email address is not verified: {FROM}"
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "SendEmail",
    )


@pytest.fixture
def ses(emptied: Aws) -> Mail:
    """Where the sender is verified, and nothing was sent."""
    made = Mail()
    made._ses.create_email_identity(EmailIdentity=FROM)
    aws.ses_backends[aws.ACCOUNT][aws.REGION].sent_messages.clear()
    return made


@pytest.fixture
def box() -> Platform:
    return Platform("")


@pytest.fixture
def line(connect: Callable[..., Line], box: Platform, ses: Mail) -> Line:
    return connect(notices, box, _mail=ses, FROM=FROM)


@pytest.fixture
def shop(emptied: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A shop on the stack of this module."""
    with world(emptied, monkeypatch, NOW) as made:
        yield made


# --- One mail ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NOTICES)
def test_one_mail_says_what_and_what_to_do(line: Line, box: Platform, kind: str) -> None:
    """However often its event comes: a subject of ours, the ids, the command that shows it, and where to read on."""
    order_id = orders.new_id(NOW) if example(kind)["order_id"] else None
    sent = line.publish(kind, order_id=order_id)
    line.arrive()
    line.repeat()
    line.work(hours=1)
    [mail] = box.mails()
    assert (mail["from"], mail["to"]) == (FROM, box.parameters["NoticesTo"])
    assert mail["subject"] == f"[pocketsflow-test] {NOTICES[kind].title}{f': {order_id}' if order_id else ''}"
    payment = sent["payment"]["id"]
    assert f"pf --stage test order {order_id or payment}\n" in mail["text"]
    assert {payment, kind, NOTICES[kind].page} <= {*re.split(r"\s+", mail["text"])}
    assert "test money" in mail["text"]


def test_nothing_else_is_mailed(line: Line, box: Platform) -> None:
    """What a shop sees every day is none of it."""
    for kind in TYPES:
        line.publish(kind, id=kind)
    line.work()
    assert {*line.outcomes()} == {*NOTICES}
    assert len(box.mails()) == len(NOTICES)


def test_an_order_that_was_paid_twice(shop: World, connect: Callable[..., Line], box: Platform, ses: Mail) -> None:
    """From the buyer to the mailbox: the second payment is one mail, the first none."""
    line = connect(notices, box, shop.clock, _mail=ses, FROM=FROM)
    order_id, session = shop.checkout()
    _, second = shop.pay(session), shop.pay(session)
    shop.deliver()
    shop.flow()
    line.work()
    [mail] = box.mails()
    assert order_id in mail["subject"]
    assert f"refund {second} --reason" in mail["text"]


@pytest.mark.parametrize("kind", NOTICES)
def test_what_it_says_is_there(kind: str) -> None:
    """Each command is one of pf's, with its options, and each page has the section."""
    notice = NOTICES[kind]
    for command in (*notice.acts, notice.more, "order ID"):
        words = command.format(order="ORDER", payment="PAYMENT").split()
        assert CliRunner().invoke(pf, [*words, "--help"]).exit_code == 0, command
    file, _, anchor = notice.page.partition("#")
    headings = re.findall(r"^## (.*)$", (ROOT / file).read_text(), re.MULTILINE)
    assert anchor in [heading.lower().replace(" ", "-") for heading in headings]


def test_the_page_shows_them_as_they_are() -> None:
    """Every kind with its subject, and the mail of a second payment word for word."""
    table = dict(re.findall(r"^\| `(\S+)` \| ([^|]+) \|", PAGE, re.MULTILINE))
    assert table == {kind: notice.title for kind, notice in NOTICES.items()}
    detail = example("payment.second")
    event = consumer.Event(
        detail["id"], "payment.second", "", 1, detail["occurred_at"], detail["order_id"], detail["status"], detail
    )
    _, text = notices._written(event, NOTICES["payment.second"], is_last=False)
    shown = PAGE.partition("```text\n")[2].partition("```")[0].partition("\n\n")[2]
    assert text.replace("--stage test", "--stage prod") == shown


# --- SES fails --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason", "at_once"),
    [
        (failure("TooManyRequestsException", 429), "busy", False),
        (failure("LimitExceededException", 400), "busy", False),
        (failure("ThrottlingException", 400), "busy", False),
        (failure("InternalFailure", 500), "busy", False),
        (ReadTimeoutError(endpoint_url="https://email"), "no_answer", False),
        (failure("MessageRejected", 400), "refused", True),
        (failure("SendingPausedException", 400), "refused", True),
        (failure("AccessDeniedException", 403), "unauthorized", True),
    ],
    ids=lambda value: value.response["Error"]["Code"] if isinstance(value, ClientError) else None,
)
def test_ses_fails(
    line: Line, box: Platform, ses: Mail, told: Told, error: Exception, reason: str, at_once: bool
) -> None:
    """Eleven times: then there is one mail. What a person has to mend is told at the first try, without an address."""
    ses.errors = [error] * (TRIES - 1)
    sent = line.publish("payment.second")
    line.work(hours=1)
    assert line.items()[f"event#{sent['id']}"]["failure"] == reason
    printed = told.text()
    assert (f"connector_{reason}" in printed) == at_once
    assert "@" not in printed + str(line.items())
    line.work(hours=80)
    assert len(box.mails()) == 1
    assert line.dead == line.waiting == []


def test_an_address_that_is_not_verified(line: Line, box: Platform, ses: Mail) -> None:
    """SES itself refuses it; after three days it is a dead letter, and a redrive mails it once that is mended."""
    ses._ses.delete_email_identity(EmailIdentity=FROM)
    line.publish("payment.second")
    line.work(hours=90)
    assert (len(line.dead), box.mails()) == (1, [])
    assert line.items()["connector"]["failure"] == "refused"
    ses._ses.create_email_identity(EmailIdentity=FROM)
    line.redrive()
    line.work()
    assert len(box.mails()) == 1


def test_a_lost_answer_or_a_crash_is_one_mail_more(line: Line, box: Platform, ses: Mail) -> None:
    """SES knows no key: between its answer and our note of it a mail can only be sent again, once for each."""
    ses.lost = [ReadTimeoutError(endpoint_url="https://email")]
    line.crashes = 1
    line.publish("payment.second")
    line.work(hours=2 * HIDDEN.total_seconds() / 3600)
    assert len(box.mails()) == 3
    assert {*line.outcomes().values()} == {"delivered"}


def test_a_test(line: Line, box: Platform, ses: Mail) -> None:
    """On demand a mail that says what it is, or why there is none."""
    assert notices.handler({"test": "order.paid"}, Context(line.clock, 120)) == {"outcome": "delivered"}
    assert [mail["subject"] for mail in box.mails()] == ["[pocketsflow-test] Test"]
    ses.errors = [failure("MessageRejected", 400)]
    answer = notices.handler({"test": "order.paid"}, Context(line.clock, 120))
    assert answer == {"outcome": "failed", "reason": "refused"}


# --- Not too many -----------------------------------------------------------------------------------------------------


def storm(line: Line, kind: str, size: int) -> None:
    for number in range(size):
        line.publish(kind, id=f"{kind} {line._number} {number}", subject=f"order#{number}")
    line.work()


def test_a_storm_is_ten_mails_an_hour(line: Line, box: Platform) -> None:
    """The tenth of a kind is the last and says where all are; other kinds and the next hour have their own."""
    storm(line, "payment.second", MOST + 5)
    storm(line, "order.disputed", 2)
    texts = [mail["text"] for mail in box.mails()]
    assert len(texts) == MOST + 2
    last = "No more mails of this kind before the next full hour"
    assert [number for number, text in enumerate(texts) if last in text] == [MOST - 1]
    assert list(line.outcomes().values()).count("held_back") == 5
    line.clock.passes(hours=1)
    storm(line, "payment.second", 1)
    assert len(box.mails()) == MOST + 3
    assert line.dead == line.waiting == []


def test_what_was_not_sent_takes_no_place(line: Line, box: Platform, ses: Mail) -> None:
    """While SES is down no event counts as mailed: none is held back for mails that there never were."""
    ses.errors = [failure("InternalFailure", 500)] * MOST
    storm(line, "payment.second", MOST)
    assert box.mails() == []
    sent = line.publish("payment.second")
    line.work()
    assert line.outcomes() == {sent["id"]: "delivered"}
    line.work(hours=0.5)
    assert len(box.mails()) == MOST


# --- Attacks ----------------------------------------------------------------------------------------------------------

HOSTILE = "evil\r\nBcc: evil@evil.example\r\n\r\n<a href=https://evil.example>"


@pytest.mark.parametrize("kind", NOTICES)
def test_no_stranger_writes_into_a_mail(line: Line, box: Platform, told: Told, kind: str) -> None:
    """What a buyer, a page or a shop's server may have said is neither in the subject nor in the text."""
    said = {name: {"evil": HOSTILE} for name in ("metadata", "untrusted_metadata")}
    line.publish(kind, **said, customer_email=HOSTILE, sku=HOSTILE, customer_reference=HOSTILE)
    line.work()
    [mail] = box.mails()
    assert "evil" not in str(mail) + told.text()
    assert "jane" not in str(mail)


def test_no_header_is_made_of_an_id(line: Line, box: Platform) -> None:
    """An id that is none of ours is in no subject; a subject is one line of printable letters."""
    line.publish("payment.second", order_id=f"{orders.new_id(NOW)}\r\nBcc: evil@evil.example")
    line.work()
    [mail] = box.mails()
    assert mail["subject"] == "[pocketsflow-test] An order was paid a second time"
    assert all(notice.title.isprintable() for notice in NOTICES.values())
