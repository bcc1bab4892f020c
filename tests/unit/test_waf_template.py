"""infra/waf.yaml: a firewall that never stands between Pocketsflow and the webhook."""

import re
from typing import Any

import pytest

from sandbox.template import PSEUDO_PARAMETERS, ROOT, Template, parse
from tests.unit.test_template import ROUTES

TEXT = (ROOT / "infra/waf.yaml").read_text()
ORIGIN = "abc123.execute-api.eu-west-1.amazonaws.com"
OWN = {
    "DomainName": "pay.shop.example",
    "CertificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/11111111-2222-3333-4444-555555555555",
}


def one(kind: str, **parameters: str) -> dict[str, Any]:
    [(_, found)] = Template(TEXT, {"Origin": ORIGIN, **parameters}).resources(kind)
    return found


def rules() -> list[dict[str, Any]]:
    return sorted(one("AWS::WAFv2::WebACL")["Rules"], key=lambda rule: int(rule["Priority"]))


def test_the_webhook_passes_before_anything_is_looked_at() -> None:
    """Its rule is the first and ends there: no rate, no list of addresses, no look into a body applies to it."""
    webhook = rules()[0]
    assert webhook["Action"] == {"Allow": {}}
    matches = [each["ByteMatchStatement"] for each in webhook["Statement"]["AndStatement"]["Statements"]]
    assert {each["PositionalConstraint"] for each in matches} == {"EXACTLY"}
    method, path = matches[1]["SearchString"], matches[0]["SearchString"]
    assert f"{method} {path}" in ROUTES
    assert [next(iter(each["FieldToMatch"])) for each in matches] == ["UriPath", "Method"]


def test_everything_else_is_counted_by_address() -> None:
    """Since behind CloudFront the API sees CloudFront's addresses, not the buyers'."""
    limit = rules()[1]
    assert limit["Statement"] == {
        "RateBasedStatement": {"Limit": 300, "EvaluationWindowSec": 300, "AggregateKeyType": "IP"}
    }
    answer = limit["Action"]["Block"]["CustomResponse"]
    assert answer["ResponseCode"] == 429
    assert {each["Name"]: each["Value"] for each in answer["ResponseHeaders"]} == {
        "Retry-After": "300",
        "Access-Control-Allow-Origin": "*",  # CloudFront answers by itself, without API Gateway's headers
        "Access-Control-Expose-Headers": "retry-after",
    }


def test_it_keeps_nothing_about_anybody() -> None:
    """Samples of requests have addresses and headers in them."""
    for rule in [one("AWS::WAFv2::WebACL"), *rules()]:
        assert rule["VisibilityConfig"]["SampledRequestsEnabled"] is False
    assert "Logging" not in one("AWS::CloudFront::Distribution")["DistributionConfig"]


@pytest.mark.parametrize(
    ("parameters", "policy"),
    [({}, "b689b0a8-53d0-4c38-baf2-67738e2966ac"), (OWN, "216adef6-5c7f-47e4-b989-5492eafa07d3")],
)
def test_a_request_arrives_as_it_was_sent(parameters: dict[str, str], policy: str) -> None:
    """Every method, header and query, uncached; over TLS on both sides, and without a redirect that would lose a body.
    With a domain of its own the API is asked by it, or it would not know whom it is for."""
    distribution = one("AWS::CloudFront::Distribution", **parameters)["DistributionConfig"]
    behaviour = distribution["DefaultCacheBehavior"]
    assert "CacheBehaviors" not in distribution
    assert {"POST", "PUT", "OPTIONS"} <= set(behaviour["AllowedMethods"])
    assert behaviour["ViewerProtocolPolicy"] == "https-only"
    assert behaviour["CachePolicyId"] == "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"  # Managed-CachingDisabled
    assert behaviour["OriginRequestPolicyId"] == policy
    assert not behaviour.keys() & {"LambdaFunctionAssociations", "FunctionAssociations"}
    [origin] = distribution["Origins"]
    assert origin["DomainName"] == ORIGIN
    assert origin["CustomOriginConfig"] == {"OriginProtocolPolicy": "https-only", "OriginSSLProtocols": ["TLSv1.2"]}


def test_a_domain_of_its_own_needs_tls_1_2() -> None:
    """CloudFront's own takes what CloudFront takes."""
    certificate = one("AWS::CloudFront::Distribution", **OWN)["DistributionConfig"]["ViewerCertificate"]
    assert certificate["MinimumProtocolVersion"] == "TLSv1.2_2021"
    assert certificate["AcmCertificateArn"] == OWN["CertificateArn"]
    plain = one("AWS::CloudFront::Distribution")["DistributionConfig"]
    assert (plain["ViewerCertificate"], "Aliases" in plain) == ({"CloudFrontDefaultCertificate": True}, False)


def test_it_is_made_where_cloudfront_s_firewalls_are() -> None:
    """Elsewhere it is refused before anything is made; so it is a stack of its own."""
    [rule] = parse(TEXT)["Rules"]["OnlyInUsEast1"]["Assertions"]
    assert rule["Assert"] == {"Fn::Equals": [{"Ref": "AWS::Region"}, "us-east-1"]}
    assert one("AWS::WAFv2::WebACL")["Scope"] == "CLOUDFRONT"
    assert PSEUDO_PARAMETERS["AWS::Region"] != "us-east-1"


def test_the_price_that_is_named() -> None:
    """Five dollars for the list, one for each rule."""
    text = (ROOT / "README.md").read_text()
    assert f"5.00 + {len(rules())} × 1.00" in text
    assert f"{5 + len(rules()):.2f} $ a month" in text


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        (ORIGIN, True),
        ("d-abc.execute-api.eu-west-1.amazonaws.com", True),
        ("https://" + ORIGIN, False),
        ("evil.example", False),
        (ORIGIN + ".evil.example", False),
    ],
)
def test_the_origin_is_an_api_s(value: str, accepted: bool) -> None:
    """What stands behind the firewall gets every request."""
    pattern = parse(TEXT)["Parameters"]["Origin"]["AllowedPattern"]
    assert (re.fullmatch(pattern, value) is not None) is accepted
