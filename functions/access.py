"""For members: a purchase or a mailbox is shown once for a session, a session for short-lived tokens.

POST /access                an order id, soon after its payment, or a link's code: a session and its first token;
                            or a session that is to be over
GET /access                 a session: a new token, by what is known at this moment
POST /access/link           an address: a link to it by mail, if it is a member's
GET /.well-known/jwks.json  what a token is checked with
"""

import os
import re
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from connectors import entitlements
from payments import addresses, aws, http, limits, orders, strictjson, table, tokens
from payments.deployment import MODE, SANDBOX, STAGE
from payments.telemetry import about, logger, needs_attention, observed, where

ORIGINS = os.environ["ALLOWED_ORIGINS"].split(",")
GRACE = timedelta(days=int(os.environ["GRACE_DAYS"]))
MEMBER_PAGE = os.environ["MEMBER_PAGE"]
MAIL_FROM = os.environ["MEMBER_MAIL_FROM"]
LINKS_PER_ADDRESS = int(os.environ["CHECKOUTS_PER_ADDRESS"])
LINKS_PER_MAILBOX = 3
"""In an hour: nobody's mailbox is filled by others."""

EXCHANGE = timedelta(minutes=15)
"""An order id stands in a page's address, so it soon lies about: it lets nobody in after that, and only once before."""
TOKEN = timedelta(minutes=10)
"""Who is no longer let in holds one for so long at most."""
LINK = timedelta(minutes=15)
SESSION = timedelta(days=30)
LINK_SECONDS = 2.0
"""Every request for a link takes that long, and so does not tell by its time whose address is a member's."""

MAX_BODY = 4 * 1024
_CODE = re.compile(r"[A-Za-z0-9_-]{43}")
_SESSION = re.compile(rf"pfm_{STAGE}_[A-Za-z0-9_-]{{43}}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_mail: Any = aws.client("sesv2")


class Refused(Exception):
    """The request cannot be served as it is; `answer` says why."""

    def __init__(self, code: str, status: int, detail: str, **more: Any) -> None:
        super().__init__(code)
        self.code = code
        self.answer = http.problem(status, code, detail, **more)


@observed
def handler(event: http.Event, context: aws.Context) -> http.Answer:
    now = datetime.now(UTC)
    routes = {
        "POST /access": _open,
        "GET /access": _renew,
        "POST /access/link": _link,
        "GET /.well-known/jwks.json": _keys,
    }
    return _answering(context, lambda: routes[event["routeKey"]](event, now))


def _answering(context: aws.Context, respond: Callable[[], http.Answer]) -> http.Answer:
    """What `respond` answers, in the function's time, or the problem that kept it from answering."""
    try:
        with aws.finishing_in_time(context):
            return respond()
    except Refused as refused:
        logger.info("access_refused", extra={"code": refused.code})
        return refused.answer
    except entitlements.Busy:
        logger.info("access_busy")
    except (BotoCoreError, ClientError, table.LeftOver, tokens.UnknownEncoding) as error:
        needs_attention("access_unavailable", error=where(error))
    return http.problem(503, "access_unavailable", "Nobody can be let in at the moment. Try again.", retry_after=2)


# --- POST /access -----------------------------------------------------------------------------------------------------


def _open(event: http.Event, now: datetime) -> http.Answer:
    match _fields(event):
        case {"orderId": order_id, **others} if not others and orders.is_id(order_id):
            return _open_order(event, order_id, now)
        case {"code": str(code), **others} if not others and _CODE.fullmatch(code):
            return _open_link(event, code, now)
        case {"leave": str(session), **others} if not others and _SESSION.fullmatch(session):
            return _leave(session)
    raise _invalid("", "must be {orderId} as a checkout answered it, {code} of a link, or {leave} with a session")


def _open_order(event: http.Event, order_id: str, now: datetime) -> http.Answer:
    about(order_id)
    paid_at = entitlements.paid_at(order_id)
    if paid_at is None:
        detail = "No payment of this order has been heard of yet. Try again."
        raise Refused("access_pending", 409, detail, retry_after=2)
    if now - paid_at > EXCHANGE:
        raise _spent()
    # Whoever did not hear the answer shows the same key again; without one there is no again.
    key = http.header(event, "idempotency-key").lower()
    by = key if _UUID.fullmatch(key) else secrets.token_urlsafe()
    content, session, until = _token(event, f"grant#{order_id}", now), _new_session(), now + SESSION
    try:
        entitlements.take_order(order_id, by, session, until)
    except entitlements.Spent:
        raise _spent() from None
    return _opened(content, session, until)


def _open_link(event: http.Event, code: str, now: datetime) -> http.Answer:
    session, until = _new_session(), now + SESSION
    try:
        member = entitlements.link_of(code, now)
        content = _token(event, member, now)
        entitlements.take_link(code, session, member, until)
    except entitlements.Spent:
        raise _spent() from None
    return _opened(content, session, until)


def _leave(session: str) -> http.Answer:
    entitlements.end_session(session)
    logger.info("access_left")
    return http.answer(200, {"message": "This session is over."})


def _spent() -> Refused:
    detail = "This was exchanged before, or too much time has passed. Ask for a link by e-mail."
    return Refused("exchange_over", 403, detail)


def _new_session() -> str:
    return f"pfm_{STAGE}_{secrets.token_urlsafe(32)}"


def _opened(content: dict[str, Any], session: str, until: datetime) -> http.Answer:
    logger.info("access_opened")
    return http.answer(201, {**content, "session": session, "sessionExpiresAt": _iso(until)})


# --- GET /access ------------------------------------------------------------------------------------------------------


def _renew(event: http.Event, now: datetime) -> http.Answer:
    scheme, _, session = http.header(event, "authorization").partition(" ")
    is_session = scheme.lower() == "bearer" and _SESSION.fullmatch(session)
    found = entitlements.session_of(session, now) if is_session else None
    if found is None:
        detail = "Authorization must be Bearer and a session that is not over."
        raise Refused("no_session", 401, detail, headers={"www-authenticate": "Bearer"})
    of, until = found
    content = _token(event, of, now)
    logger.info("access_renewed")
    return http.answer(200, {**content, "sessionExpiresAt": _iso(until)})


def _token(event: http.Event, of: str, now: datetime) -> dict[str, Any]:
    """A token of what is known at this moment. Raises Refused where that is nothing."""
    access = entitlements.access(of, now, GRACE)
    if not access.levels:
        raise Refused("no_access", 403, "Nothing that was bought gives access at this moment.")
    expires = min(now + TOKEN, access.until or now + TOKEN)
    claims = {
        "iss": f"{'http' if SANDBOX else 'https'}://{event['requestContext']['domainName']}",
        "aud": ORIGINS,
        "sub": entitlements.subject(of),
        "levels": list(access.levels),
        "iat": int(now.timestamp()),
        "exp": int(expires.timestamp()),
        "jti": secrets.token_urlsafe(16),
    }
    return {"token": tokens.sign(claims), "expiresAt": _iso(expires), "levels": list(access.levels)}


# --- POST /access/link ------------------------------------------------------------------------------------------------


def _link(event: http.Event, now: datetime) -> http.Answer:
    if not MAIL_FROM:
        raise Refused("links_off", 404, "This shop sends no links.")
    email = _address(event)
    if not addresses.allowed(MEMBER_PAGE, ORIGINS, loopback=MODE == "test"):
        needs_attention("member_page_not_allowed")
        raise Refused("member_page_not_allowed", 503, "This shop is not set up to send links yet.")
    started = time.monotonic()
    _limit(event, now)
    try:
        seconds = started + LINK_SECONDS * aws.PATIENCE - time.monotonic()
        with aws.finishing_within(seconds, leaving=aws.FAREWELL_SECONDS):
            _send_link(email, now)
    except (BotoCoreError, ClientError, table.LeftOver) as error:  # told to nobody who asks: it happens to members only
        needs_attention("link_not_sent", error=where(error))
    time.sleep(max(0.0, started + LINK_SECONDS - time.monotonic()))
    return http.answer(202, {"message": "If this address is a member's, a link is on its way to it."})


def _address(event: http.Event) -> str:
    match _fields(event):
        case {"email": email, **others} if not others and (found := entitlements.address(email)):
            return found
    raise _invalid("email", "must be an e-mail address, and the only field")


def _limit(event: http.Event, now: datetime) -> None:
    if not LINKS_PER_ADDRESS:
        return
    address = event["requestContext"]["http"]["sourceIp"]
    network, most = limits.network(address), LINKS_PER_ADDRESS
    wait = limits.one_more("links", network, entitlements.pepper(), most=most, within=limits.WINDOW, now=now)
    if wait is not None:
        detail = "Too many requests for links from this address. Try again after the time in Retry-After."
        raise Refused("too_many_links", 429, detail, retry_after=wait)


def _send_link(email: str, now: datetime) -> None:
    """To a member, and not too often. Whether it was is for no answer to tell."""
    hour = timedelta(hours=1)
    is_full = limits.one_more("mails", email, entitlements.pepper(), most=LINKS_PER_MAILBOX, within=hour, now=now)
    member = entitlements.member_id(email)
    if is_full or not member or not entitlements.access(f"member#{member}", now, GRACE).levels:
        return
    code = secrets.token_urlsafe(32)
    entitlements.make_link(member, code, now + LINK)
    # Behind the #, where no server's log and no Referer has it.
    text = (
        f"Somebody, hopefully you, asked to be let in:\n\n{MEMBER_PAGE}#access={code}\n\n"
        f"The link works once, for {LINK.seconds // 60} minutes. If it was not you, there is nothing to do.\n"
    )
    _mail.send_email(
        FromEmailAddress=MAIL_FROM,
        Destination={"ToAddresses": [email]},
        Content={"Simple": {"Subject": {"Data": "Your link"}, "Body": {"Text": {"Data": text}}}},
    )
    logger.info("link_sent")


# --- GET /.well-known/jwks.json ---------------------------------------------------------------------------------------


def _keys(_event: http.Event, _now: datetime) -> http.Answer:
    """May be kept for minutes: it is the same until the key is replaced."""
    return http.answer(200, {"keys": [tokens.public_key()]}, {"cache-control": "public, max-age=300"})


# --- What they share --------------------------------------------------------------------------------------------------


def _fields(event: http.Event) -> dict[str, Any]:
    """Of a body in JSON. Raises Refused."""
    # A script on another site can send text/plain without asking; JSON makes the browser ask first.
    if http.media_type(event) != "application/json":
        raise Refused("unsupported_media_type", 415, "Content-Type must be application/json.")
    try:
        content = strictjson.parse(http.raw_body(event, MAX_BODY))
    except http.TooLarge:
        raise Refused("body_too_large", 413, f"The body may have {MAX_BODY} bytes.") from None
    except (http.Malformed, strictjson.Unreadable):
        content = None
    if not isinstance(content, dict):
        raise _invalid("", "must be a JSON object in UTF-8, without duplicate keys")
    return content


def _invalid(field: str, detail: str) -> Refused:
    return Refused("invalid_request", 400, "Some fields are wrong.", errors=[{"field": field, "detail": detail}])


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
