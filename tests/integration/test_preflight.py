"""The check inside the deployment of a live stack."""

import json
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.wrappers import Request, Response

import preflight
from sandbox.servers import Server

REAL = {"productId": "65a1b2c3d4e5f6a7b8c9d0e1", "name": "Mug", "price": "12.00", "currency": "usd"}


@pytest.fixture
def cloudformation() -> Iterator[tuple[str, list[Any]]]:
    """The presigned address a custom resource answers to, and what was put there."""
    answers: list[Any] = []

    def application(environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        assert (request.method, request.headers.get("Content-Type", "")) == ("PUT", "")
        answers.append(json.loads(request.get_data()))
        return Response()(environ, start_response)

    server = Server(0)
    server.start(application)
    yield f"{server.url}/?X-Amz-Signature=x", answers
    server.close()


@pytest.mark.parametrize(
    ("products", "addresses", "status", "reason"),
    [
        ({"mug": REAL}, ["https://shop.example"], "SUCCESS", "ready"),
        (None, ["https://shop.example"], "FAILED", "needs products in functions/catalogue.json"),
        ({}, ["https://shop.example"], "FAILED", "needs products in functions/catalogue.json"),
        ({"mug": {**REAL, "productId": "0" * 24}}, ["https://shop.example"], "FAILED", "sample products"),
        ({"mug": {**REAL, "price": 12}}, ["https://shop.example"], "FAILED", "mug: price"),
        ({"mug": REAL}, ["http://localhost:8000"], "FAILED", "AllowedOrigins must be https"),
        ({"mug": REAL}, ["https://shop.example", "https://www.shop.example/ok"], "FAILED", "on one of AllowedOrigins"),
        ({"mug": REAL}, ["https://shop.example", "https://shop.example/ok"], "SUCCESS", "ready"),
    ],
)
def test_a_live_stack_deploys_only_when_it_can_sell(
    cloudformation: tuple[str, list[Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    products: Any,
    addresses: list[str],
    status: str,
    reason: str,
) -> None:
    """CloudFormation is told SUCCESS, or FAILED with what to mend."""
    url, answers = cloudformation
    monkeypatch.setattr(preflight, "PRODUCT_PER_ORDER", False)
    file = tmp_path / "catalogue.json"
    if products is not None:
        file.write_text(json.dumps({"products": products}))
    monkeypatch.setattr(preflight, "CATALOGUE", file)
    monkeypatch.setattr(preflight, "ORIGINS", addresses[:1])
    monkeypatch.setattr(preflight, "RETURN_ADDRESSES", addresses[1:])
    ids = {"StackId": "arn:stack", "RequestId": "r", "LogicalResourceId": "Preflight"}
    preflight.handler({"RequestType": "Create", "ResponseURL": url, **ids}, None)
    [answer] = answers
    assert answer["Status"] == status
    assert reason in answer["Reason"]
    assert answer == {**answer, **ids, "PhysicalResourceId": "preflight"}


def test_a_shop_of_carts_deploys_without_products(
    cloudformation: tuple[str, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server names what is sold; a sample is nothing to sell all the same."""
    url, answers = cloudformation
    event = {"RequestType": "Create", "ResponseURL": url, "StackId": "s", "RequestId": "r", "LogicalResourceId": "l"}
    monkeypatch.setattr(preflight, "PRODUCT_PER_ORDER", True)
    monkeypatch.setattr(preflight, "ORIGINS", ["https://shop.example"])
    for products in ({}, {"mug": {**REAL, "productId": "0" * 24}}):
        (tmp_path / "catalogue.json").write_text(json.dumps({"products": products}))
        monkeypatch.setattr(preflight, "CATALOGUE", tmp_path / "catalogue.json")
        preflight.handler(event, None)
    assert [answer["Status"] for answer in answers] == ["SUCCESS", "FAILED"]


def test_deleting_the_stack_is_never_refused(cloudformation: tuple[str, list[Any]]) -> None:
    """Delete succeeds whatever the catalogue holds: the shipped sample would be refused."""
    url, answers = cloudformation
    preflight.handler(
        {"RequestType": "Delete", "ResponseURL": url, "StackId": "s", "RequestId": "r", "LogicalResourceId": "l"}, None
    )
    assert answers[0]["Status"] == "SUCCESS"


@pytest.mark.parametrize("status", [403, None])
def test_an_answer_that_is_not_taken(monkeypatch: pytest.MonkeyPatch, status: int | None) -> None:
    """The function fails, so that Lambda tries again, and what it logs does not have the presigned address."""
    server = Server(0)
    server.start(Response("SignatureDoesNotMatch: presigned", status=status or 200))
    url = server.url
    if status is None:
        server.close()
    event = {"RequestType": "Delete", "ResponseURL": f"{url}/?X-Amz-Signature=presigned"}
    with pytest.raises(preflight.NotTold) as raised:
        preflight.handler({**event, "StackId": "s", "RequestId": "r", "LogicalResourceId": "l"}, None)
    assert "presigned" not in "".join(traceback.format_exception(raised.value))
    if status is not None:
        server.close()
