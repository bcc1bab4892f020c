"""infra/openapi.yaml against the template, the constants and the source of the functions, and their real readers."""

import json
import re
import string
from typing import Any, get_args
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

import access
from connectors import entitlements
from payments import addresses, catalogue, checkout_request, forms, ledger, opening, orders, server_keys
from payments.catalogue import Item
from payments.checkout_request import CheckoutRequest, Rules
from sandbox.template import ROOT, Template
from tests.conftest import EXAMPLES, template
from tests.openapi import (
    DOCUMENT,
    ENTRIES,
    FORM,
    HTML,
    IMPOSSIBLE,
    JSON,
    OPERATIONS,
    PROBLEM,
    Operation,
    Source,
    deref,
    errors,
    examples,
    schema,
)

OF_GATEWAY = {413, 429, 500, 503}
"""Statuses that API Gateway answers with in words of its own on a route that is there."""
EVERY = pytest.mark.parametrize("operation", [pytest.param(each, id=route) for route, each in OPERATIONS.items()])
RULES = Rules(
    catalogue={"course": Item("65a1b2c3d4e5f6a7b8c9d0e1", "course")},
    origins=["https://shop.example"],
    loopback=False,
    success_url="https://shop.example/thank-you",
    cancel_url="https://shop.example/cart",
)


def every(name: str, thing: Any = DOCUMENT) -> list[Any]:
    """Each value of that name, anywhere."""
    if isinstance(thing, list):
        return [found for each in thing for found in every(name, each)]
    if not isinstance(thing, dict):
        return []
    return [value for key, value in thing.items() if key == name] + [
        found for value in thing.values() for found in every(name, value)
    ]


# --- The document -----------------------------------------------------------------------------------------------------


def test_it_is_valid() -> None:
    """As OpenAPI 3.1, and every part of it is used."""
    validate(DOCUMENT, cls=OpenAPIV31SpecValidator)
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["servers"] == [{"url": "/"}]
    used = set(every("$ref"))
    for kind, named in DOCUMENT["components"].items():
        for name in named:
            assert kind == "securitySchemes" or f"#/components/{kind}/{name}" in used, name


@pytest.mark.parametrize("server", ["off", "on"])
def test_its_routes_are_the_template_s(server: str) -> None:
    """Those for servers and members are there where a parameter says so, and are marked so."""
    there = {
        f"{method} {path}"
        for function in template(ServerRoutes=server, Membership=server).functions()
        for method, path in function.routes
    }
    documented = {
        route
        for route, operation in OPERATIONS.items()
        if server == "on" or not {"server", "members"} & {*operation.content["tags"]}
    }
    assert documented == there
    assert OPERATIONS.keys() == ENTRIES.keys()


@EVERY
def test_keys_are_for_the_server_s_routes(operation: Operation) -> None:
    """And for no other, but a member's session for one; each says so, and what a path has in it is a parameter."""
    is_server = operation.route.split()[1].startswith("/server/")
    session = [{"session": []}] if operation.route == "GET /access" else []
    assert operation.content["security"] == ([{"key": []}] if is_server else session)
    assert ("401" in operation.content["responses"] and is_server) == is_server
    named = [parameter["name"] for parameter in operation.parameters() if parameter["in"] == "path"]
    assert named == re.findall(r"\{(\w+)\}", operation.route)


def test_the_key_is_described_as_it_is() -> None:
    """Scheme and shape."""
    scheme = DOCUMENT["components"]["securitySchemes"]["key"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert server_keys._TOKEN.pattern == r"pfs_test_[A-Za-z0-9_-]{43}"
    assert "`pfs_<stage>_` and 43 characters" in scheme["description"]
    assert access._SESSION.pattern == r"pfm_test_[A-Za-z0-9_-]{43}"
    assert "`pfm_<stage>_` and 43 characters" in DOCUMENT["components"]["securitySchemes"]["session"]["description"]
    assert schema("AccessRequest")["properties"]["code"]["pattern"] == f"^{access._CODE.pattern}$"
    assert schema("LinkRequest")["properties"]["email"]["pattern"] == f"^{entitlements._ADDRESS.pattern}$"


# --- Limits and patterns ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("Sku", catalogue._SKU),
        ("ProductId", checkout_request._PRODUCT_ID),
        # To Python U+0085 is white space, to ECMAScript it is not.
        ("Email", checkout_request._EMAIL),
        ("DiscountCode", checkout_request._DISCOUNT_CODE),
        ("ReturnAddress", addresses._PLAIN),
        ("ChallengeToken", checkout_request._CHALLENGE_TOKEN),
        ("Reference", orders.REFERENCE),
        ("ProductName", checkout_request._NAME),
    ],
)
def test_patterns_are_those_of_the_source(name: str, pattern: re.Pattern[str]) -> None:
    """Letter by letter, of the whole text."""
    assert schema(name)["pattern"] == f"^{pattern.pattern}$"


def test_limits_are_those_of_the_source() -> None:
    """Lengths, numbers of keys, reserved names, bytes."""
    metadata, reserved = schema("Metadata"), "|".join(checkout_request.RESERVED_METADATA)
    assert metadata["maxProperties"] == checkout_request.MAX_METADATA_KEYS
    assert metadata["propertyNames"]["minLength"] == 1
    assert metadata["propertyNames"]["maxLength"] == checkout_request.MAX_METADATA_KEY
    assert metadata["propertyNames"]["pattern"] == rf"^(?!{reserved})[^\x00]*$"
    assert metadata["additionalProperties"]["maxLength"] == checkout_request.MAX_METADATA_VALUE
    [(of_form, value)] = schema("CheckoutForm")["patternProperties"].items()
    assert of_form == rf"^metadata\[(?!{reserved})[^\[\]\x00]{{1,{checkout_request.MAX_METADATA_KEY}}}\]$"
    assert value == metadata["additionalProperties"]
    assert schema("CheckoutForm")["maxProperties"] == forms._MAX_FIELDS
    assert schema("ReturnAddress")["maxLength"] == addresses.MAX_LENGTH
    total = schema("Total")["properties"]
    assert total["amount"]["pattern"] == f"^{checkout_request._AMOUNT.pattern}$"
    assert checkout_request._AMOUNT.pattern.endswith(catalogue._FIELDS["price"].pattern)
    assert total["currency"]["pattern"] == f"^{checkout_request._CURRENCY.pattern}$"
    for route, operation in OPERATIONS.items():
        if "requestBody" in operation.content:
            most = 256 * 1024 if "webhooks" in route else checkout_request.MAX_BODY
            most = access.MAX_BODY if "access" in route else most
            assert f"At most {most:,} bytes" in operation.content["requestBody"]["description"]


def test_the_idempotency_key_is_the_source_s() -> None:
    """In capitals, too: the source makes them small. Empty is none."""
    pattern = DOCUMENT["components"]["parameters"]["IdempotencyKey"]["schema"]["pattern"]
    assert pattern.replace("a-fA-F", "a-f") == f"^({opening._UUID.pattern})?$"


def test_order_ids() -> None:
    """As they are made, of any stage that there may be."""
    pattern = schema("OrderId")["pattern"]
    assert re.fullmatch(pattern, f"ord_test_{'0' * 26}")
    assert orders._ID.pattern.endswith(f"[{orders._CROCKFORD}]{{26}}")
    for character in string.printable:
        matches = re.search(pattern, f"ord_test_{character}{'0' * 25}") is not None
        assert matches == (character in orders._CROCKFORD), character
    stage = re.fullmatch(r"\^ord_(.+)_\[.*", pattern)
    allowed = Template((ROOT / "template.yaml").read_text(), {})._content["Parameters"]["Stage"]["AllowedPattern"]
    assert stage is not None
    assert allowed == f"^(?!sandbox$){stage[1]}$"


def test_words_are_those_of_the_source() -> None:
    """Statuses of an order, outcomes of a webhook."""
    assert schema("Status")["enum"] == list(get_args(orders.Status))
    assert schema("Receipt")["properties"]["outcome"]["enum"] == [*get_args(ledger.Outcome), "parked", "self_test"]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("CheckoutRequest", checkout_request._FIELDS | {"challengeToken"}),
        ("CheckoutForm", (checkout_request._FIELDS | {"challengeToken", *forms._TOKENS}) - {"metadata"}),
        ("ServerCheckoutRequest", checkout_request._TRUSTED),
        ("Registration", checkout_request._REGISTERED - {"reference"}),
        ("Total", {"amount", "currency"}),
    ],
)
def test_fields_are_those_of_the_source(name: str, fields: set[str]) -> None:
    """All of them, and no other is allowed."""
    assert schema(name)["properties"].keys() == fields
    assert schema(name)["additionalProperties"] is False


# --- Problems ---------------------------------------------------------------------------------------------------------


@EVERY
def test_codes_are_those_of_the_source(operation: Operation) -> None:
    """Each that the route's function can answer, at its status, and no other."""
    assert operation.codes() == Source().codes(operation.route)


def test_the_source_is_read() -> None:
    """As many codes as there are, and no exception that nothing needs."""
    found = {route: Source().codes(route) for route in ENTRIES}
    assert {route: len(codes) for route, codes in found.items()} == {
        "POST /checkout": 25,
        "GET /orders/{orderId}": 2,
        "POST /webhooks/pocketsflow": 5,
        "POST /server/checkout": 24,
        "PUT /server/orders/{reference}": 8,
        "POST /access": 7,
        "GET /access": 3,
        "POST /access/link": 7,
        "GET /.well-known/jwks.json": 1,
    }
    for route, codes in IMPOSSIBLE.items():
        assert codes <= Source().all_codes(route)


@EVERY
def test_answers_of_the_gateway(operation: Operation) -> None:
    """Are documented where it can give them: no throttle for the webhook, no body to be too large without one."""
    statuses = OF_GATEWAY - ({429} if "webhooks" in operation.route else set())
    statuses -= {413} if operation.route.startswith("GET") else set()
    described = {
        int(status)
        for status, answer in operation.content["responses"].items()
        if answer.get("content", {}).get(JSON, {}).get("schema") == {"$ref": "#/components/schemas/GatewayMessage"}
    }
    assert described == statuses


@EVERY
def test_headers_of_answers(operation: Operation) -> None:
    """No answer of ours may be cached; Retry-After is where a code brings it; a 401 names what is wanted."""
    for status, answer in operation.content["responses"].items():
        headers, ours = (
            answer.get("headers", {}),
            set(answer.get("content", {})) - {JSON} or status in "200 201 202 303",
        )
        assert ("Cache-Control" in headers) == bool(ours), status
        if "Cache-Control" in headers:
            required = deref(headers["Cache-Control"]).get("required", False)
            assert required is (int(status) not in OF_GATEWAY or not _of_gateway(answer)), status
        codes = {code for at, code in operation.codes() if at == int(status)}
        waits = {"in_progress", "too_many_checkouts", "ledger_unavailable", "pocketsflow_busy"}
        waits |= {"access_pending", "access_unavailable", "too_many_links"}
        assert ("Retry-After" in headers) == bool(codes & waits and status != "500"), status
        assert ("WWW-Authenticate" in headers) == bool(codes & {"unauthorized", "no_session"}), status


def _of_gateway(answer: dict[str, Any]) -> bool:
    return JSON in answer.get("content", {})


# --- Examples ---------------------------------------------------------------------------------------------------------


@EVERY
def test_every_answer_has_an_example_that_is_valid(operation: Operation) -> None:
    """One for each code, with its status; headers and parameters have valid ones, too."""
    for parameter in operation.parameters():
        assert errors(parameter["schema"], parameter["example"]) == [], parameter["name"]
    for status, answer in operation.content["responses"].items():
        for name, header in answer.get("headers", {}).items():
            for example in examples(deref(header)).values():
                assert errors(deref(header)["schema"], example) == [], name
        for kind, media in answer.get("content", {}).items():
            shown = examples(media)
            assert shown, (status, kind)
            for name, value in shown.items():
                assert errors(media["schema"], value, closed=kind != HTML) == [], (status, name)
                if kind == PROBLEM:
                    assert (value["code"], value["status"]) == (name, int(status))
            if kind == PROBLEM:
                assert {(int(status), name) for name in shown} <= operation.codes()
                assert len(shown) == sum(at == int(status) for at, _ in operation.codes())


@EVERY
def test_details_of_examples_are_the_source_s(operation: Operation) -> None:
    """Word by word, but for numbers."""
    source = "".join((ROOT / f"functions/{path}.py").read_text() for path in Source.MODULES)
    source = source.replace("{checkout_request.MAX_BODY}", str(checkout_request.MAX_BODY))
    source = source.replace("{MAX_BODY}", str(access.MAX_BODY))
    for answer in operation.content["responses"].values():
        for value in examples(answer.get("content", {}).get(PROBLEM, {})).values():
            assert f'"{value["detail"]}"' in source


@EVERY
def test_every_request_has_an_example_that_is_valid_and_accepted(operation: Operation) -> None:
    """By the schema, and by the function's own reader."""
    for kind, media in operation.content.get("requestBody", {}).get("content", {}).items():
        shown = examples(media)
        assert shown
        for name, value in shown.items():
            assert errors(media["schema"], value) == [], name
            if "webhooks" not in operation.route and "access" not in operation.route:
                assert isinstance(accepted(operation.route, kind, value), CheckoutRequest), name


def accepted(route: str, kind: str, value: Any) -> CheckoutRequest | checkout_request.Errors:
    """What the reader of a route makes of a body."""
    has_sku = not isinstance(value, dict) or value.get("productId") in (None, "")
    rules = RULES if has_sku else Rules({}, RULES.origins, False, RULES.success_url, RULES.cancel_url)
    if kind == FORM:
        return checkout_request.read_form(urlencode(value).encode(), rules)
    body = json.dumps(value).encode()
    match route:
        case "POST /checkout":
            return checkout_request.read(body, rules)
        case "POST /server/checkout":
            return checkout_request.read_trusted(body, rules, carts=True)
    return checkout_request.read_registration(body, rules, reference="A-1001")


# --- The schemas and the readers say the same -------------------------------------------------------------------------

SHOP = "https://shop.example/"
AMOUNTS = [
    "60.00",
    "6000",
    "0.001",
    "0.010",
    "0.10",
    "0",
    "0.00",
    "-1",
    "1e3",
    "60.",
    ".6",
    "060",
    "9999999999.999",
    "10000000000",
    "6,00",
    "60\n",
    60,
]
VALUES: dict[str, list[Any]] = {
    "sku": ["course", "course", "course", None],
    "productId": ["65A1b2c3d4e5f6a7b8c9d0e1", None, "", "65a1b2c3d4e5f6a7b8c9d0e", "65a1b2c3d4e5f6a7b8c9d0e1\n"],
    "customerEmail": [
        "a@b", "", "a", "@b", "a b@c", "a@b@c", "a@b\n", "a\x85@b", f"{'a' * 64}@b", f"{'a' * 65}@b",
        f"a@{'b' * 189}", f"a@{'b' * 190}",
    ],
    "discountCode": ["A", "A B", " A", "A ", "A" * 64, "A" * 65, "ä", "A\n"],
    "successUrl": [f"{SHOP}x", "", f"{SHOP}\\", f"{SHOP}\n", f"{SHOP}ä"],
    "cancelUrl": [f"{SHOP}?a=1", f"{SHOP}{'x' * 2027}", f"{SHOP}{'x' * 2028}"],
    "metadata": [
        {}, {"a": "b"}, {"": "b"}, {"a" * 40: "b" * 500}, {"a" * 41: ""}, {"a": "b" * 501}, {"a": 1}, {"a": None},
        "a", [], {"external_order_id": "x"}, {"external_order_idx": "x"}, {"pocketsflow_": "x"}, {"pocketsflow": "x"},
        *({str(number): "" for number in range(most)} for most in (20, 21)), {"a": "\0"}, {"\0": "a"}, {"ü😀": "ü😀\n"},
    ],
    "challengeToken": ["x", "x" * 8192, "x" * 8193, "", "x y", "x\n"],
    "reference": ["A-1", "ord_1", "ORD_1", "-1", "a" * 64, "a" * 65, "a/b", "a\n", ""],
    "total": [
        *({"amount": amount, "currency": "usd"} for amount in AMOUNTS),
        *({"amount": "60.00", "currency": currency} for currency in ("jpy", "USD", "us", "usdt", "usd\n", "ÜSD", None)),
        *({"amount": amount, "currency": currency} for amount in AMOUNTS[:6] for currency in ("jpy", "kwd")),
        {"amount": "60.00"}, {"currency": "usd"}, {"amount": "60.00", "currency": "usd", "tax": "0"}, "60.00", 60,
    ],
    "name": ["Order A-1", "ü😀", "x" * 200, "x" * 201, "", "a\n", "a\x85"],
    "other": ["x", 0, {}],
}  # fmt: skip
ANY = st.sampled_from([None, None, 0, True, [], {}, 1.5, "\0"])


def bodies(values: dict[str, list[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    fields = {
        name: st.one_of(st.sampled_from(some), ANY) for name, some in values.items() if name not in ("sku", "other")
    }
    return st.fixed_dictionaries(
        {"sku": st.sampled_from(values["sku"])},
        optional={**fields, "other": st.sampled_from(values["other"])},
    )


@pytest.mark.parametrize("route", ["POST /checkout", "POST /server/checkout", "PUT /server/orders/{reference}"])
def test_a_body_is_valid_where_the_reader_takes_it(route: str) -> None:
    """And nowhere else: right and wrong values of every field, in any company."""
    media = OPERATIONS[route].content["requestBody"]["content"][JSON]
    known = deref(media["schema"])["properties"]
    # Registration's reference is in the path.
    values = {
        name: some for name, some in VALUES.items() if (route, name) != ("PUT /server/orders/{reference}", "reference")
    }

    @EXAMPLES
    @given(bodies(values))
    def same(body: dict[str, Any]) -> None:
        for name in [name for name, value in body.items() if value is None and name not in known]:
            del body[name]  # taken in silence, as if it were not there
        said, taken = errors(media["schema"], body), accepted(route, JSON, body)
        assert (said == []) == isinstance(taken, CheckoutRequest), (said, taken)

    same()


def test_a_registration_has_no_reference_in_its_body() -> None:
    """One reference in the path and another in the body is a slip, which the caller is told of."""
    assert not isinstance(
        accepted("PUT /server/orders/{reference}", JSON, {"sku": "course", "reference": "A-2"}), CheckoutRequest
    )


def test_a_form_is_valid_where_the_reader_takes_it() -> None:
    """The same of a form, whose values are all text, and whose empty fields are none."""
    media = OPERATIONS["POST /checkout"].content["requestBody"]["content"][FORM]
    known = schema("CheckoutForm")["properties"]
    texts = {
        name: [each for each in some if isinstance(each, str)] for name, some in VALUES.items() if name != "metadata"
    }
    texts |= dict.fromkeys(forms._TOKENS, texts["challengeToken"])
    texts |= {
        f"metadata[{name}]": ["", "x", "x" * 500, "x" * 501, "\0"] for name in ("a", "a" * 40, "a" * 41, "pocketsflow_")
    }

    def text(name: str) -> st.SearchStrategy[str]:
        return st.sampled_from([*texts[name], ""] if name != "other" else ["x"])

    @EXAMPLES
    @given(st.fixed_dictionaries({"sku": text("sku")}, optional={name: text(name) for name in texts if name != "sku"}))
    def same(fields: dict[str, str]) -> None:
        tokens = [name for name in ("challengeToken", *forms._TOKENS) if fields.get(name)]
        for name in tokens[1:]:  # the first counts, whichever that is
            del fields[name]
        for name in [name for name, value in fields.items() if not value and name not in known]:
            del fields[name]  # taken in silence, as if it were not there
        said, taken = errors(media["schema"], fields), accepted("POST /checkout", FORM, fields)
        assert (said == []) == isinstance(taken, CheckoutRequest), (said, taken)

    same()
