"""`python -m ops.rollout Canary10Percent5Minutes .aws-sam/build/template.yaml`: makes the built template a gradual one.

Merges infra/rollout.yaml into it. It is no parameter of the template, because SAM publishes a version, which an alias
needs, only for new code: a stack with aliases would ignore a parameter that changed.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox.template import ROOT, parse

KINDS = (
    "Canary10Percent5Minutes",
    "Canary10Percent10Minutes",
    "Canary10Percent15Minutes",
    "Canary10Percent30Minutes",
    "Linear10PercentEvery1Minute",
    "Linear10PercentEvery2Minutes",
    "Linear10PercentEvery3Minutes",
)
"""CodeDeploy's own, docs.aws.amazon.com/codedeploy/latest/userguide/deployment-configurations.html, but for the one
that takes more than an hour: neither does `sam deploy` wait so long, nor do a workflow's credentials last."""


def gradual(template: dict[str, Any], kind: str, release: str) -> dict[str, Any]:
    """The template with infra/rollout.yaml in it."""
    fragment = (ROOT / "infra/rollout.yaml").read_text()
    filled = parse(fragment.replace(": RELEASE", f": {release}").replace(": ROLLOUT", f": {kind}"))
    merged: dict[str, Any] = _merged(template, filled)
    return merged


def _merged(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {**below, **{name: _merged(below.get(name), value) for name, value in above.items()}}


def main(kind: str, path: str) -> None:
    if kind not in KINDS:
        sys.exit(f"ROLLOUT is one of {', '.join(KINDS)}")
    release = f"{datetime.now(UTC):r%Y%m%d%H%M%S}"
    built = Path(path)
    built.write_text(json.dumps(gradual(parse(built.read_text()), kind, release), indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
