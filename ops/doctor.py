"""`pf doctor`: everything that must be right for a payment to settle, looked at side by side.

A check answers with findings; what it raises is a finding, too.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Unfinished
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any, Literal

import click
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from ops import api_key, items, queues, selftest, web, webhooks
from ops.cli import TRY_AGAIN, Failed, TryAgain, json_option, print_json, printable, progress, said
from ops.provider import Provider, stored_api_key
from ops.stack import Stack
from payments.event_names import EVENTS
from sandbox.template import ROOT

Status = Literal["ok", "warning", "failed", "skipped", "unknown"]
"""`unknown`: who would know did not answer. `skipped`: there is none here, or it waits for something that failed."""

SECONDS = 60
"""For all checks."""
THREADS = 8
CLOCK_SECONDS = 60
RECONCILE_WITHIN = timedelta(minutes=30)
"""As the alarm has it."""
WEBHOOK_SILENCE = timedelta(days=7)
OUTPUTS = (
    *("ApiUrl", "WebhookUrl", "LedgerTable", "ApiKeySecret", "WebhookSecretsSecret", "AlarmTopicArn", "BusName"),
    *("ParkingQueue", "ParkedTooLongArn", "UnpublishedBucket"),
    *("CheckoutFunctionName", "WebhookFunctionName", "RelayFunctionName", "ReconcileFunctionName"),
)
CATALOGUE = ROOT / "functions/catalogue.json"
"""The same file is deployed with the functions."""
_FOREIGN = "https://foreign.invalid"
_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "bright_black", "unknown": "magenta"}
_NEW_ACCOUNT = 10
"""What a new account may run at once; one that asked has a thousand."""


@dataclass(frozen=True)
class Finding:
    check: str
    status: Status
    why: str
    mend: str = ""
    """A command, or what to do."""


class Waits(Exception):
    """What this check needs has failed, and is told by its own line."""


class Visit:
    """The stack, and what several checks want to know, asked once."""

    def __init__(self, stack: Stack, pool: ThreadPoolExecutor) -> None:
        self.stack = stack
        self._provider = pool.submit(lambda: Provider(stack, stored_api_key(stack)))
        self._me = pool.submit(lambda: api_key.check(stack, self._key()))
        self._rows = pool.submit(lambda: self._taken().endpoints())
        self._unsigned = pool.submit(self._knock)

    def _key(self) -> str:
        return stored_api_key(self.stack)

    def _taken(self) -> Provider:
        self._me.result()
        return self._provider.result()

    def _knock(self) -> web.Answer:
        return web.ask("POST", self.stack.output("WebhookUrl"), b"{}", {"Content-Type": "application/json"})

    def check_key(self) -> None:
        self._me.result()

    def provider(self) -> Provider:
        """With a key that Pocketsflow takes. Raises Waits and TryAgain."""
        try:
            return self._taken()
        except TryAgain:
            raise
        except Failed:
            raise Waits("the API key comes first") from None

    def endpoints(self) -> list[webhooks.Row]:
        self.provider()
        return self._rows.result()

    def unsigned(self) -> web.Answer:
        """What the webhook answers to a body without a signature."""
        return self._unsigned.result()

    def command(self, words: str) -> str:
        return f"pf --sandbox {words}" if self.stack.is_sandbox else f"pf --stack {self.stack.name} {words}"

    @property
    def deploy(self) -> str:
        return f"make deploy STAGE={self.stack.stage}"


Check = Callable[[Visit], Iterator[Finding]]


@click.command()
@click.option("--strict", is_flag=True, help="A warning is a failure.")
@json_option
@click.pass_obj
def doctor(stack: Callable[[], Stack], *, strict: bool, as_json: bool) -> None:
    """Looks whether everything is as it should be.

    From the API key to the last reconciliation, with a signed test through the public address. Each line says why, and
    what mends it. It changes nothing. Exit code 1 when something failed, 75 when somebody who would know did not
    answer.
    """
    found = stack()
    found.enter()
    findings = examine(found)
    bad = {"failed", "warning"} if strict else {"failed"}
    statuses = {finding.status for finding in findings}
    if as_json:
        print_json({"ok": not statuses & {*bad, "unknown"}, "checks": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            _show(finding)
    if statuses & bad:
        sys.exit(1)
    if "unknown" in statuses:
        sys.exit(TRY_AGAIN)


def _show(finding: Finding) -> None:
    status = click.style(f"{finding.status:8}", fg=_COLOURS[finding.status])
    click.echo(f"{status} {finding.check:20} {printable(finding.why)}")
    if finding.mend:
        click.echo(f"{'':29} \N{RIGHTWARDS ARROW} {printable(finding.mend)}")


def examine(stack: Stack) -> list[Finding]:
    """All checks, in the order in which one mends what they find."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        visit, ends_at = Visit(stack, pool), monotonic() + SECONDS
        pending = [(name, pool.submit(_run, name, check, visit)) for name, check in CHECKS]
        with progress("Looking", len(pending)) as advance:
            findings = []
            for name, future in pending:
                findings += _result(name, future, ends_at)
                advance(1)
        return findings
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _result(name: str, future: Future[list[Finding]], ends_at: float) -> list[Finding]:
    try:
        return future.result(max(0, ends_at - monotonic()))
    except Unfinished:
        return [Finding(name, "unknown", f"no answer within {SECONDS} seconds")]


def _run(name: str, check: Check, visit: Visit) -> list[Finding]:
    try:
        return list(check(visit))
    except Waits as waits:
        return [Finding(name, "skipped", str(waits))]
    except (TryAgain, HTTPClientError) as error:
        return [Finding(name, "unknown", _line(error), "try again")]
    except web.NoAnswer:
        return [Finding(name, "unknown", "the public address does not answer", "try again")]
    except Failed as failure:
        return [Finding(name, "failed", failure.message)]
    except (ClientError, BotoCoreError) as error:
        told = said(error)
        return [Finding(name, "unknown" if isinstance(told, TryAgain) else "failed", told.message)]
    except Exception as error:  # noqa: BLE001  # one check's defect is not the end of the others
        return [Finding(name, "failed", f"the check itself broke off: {type(error).__name__}", "report it")]


def _line(error: Exception) -> str:
    return error.message if isinstance(error, Failed) else " ".join(str(error).split())


# --- The checks -------------------------------------------------------------------------------------------------------


def _outputs(visit: Visit) -> Iterator[Finding]:
    missing = [name for name in OUTPUTS if name not in visit.stack.outputs]
    if missing:
        yield Finding("stack", "failed", f"deployed from an older template: no {', '.join(missing)}", visit.deploy)
    else:
        yield Finding("stack", "ok", f"{visit.stack.name}, stage {visit.stack.stage}, mode {visit.stack.mode}")


def _api_key(visit: Visit) -> Iterator[Finding]:
    try:
        visit.check_key()
    except TryAgain:
        raise
    except Failed as failure:
        yield Finding("API key", "failed", failure.message.partition(";")[0], visit.command("init"))
    else:
        yield Finding("API key", "ok", f"Pocketsflow takes it; mode {visit.stack.mode}")


def _webhook_secret(visit: Visit) -> Iterator[Finding]:
    words = webhooks.stored_words(visit.stack)
    usable = [word for word in words if webhooks.is_usable(word, sandbox=visit.stack.is_sandbox)]
    if not usable:
        why = "nothing but a placeholder is stored" if words else "none is stored"
        yield Finding("webhook secret", "failed", f"{why}: every webhook is refused", visit.command("init"))
    elif len(usable) < len(words):
        yield Finding(
            "webhook secret", "warning", "a placeholder lies beside it, which nothing takes", visit.command("rotate")
        )
    else:
        yield Finding("webhook secret", "ok", f"{len(usable)} stored")


def _endpoint(visit: Visit) -> Iterator[Finding]:
    state = items.get(visit.stack, webhooks.STATE) or {}
    view = webhooks.view_of(visit.stack, visit.endpoints(), webhooks.stored_words(visit.stack), state)
    mend = visit.command("init")
    active = [endpoint for endpoint in view.endpoints if endpoint.active]
    if not view.endpoints:
        yield Finding("webhook endpoint", "failed", "no endpoint at Pocketsflow leads here", mend)
    elif not active:
        yield Finding("webhook endpoint", "failed", "it is not active, so Pocketsflow sends nothing", mend)
    elif all(endpoint.id in view.notes and not view.words_of(endpoint.id) for endpoint in active):
        yield Finding("webhook endpoint", "failed", "its secret is not stored: all that it sends is refused", mend)
    elif missing := set.intersection(*({*endpoint.missing} for endpoint in active)):
        yield Finding("webhook endpoint", "failed", f"does not send {', '.join(sorted(missing))}", mend)
    elif view.rotation is not None:
        began = f"a rotation began at {view.rotation['begun_at'][:16]}Z and is not over"
        yield Finding("webhook endpoint", "warning", began, visit.command("rotate"))
    elif len(active) > 1:
        why = f"{len(active)} lead here: each event comes as often"
        yield Finding("webhook endpoint", "warning", why, visit.command("rotate"))
    else:
        yield Finding("webhook endpoint", "ok", f"{active[0].id}, active, all {len(EVENTS)} events")


def _self_test(visit: Visit) -> Iterator[Finding]:
    words = webhooks.stored_words(visit.stack)
    usable = [word for word in words if webhooks.is_usable(word, sandbox=visit.stack.is_sandbox)]
    if not usable:
        raise Waits("the webhook secret comes first")
    for word in usable:
        verdict = selftest.send(visit.stack, word)
        if verdict.unreachable:
            raise web.NoAnswer
        if not verdict.passed:
            mend = f"wait a minute if the secret is new, then {visit.command('init')}"
            yield Finding("signed self-test", "failed", verdict.why, mend)
            return
    yield Finding("signed self-test", "ok", "came through the public address to this stack")


def _refusal(visit: Visit) -> Iterator[Finding]:
    answer = visit.unsigned()
    if answer.status == 401:
        yield Finding("unsigned webhook", "ok", "is refused (401)")
    else:
        why = f"is answered {answer.status} {answer.outcome}".rstrip()
        yield Finding("unsigned webhook", "failed", f"{why} instead of 401", visit.deploy)


def _cors(visit: Visit) -> Iterator[Finding]:
    url = f"{visit.stack.output('ApiUrl')}/checkout"
    for origin in visit.stack.parameters.get("AllowedOrigins", "").split(","):
        allowed = _preflight(url, origin)
        if allowed == origin:
            yield Finding("CORS", "ok", f"pages of {origin} may ask for a checkout")
        else:
            why = f"pages of {origin} may not ask for a checkout, though AllowedOrigins names it"
            yield Finding("CORS", "failed", why, visit.deploy)
    if _preflight(url, _FOREIGN):
        why = "pages of any origin may ask for a checkout"
        yield Finding("CORS", "failed", why, f"{visit.deploy}, and nothing between it and the shop that adds headers")


def _preflight(url: str, origin: str) -> str | None:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,idempotency-key",
    }
    return web.ask("OPTIONS", url, headers=asked).headers.get("access-control-allow-origin")


def _clock(visit: Visit) -> Iterator[Finding]:
    told = visit.unsigned().headers.get("Date")
    if told is None:
        raise Waits("the public address does not say what time it is")
    off = round((datetime.now(UTC) - parsedate_to_datetime(told)).total_seconds())
    if abs(off) > CLOCK_SECONDS:
        why = f"this machine's is {abs(off)} s {'fast' if off > 0 else 'slow'}: AWS refuses requests at 300"
        yield Finding("clock", "warning", why, "set it by NTP: timedatectl set-ntp true")
    else:
        yield Finding("clock", "ok", "this machine's is right")


def _last_webhook(visit: Visit) -> Iterator[Finding]:
    at = (items.get(visit.stack, webhooks.LAST) or {}).get("at")
    if at is None:
        mend = visit.command("trigger order.completed") if visit.stack.mode == "test" else "make a purchase"
        yield Finding("last webhook", "warning", "none has come yet", mend)
        return
    silence = datetime.now(UTC) - _moment(at)
    if silence > WEBHOOK_SILENCE:
        why = f"{_ago(silence)}: nothing was sold, or Pocketsflow sends elsewhere"
        yield Finding("last webhook", "warning", why, visit.command("init"))
    else:
        yield Finding("last webhook", "ok", _ago(silence))


def _reconcile(visit: Visit) -> Iterator[Finding]:
    state = items.get(visit.stack, "reconcile#state") or {}
    logs = f"sam logs --stack-name {visit.stack.name} --name ReconcileFunction"
    if "finished_at" not in state:
        yield Finding("reconciliation", "warning", "none has finished yet; it runs every five minutes", "wait for one")
        return
    age, outcome = datetime.now(UTC) - _moment(state["finished_at"]), str(state.get("outcome", "done"))
    if age > RECONCILE_WITHIN:
        yield Finding("reconciliation", "failed", f"the last one finished {_ago(age)}", logs)
    elif outcome != "done":
        why = f"the last one ended {_ago(age)}, {outcome}; the next one goes on"
        yield Finding("reconciliation", "warning", why, logs)
    else:
        yield Finding("reconciliation", "ok", f"finished {_ago(age)}")


def _queues(visit: Visit) -> Iterator[Finding]:
    parked, too_long = queues.parking(visit.stack).depth(), queues.parked_too_long(visit.stack).depth()
    if too_long:
        mend = f"when the ledger takes writes: {visit.command('redrive ParkedTooLong')}"
        yield Finding("parked webhooks", "failed", f"{too_long} could not be written for a day", mend)
    elif parked:
        why = f"{parked} wait for the ledger; each is tried for a day"
        yield Finding("parked webhooks", "warning", why, "look again in a minute")
    else:
        yield Finding("parked webhooks", "ok", "none")


def _alarms(visit: Visit) -> Iterator[Finding]:
    cloudwatch, topic = visit.stack.client("cloudwatch"), visit.stack.output("AlarmTopicArn")
    prefix, both = f"pocketsflow-{visit.stack.stage}.", ["MetricAlarm", "CompositeAlarm"]
    ringing = []
    for page in cloudwatch.get_paginator("describe_alarms").paginate(StateValue="ALARM", AlarmTypes=both):
        for alarm in [*page.get("MetricAlarms", []), *page.get("CompositeAlarms", [])]:
            if topic in alarm.get("AlarmActions", []) or alarm["AlarmName"].startswith(prefix):
                ringing.append(alarm)
    for alarm in ringing:
        name, what = alarm["AlarmName"], alarm.get("AlarmDescription") or "see CloudWatch"
        section = name.removeprefix(prefix) if name.startswith(prefix) else ""
        since = f"{alarm['StateUpdatedTimestamp'].astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        yield Finding("alarms", "failed", f"{name} since {since}: {what}", f"docs/runbook.md#{section}".rstrip("#"))
    if not ringing:
        yield Finding("alarms", "ok", "none rings")


def _subscription(visit: Visit) -> Iterator[Finding]:
    _only_on_aws(visit)
    pages = visit.stack.client("sns").get_paginator("list_subscriptions_by_topic")
    found = [
        each["SubscriptionArn"]
        for page in pages.paginate(TopicArn=visit.stack.output("AlarmTopicArn"))
        for each in page["Subscriptions"]
    ]
    confirmed = [each for each in found if each.startswith("arn:")]
    if not found:
        yield Finding("who is told", "warning", "nobody: no AlarmEmail", f"{visit.deploy}, and give AlarmEmail")
    elif not confirmed:
        why = "nobody yet: the address has not been confirmed"
        yield Finding("who is told", "failed", why, "open the mail from AWS Notifications and confirm it")
    else:
        yield Finding("who is told", "ok", f"{len(confirmed)} confirmed")


def _quotas(visit: Visit) -> Iterator[Finding]:
    _only_on_aws(visit)
    limits = visit.stack.client("lambda").get_account_settings()["AccountLimit"]
    account, unreserved = int(limits["ConcurrentExecutions"]), int(limits["UnreservedConcurrentExecutions"])
    assumed = int(visit.stack.parameters.get("AccountConcurrency", _NEW_ACCOUNT))
    reserved = int(visit.stack.parameters.get("WebhookConcurrency", 0))
    name = "concurrency"
    if account < assumed:
        why = (
            f"AccountConcurrency is {assumed}, and the account has {account}: a rush of buyers leaves none for webhooks"
        )
        yield Finding(name, "failed", why, f"{visit.deploy}, and give AccountConcurrency={_NEW_ACCOUNT}")
    elif unreserved < _NEW_ACCOUNT:
        why = f"of {account} only {unreserved} are unreserved, which all functions but the webhook share"
        yield Finding(name, "failed", why, "reserve less, in this stack or in another one of the account")
    elif account >= 1000 > assumed:
        why = f"the account has {account}, and AccountConcurrency is {assumed}: buyers are throttled for nothing"
        yield Finding(name, "warning", why, f"{visit.deploy}, and give AccountConcurrency=1000")
    else:
        yield Finding(name, "ok", f"{account}, of which the webhook has {reserved or 'no'} reserved")


def _catalogue(visit: Visit) -> Iterator[Finding]:
    from payments.catalogue import Invalid, load

    try:
        wanted = load(CATALOGUE)
    except Invalid as invalid:
        yield Finding("catalogue", "failed", str(invalid), "mend functions/catalogue.json, then deploy")
        return
    if not wanted:
        yield Finding("catalogue", "ok", "there is none: checkouts name a productId")
        return
    products = {str(row["_id"]): row for row in visit.provider().products()}
    wrong = 0
    for sku, item in wanted.items():
        if why := _difference(item, products.get(item.product_id)):
            wrong += 1
            mend = f"{visit.command('catalogue pull')}, or mend the product at Pocketsflow; then {visit.deploy}"
            yield Finding("catalogue", "failed", f"{sku}: {why}", mend)
    if not wrong:
        yield Finding("catalogue", "ok", f"{len(wanted)} products, as they are at Pocketsflow")


def _difference(item: Any, product: webhooks.Row | None) -> str | None:
    if product is None:
        return f"there is no product {item.product_id} at Pocketsflow"
    for flag in ("published", "active"):
        if product.get(flag) is False:
            return f"the product is not {flag} at Pocketsflow"
    currency, price = str(product.get("currency", item.currency)).lower(), _decimal(product.get("price"))
    if currency != item.currency:
        return f"costs {item.currency} here and {currency} at Pocketsflow"
    if price is not None and item.variant_id is None and price not in (item.price, item.price * 100):
        return f"costs {item.price} here and {price} at Pocketsflow"
    return None


def _decimal(value: Any) -> Decimal | None:
    try:
        return None if value is None else Decimal(str(value))
    except InvalidOperation:
        return None


def _code(visit: Visit) -> Iterator[Finding]:
    _only_on_aws(visit)
    name = visit.stack.output("WebhookFunctionName")
    told = visit.stack.client("lambda").get_function_configuration(FunctionName=name)
    deployed = datetime.fromisoformat(told["LastModified"])
    committed = _last_commit()
    age = _ago(datetime.now(UTC) - deployed)
    if committed is None:
        yield Finding("code", "ok", f"deployed {age}")
    elif committed > deployed:
        yield Finding("code", "warning", f"deployed {age}; functions/ has been changed since", visit.deploy)
    else:
        yield Finding("code", "ok", f"deployed {age}, since the last change of functions/")


def _last_commit() -> datetime | None:
    """Of functions/; None where git knows nothing of it."""
    command = ["git", "log", "-1", "--format=%cI", "--", "functions"]
    try:
        told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603
        return datetime.fromisoformat(told.stdout.strip())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _only_on_aws(visit: Visit) -> None:
    if visit.stack.is_sandbox:
        raise Waits("the sandbox has none")


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _ago(age: timedelta) -> str:
    minutes = int(age.total_seconds()) // 60
    for unit, size in (("days", 1440), ("hours", 60), ("minutes", 1)):
        if minutes >= 2 * size:
            return f"{minutes // size} {unit} ago"
    return "just now"


CHECKS: list[tuple[str, Check]] = [
    ("stack", _outputs),
    ("API key", _api_key),
    ("webhook secret", _webhook_secret),
    ("webhook endpoint", _endpoint),
    ("signed self-test", _self_test),
    ("unsigned webhook", _refusal),
    ("CORS", _cors),
    ("catalogue", _catalogue),
    ("last webhook", _last_webhook),
    ("reconciliation", _reconcile),
    ("parked webhooks", _queues),
    ("alarms", _alarms),
    ("who is told", _subscription),
    ("concurrency", _quotas),
    ("code", _code),
    ("clock", _clock),
]
