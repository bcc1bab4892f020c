"""docs/problems.md and docs/api.md against infra/openapi.yaml and the template."""

import re
from datetime import timedelta

from payments import checkout_request, ledger, limits
from sandbox.template import ROOT, Template
from tests.openapi import OPERATIONS

PROBLEMS = (ROOT / "docs/problems.md").read_text()
API = (ROOT / "docs/api.md").read_text()
README = (ROOT / "README.md").read_text()
SHORT = dict(re.findall(r"\*(\w+)\* (?:is )?`([A-Z]+ [^`]+)`", PROBLEMS))


def rows(text: str) -> list[list[str]]:
    """Of all tables, without their heads."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return [line for line, after in zip(lines, [*lines[1:], [""]], strict=True) if "---" not in line[0] + after[0]]


def test_every_problem_is_explained() -> None:
    """Each code of each route, once, at its status, with a cause and a cure; and no other."""
    assert set(SHORT.values()) == OPERATIONS.keys()
    explained = [
        (SHORT[route], int(status), code.strip("`"))
        for code, status, routes, _, _ in rows(PROBLEMS)
        for route in routes.split(", ")
    ]
    assert len(set(explained)) == len(explained)
    documented = {(route, status, code) for route, each in OPERATIONS.items() for status, code in each.codes()}
    assert set(explained) == documented
    for row in rows(PROBLEMS):
        assert all(len(cell) >= 5 for cell in (*row[3:], row[0])), row


def test_what_is_named_in_a_cure_is_there() -> None:
    """Parameters and outputs are the template's, files are files."""
    template = (ROOT / "template.yaml").read_text()
    named = set(re.findall(r"`([A-Z][a-z]+[A-Z]\w+|Mode)(?:=\w+)?`", PROBLEMS)) - {"Retry-After"}
    assert {"AllowedOrigins", "ApiKeySecret", "Mode", "ServerRoutes"} <= named
    for name in named:
        assert f"\n  {name}:\n" in template, name
    for path in re.findall(r"`((?:functions|infra)/[\w./]+)`", PROBLEMS):
        assert (ROOT / path).exists(), path


def test_rates_are_the_template_s() -> None:
    """The table's line for each of these parameters; with both quotas but where the template wants the large one."""
    lines = [row for row in rows(API) if row[0].startswith("`AccountConcurrency=")]
    assert len(lines) == 10
    for line in lines:
        check_rates(line[0].strip("`"), line)


def check_rates(given: str, line: list[str]) -> None:
    [head] = [line for line in API.splitlines() if line.startswith("| parameters")]
    template = Template((ROOT / "template.yaml").read_text(), dict(each.split("=") for each in given.split()))
    [(_, api)] = template.resources("AWS::Serverless::HttpApi")
    for route, cell in zip(re.findall(r"`([^`]+)`", head), line[1:], strict=True):
        limit = api["RouteSettings"].get(route)
        wanted = f"{limit['ThrottlingRateLimit']}, burst {limit['ThrottlingBurstLimit']}" if limit else "-"
        assert cell == wanted, route


def test_promises_are_kept_by_the_template() -> None:
    """CORS, the preflight's hour, the limit of one address, the day of a key."""
    template = Template((ROOT / "template.yaml").read_text(), {})
    cors = template.cors()
    assert (cors["AllowMethods"], cors["AllowHeaders"]) == (["GET", "POST"], ["content-type", "idempotency-key"])
    assert (cors["ExposeHeaders"], cors["MaxAge"]) == (["retry-after"], 3600)
    assert "AllowCredentials" not in cors
    most = template._parameters["CheckoutsPerAddress"]
    assert f"`CheckoutsPerAddress` checkouts ({most}) in ten minutes" in API
    assert timedelta(minutes=10) == limits.WINDOW
    assert timedelta(days=1) == ledger.KEY_LIFETIME
    assert checkout_request.MAX_BODY == 64 * 1024
    for promise in ("no-store", "RFC 9745", "RFC 8594", "twelve months"):
        assert promise in API


def test_the_readme_leads_there() -> None:
    """Whoever looks for a code finds the page that has it."""
    for path in ("docs/problems.md", "docs/api.md", "infra/openapi.yaml"):
        assert f"]({path}" in README
