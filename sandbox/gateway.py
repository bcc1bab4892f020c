"""A stand-in for API Gateway's HTTP API: HTTP to payload 2.0 events and back.

Faithful to docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html and
http-api-cors.html. Left out: throttling and the access log.
"""

import base64
import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote
from wsgiref.types import StartResponse, WSGIEnvironment

from werkzeug.wrappers import Request, Response

from sandbox.invocation import Invocable
from sandbox.template import Template

MAX_PAYLOAD = 6 * 1024 * 1024  # Lambda's limit for a synchronous call
_TEXT = re.compile(r"text/.+|application/(json|javascript|xml)")


class Gateway:
    """The WSGI application. `control` answers what begins with `/_sandbox/`, which is the sandbox's own."""

    def __init__(
        self, template: Template, workers: Mapping[str, Invocable], control: Callable[[Request], Response]
    ) -> None:
        self._control = control
        self._cors = template.cors()
        self._routes = [
            (f"{method} {path}", _pattern(f"{method} {path}"), workers[function.logical_id])
            for function in template.functions()
            for method, path in function.routes
        ]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        if request.path.startswith("/_sandbox/"):
            return self._control(request)(environ, start_response)
        origin = request.headers.get("Origin", "")
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response = self._preflight(origin, request.headers["Access-Control-Request-Method"])
        else:
            response = self._route(request)
            response.headers.extend(self._cors_headers(origin))
        response.headers["apigw-requestid"] = uuid.uuid4().hex[:16]
        return response(environ, start_response)

    def _route(self, request: Request) -> Response:
        path = unquote(_raw_path(request))
        for route_key, pattern, worker in self._routes:
            match = pattern.fullmatch(f"{request.method} {path}")
            if match:
                return self._invoke(request, route_key, match.groupdict(), worker)
        return _message(404, "Not Found")

    def _invoke(
        self, request: Request, route_key: str, path_parameters: Mapping[str, str], worker: Invocable
    ) -> Response:
        if (request.content_length or 0) > MAX_PAYLOAD:
            return _message(413, "Request Entity Too Large")
        event = to_event(request, route_key, path_parameters)
        if len(json.dumps(event)) > MAX_PAYLOAD:
            return _message(413, "Request Entity Too Large")
        return to_response(worker.invoke(event))

    def _preflight(self, origin: str, method: str) -> Response:
        response = Response(status=204)
        if method in self._cors["AllowMethods"] and (allowed := self._cors_headers(origin)):
            response.headers.extend(allowed)
            response.headers["access-control-allow-methods"] = ",".join(self._cors["AllowMethods"])
            response.headers["access-control-allow-headers"] = ",".join(self._cors["AllowHeaders"])
            response.headers["access-control-max-age"] = str(self._cors["MaxAge"])
        return response

    def _cors_headers(self, origin: str) -> dict[str, str]:
        if origin not in self._cors["AllowOrigins"]:
            return {}
        return {
            "access-control-allow-origin": origin,
            "access-control-expose-headers": ",".join(self._cors["ExposeHeaders"]),
            "vary": "Origin",
        }


def to_event(request: Request, route_key: str, path_parameters: Mapping[str, str]) -> dict[str, Any]:
    """The payload 2.0 event of a request. What is empty is absent, as on AWS."""
    now = datetime.now(UTC)
    headers = {name.lower(): value for name, value in request.headers.items() if name.lower() != "cookie"}
    scheme, port = request.scheme, request.host.rpartition(":")[2]
    headers |= {"x-forwarded-for": "127.0.0.1", "x-forwarded-port": port, "x-forwarded-proto": scheme}
    path = unquote(_raw_path(request))
    raw_query = request.environ.get("QUERY_STRING", "")
    query: dict[str, str] = {}
    for name, value in parse_qsl(raw_query, keep_blank_values=True):
        query[name] = f"{query[name]},{value}" if name in query else value
    body = request.get_data()
    is_text = _is_text(request.headers.get("Content-Type", ""), body)
    optional = {
        "cookies": [cookie.strip() for cookie in request.headers.get("Cookie", "").split(";") if cookie.strip()],
        "queryStringParameters": query,
        "pathParameters": dict(path_parameters),
        "body": body.decode() if is_text else base64.b64encode(body).decode(),
    }
    return {
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": path,  # decoded, unlike a REST API's or a function URL's
        "rawQueryString": raw_query,
        "headers": headers,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "sandbox",
            "domainName": request.host,
            "domainPrefix": request.host.partition(".")[0],
            "http": {
                "method": request.method,
                "path": path,
                "protocol": request.environ["SERVER_PROTOCOL"],
                "sourceIp": "127.0.0.1",
                "userAgent": request.headers.get("User-Agent", ""),
            },
            "requestId": uuid.uuid4().hex[:16],
            "routeKey": route_key,
            "stage": "$default",
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(now.timestamp() * 1000),
        },
        "isBase64Encoded": bool(body) and not is_text,
        **{name: value for name, value in optional.items() if value},
    }


def to_response(answer: Any) -> Response:
    """The HTTP answer for what a function returned; 500 for a function that failed, as API Gateway gives it."""
    if isinstance(answer, dict) and "errorMessage" in answer:
        return _message(500, "Internal Server Error")
    if not isinstance(answer, dict) or "statusCode" not in answer:  # format 2.0 infers the rest
        return _json(200, answer)
    body = answer.get("body", "")
    content = base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()
    response = Response(content, status=int(answer["statusCode"]))
    response.headers["content-type"] = "text/plain;charset=UTF-8"
    for name, value in answer.get("headers", {}).items():
        response.headers[name] = str(value)
    for cookie in answer.get("cookies", []):
        response.headers.add("set-cookie", cookie)
    return response


def _is_text(content_type: str, body: bytes) -> bool:
    """Text, JSON, XML and JavaScript come as text, all else as base64: form bodies too."""
    if not _TEXT.fullmatch(content_type.partition(";")[0].strip().lower()):
        return False
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _raw_path(request: Request) -> str:
    """The path as sent, still percent-encoded: PATH_INFO has lost what was in it."""
    raw: str = request.environ.get("REQUEST_URI") or request.environ["PATH_INFO"]
    return raw.partition("?")[0]


def _pattern(route_key: str) -> re.Pattern[str]:
    """`GET /orders/{orderId}`: a variable matches one segment."""
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(route_key)))


def _message(status: int, text: str) -> Response:
    return _json(status, {"message": text})


def _json(status: int, content: Any) -> Response:
    return Response(json.dumps(content), status=status, content_type="application/json")
