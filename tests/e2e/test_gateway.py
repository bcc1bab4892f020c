"""The stand-in for API Gateway against what AWS documents of payload 2.0 and CORS."""

import base64
import json
import re
import socket
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response

from sandbox.gateway import MAX_PAYLOAD, to_event, to_response
from sandbox.servers import Server
from tests.e2e.conftest import Sandbox, http

# The sample of docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html,
# as far as it does not depend on an authorizer or a client certificate.
AWS_SAMPLE: dict[str, Any] = {
    "version": "2.0",
    "routeKey": "$default",
    "rawPath": "/my/path",
    "rawQueryString": "parameter1=value1&parameter1=value2&parameter2=value",
    "cookies": ["cookie1", "cookie2"],
    "headers": {"header1": "value1", "header2": "value1,value2"},
    "queryStringParameters": {"parameter1": "value1,value2", "parameter2": "value"},
    "requestContext": {
        "accountId": "123456789012",
        "apiId": "api-id",
        "domainName": "id.execute-api.us-east-1.amazonaws.com",
        "domainPrefix": "id",
        "http": {
            "method": "POST",
            "path": "/my/path",
            "protocol": "HTTP/1.1",
            "sourceIp": "192.0.2.1",
            "userAgent": "agent",
        },
        "requestId": "id",
        "routeKey": "$default",
        "stage": "$default",
        "time": "12/Mar/2020:19:03:58 +0000",
        "timeEpoch": 1583348638390,
    },
    "body": "Hello from Lambda",
    "pathParameters": {"parameter1": "value1"},
    "isBase64Encoded": False,
}
OURS_TO_CHOOSE = {"accountId", "apiId", "requestId", "time", "timeEpoch", "http"}


def _event(
    path: str = "/my/path", query: str = "", headers: Any = (), body: bytes = b"", **more: Any
) -> dict[str, Any]:
    environ = EnvironBuilder(
        path=path, query_string=query, headers=list(headers), data=body, method="POST"
    ).get_environ()
    environ |= {"REQUEST_URI": more.get("uri", path), "SERVER_PROTOCOL": "HTTP/1.1"}
    return to_event(Request(environ), "$default", more.get("path_parameters", {}))


def test_awss_own_sample() -> None:
    """The request behind AWS's sample gives AWS's sample: the same fields, in the same shape."""
    event = _event(
        query=AWS_SAMPLE["rawQueryString"],
        headers=[
            ("Header1", "value1"),
            ("Header2", "value1,value2"),
            ("Cookie", "cookie1; cookie2"),
            ("User-Agent", "agent"),
            ("Content-Type", "text/plain"),
            ("Host", "id.execute-api.us-east-1.amazonaws.com"),
        ],
        body=b"Hello from Lambda",
        path_parameters={"parameter1": "value1"},
    )
    assert event.keys() == AWS_SAMPLE.keys()
    for name in AWS_SAMPLE.keys() - {"headers", "requestContext"}:
        assert event[name] == AWS_SAMPLE[name], name
    assert event["headers"].items() >= AWS_SAMPLE["headers"].items()
    context, sample = event["requestContext"], AWS_SAMPLE["requestContext"]
    assert context.keys() == sample.keys()
    assert context["http"].keys() == sample["http"].keys()
    for name in sample.keys() - OURS_TO_CHOOSE:
        assert context[name] == sample[name], name
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", context["time"])
    assert isinstance(context["timeEpoch"], int)


def test_header_names_are_lower_case() -> None:
    """All of them, and what the gateway adds is there."""
    headers = _event(headers=[("X-Pocketsflow-Event", "e"), ("Cookie", "a=1")])["headers"]
    assert all(name == name.lower() for name in headers)
    assert headers["x-pocketsflow-event"] == "e"
    assert "cookie" not in headers
    assert {"host", "x-forwarded-for", "x-forwarded-port", "x-forwarded-proto"} <= headers.keys()


def test_what_is_empty_is_absent() -> None:
    """No body, query, cookies or path parameters: no such fields."""
    event = _event()
    assert event.keys() == AWS_SAMPLE.keys() - {"body", "cookies", "queryStringParameters", "pathParameters"}
    assert event["isBase64Encoded"] is False
    assert event["rawQueryString"] == ""


@pytest.mark.parametrize(
    ("content_type", "body", "encoded"),
    [
        ("application/json", b"{}", False),
        ("application/json; charset=utf-8", b"{}", False),
        ("text/plain", "ü".encode(), False),
        ("application/xml", b"<a/>", False),
        ("application/javascript", b"1", False),
        ("application/x-www-form-urlencoded", b"a=1", True),
        ("application/octet-stream", b"\x00", True),
        ("", b"{}", True),
        ("application/json", b"\xff", True),
    ],
)
def test_what_is_not_text_comes_as_base64(content_type: str, body: bytes, encoded: bool) -> None:
    """Decided from the content type, and nothing is lost either way."""
    event = _event(headers=[("Content-Type", content_type)] if content_type else [], body=body)
    assert event["isBase64Encoded"] is encoded
    assert (base64.b64decode(event["body"]) if encoded else event["body"].encode()) == body


def test_the_path_is_decoded_and_the_query_is_not() -> None:
    """An HTTP API decodes rawPath, unlike a REST API; rawQueryString is as it was sent."""
    event = _event(path="/a b/ü", uri="/a%20b/%C3%BC?x=%20&y", query="x=%20&y")
    assert event["rawPath"] == "/a b/ü"
    assert event["rawQueryString"] == "x=%20&y"
    assert event["queryStringParameters"] == {"x": " ", "y": ""}


@pytest.mark.parametrize(
    ("answer", "status", "content_type", "body"),
    [
        ({"statusCode": 201, "headers": {"Content-Type": "a/b"}, "body": "x"}, 201, "a/b", b"x"),
        ({"statusCode": 200, "body": base64.b64encode(b"\x00").decode(), "isBase64Encoded": True}, 200, None, b"\x00"),
        ({"hello": 1}, 200, "application/json", b'{"hello": 1}'),
        ("text", 200, "application/json", b'"text"'),
        ({"errorMessage": "x", "errorType": "y"}, 500, "application/json", b'{"message": "Internal Server Error"}'),
    ],
    ids=["whole", "base64", "inferred object", "inferred text", "failed"],
)
def test_answers(answer: Any, status: int, content_type: str | None, body: bytes) -> None:
    """Format 2.0: whole answers as they are, others inferred as JSON, a failed function as 500."""
    response = to_response(answer)
    assert (response.status_code, response.get_data()) == (status, body)
    assert content_type is None or response.headers["content-type"] == content_type


def test_cookies_of_an_answer() -> None:
    """Each becomes a Set-Cookie of its own."""
    response = to_response({"statusCode": 200, "cookies": ["a=1", "b=2; Secure"]})
    assert response.headers.getlist("set-cookie") == ["a=1", "b=2; Secure"]


def test_unknown_routes_and_methods(sandbox: Sandbox) -> None:
    """404 from the gateway itself, in its own words."""
    for method, path in (
        ("GET", "/checkout"),
        ("POST", "/"),
        ("GET", "/orders"),
        ("GET", "/orders/a/b"),
        ("PUT", "/webhooks/pocketsflow"),
    ):
        answer = http.request(method, sandbox.api + path, timeout=15)
        assert (answer.status_code, answer.json()) == (404, {"message": "Not Found"})


def test_a_body_over_six_megabytes(sandbox: Sandbox) -> None:
    """413 from the gateway: no function sees it. Base64 counts as it grows."""
    for size, kind in ((MAX_PAYLOAD + 1, "application/json"), (MAX_PAYLOAD * 3 // 4, "application/octet-stream")):
        answer = http.post(f"{sandbox.api}/checkout", data=b"x" * size, headers={"Content-Type": kind}, timeout=30)
        assert (answer.status_code, answer.json()) == (413, {"message": "Request Entity Too Large"})


def test_duplicate_headers_are_joined() -> None:
    """Sent twice on the wire, a header arrives once, its values joined by a comma."""
    events: list[Any] = []

    def application(environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        events.append(to_event(request, "$default", {}))
        return Response()(environ, start_response)

    server = Server(0)
    server.start(application)
    with socket.create_connection(("127.0.0.1", server.port), timeout=15) as connection:
        lines = ["GET / HTTP/1.1", f"Host: 127.0.0.1:{server.port}", "Connection: close", "A: 1", "a: 2"]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    server.close()
    assert events[0]["headers"]["a"] == "1,2"


def test_preflight_is_answered_by_the_gateway(sandbox: Sandbox) -> None:
    """From the template alone: an allowed origin is told what it may do, another is told nothing."""
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,idempotency-key"}
    allowed = http.options(f"{sandbox.api}/checkout", headers={"Origin": sandbox.shop, **asked}, timeout=15)
    assert allowed.status_code == 204
    assert allowed.headers["access-control-allow-origin"] == sandbox.shop
    assert "POST" in allowed.headers["access-control-allow-methods"]
    named = set(allowed.headers["access-control-allow-headers"].split(","))
    assert named == {"content-type", "idempotency-key", "authorization"}  # the last for members, who are on here
    for headers in (
        {"Origin": "https://evil.example", **asked},
        {"Origin": f"{sandbox.shop}.evil.example", **asked},
        {"Origin": sandbox.shop, "Access-Control-Request-Method": "DELETE"},
    ):
        refused = http.options(f"{sandbox.api}/checkout", headers=headers, timeout=15)
        assert refused.status_code == 204
        assert not [name for name in refused.headers if name.lower().startswith("access-control")]


def test_cors_of_an_answer(sandbox: Sandbox) -> None:
    """The allowed origin reads the answer, errors and Retry-After included; a foreign one does not."""
    answer = sandbox.checkout({"sku": "?"}, Origin=sandbox.shop)
    assert answer.status_code == 400
    assert answer.headers["access-control-allow-origin"] == sandbox.shop
    assert answer.headers["access-control-expose-headers"] == "retry-after"
    assert "access-control-allow-origin" not in sandbox.checkout(Origin="https://evil.example").headers


def test_answers_are_json_with_their_type(sandbox: Sandbox) -> None:
    """Problems keep their own content type through the gateway."""
    answer = http.post(f"{sandbox.api}/webhooks/pocketsflow", data=b"{}", timeout=15)
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(answer.content)["code"] == "invalid_signature"
