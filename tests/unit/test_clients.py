"""The clients of `payments/aws.py`, whose session reads less than botocore's own, send what botocore's would."""

import json
from typing import Any

import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import UnknownServiceError

from payments import aws

OPERATIONS = {
    "dynamodb": "list_tables",
    "secretsmanager": "list_secrets",
    "sqs": "list_queues",
    "events": "list_event_buses",
    "s3": "list_buckets",
    "kms": "list_keys",
    "sesv2": "list_email_identities",
}
IDENTITY = "get_caller_identity"
BODIES = {"s3": b"<x/>", "sts": b"<x><GetCallerIdentityResult/></x>"}
"""Of services that answer in XML."""
REGIONS = ("eu-west-1", "us-east-1", "us-gov-west-1", "cn-north-1")
"""Of each partition that a shop may be in: their addresses end differently."""
WHOLE = botocore.session.get_session()
"""With all of botocore's data."""


def sent(session: Any, service: str, region: str) -> tuple[str, str, str]:
    """The address that a request of such a client goes to, and the region and service that it is signed for."""
    requests: list[Any] = []
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    config = Config(s3=aws.client("s3").meta.config.s3)  # type: ignore[attr-defined]
    client = session.create_client(service, region_name=region, config=config, **keys)

    def answer(request: Any, **_: Any) -> AWSResponse:
        requests.append(request)
        response = AWSResponse(request.url, 200, {}, None)
        response._content = BODIES.get(service, b"{}")
        return response

    client.meta.events.register_first("before-send", answer)
    getattr(client, OPERATIONS.get(service, IDENTITY))()
    [request] = requests
    _, _, scope = request.headers["Authorization"].decode().partition("Credential=x/")
    _, signed_region, signed_service, *_ = scope.split("/")
    return request.url, signed_region, signed_service


def test_these_are_all_services() -> None:
    """The comparison below is of every service that a function may ask."""
    assert set(OPERATIONS) == set(aws.READ_SECONDS)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("service", OPERATIONS)
def test_requests_go_where_botocore_would_send_them(service: str, region: str) -> None:
    """Without the endpoints that botocore ships, each service's own rules lead to the same address and signature."""
    assert sent(aws._session, service, region) == sent(WHOLE, service, region)


@pytest.mark.parametrize("service", ["sts", "sso", "sso-oidc"])
def test_keys_may_come_from_a_role_or_a_single_sign_on(service: str) -> None:
    """botocore asks for a person's keys by the same session."""
    assert aws._session.create_client(service, region_name="eu-west-1").meta.service_model.service_name == service


@pytest.mark.parametrize("region", REGIONS)
def test_a_role_is_asked_for_where_botocore_would_ask(region: str) -> None:
    assert sent(aws._session, "sts", region) == sent(WHOLE, "sts", region)


def test_another_service_needs_its_time_first() -> None:
    """A client whose worst case nobody has thought about is not made."""
    with pytest.raises(UnknownServiceError):
        aws._session.create_client("ec2", region_name="eu-west-1")


def test_the_data_of_a_service_is_botocore_s() -> None:
    """Only what no client asks for is left out."""
    ours, whole = aws._session.get_service_model("dynamodb"), WHOLE.get_service_model("dynamodb")
    assert json.dumps(ours._service_description, default=str) == json.dumps(whole._service_description, default=str)
