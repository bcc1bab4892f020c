"""`pf kept`: what `make delete` says of a stack before it is gone."""

import pytest

from ops.kept import _KEPT
from sandbox.template import ROOT, Template
from tests.pf import deployed, done, run


@pytest.mark.usefixtures("cloud")
def test_what_outlives_the_stack_is_named() -> None:
    """Each by the name it has in the account, with what it holds. No secret is: CloudFormation deletes it without
    the days in which another could be restored."""
    stack = deployed("pocketsflow-test")
    told = run("--stack", "pocketsflow-test", "kept")
    assert told.exit_code == 0
    for output in _KEPT:
        assert stack.output(output) in told.stdout
    for output in ("ApiKeySecret", "WebhookSecretsSecret"):
        assert stack.output(output) not in told.stdout
    assert "secrets are gone" in told.stdout


@pytest.mark.usefixtures("cloud")
def test_a_script_reads_the_same() -> None:
    """By the names of the outputs."""
    stack = deployed("pocketsflow-test")
    assert done("--stack", "pocketsflow-test", "kept") == {
        "stack": "pocketsflow-test",
        "kept": {output: stack.output(output) for output in _KEPT},
    }


def test_these_are_all_that_the_template_retains() -> None:
    """Secrets are retained when an update replaces them; what a deletion retains is told."""
    read = Template((ROOT / "template.yaml").read_text(), {})
    retained = {
        name
        for name, resource in read._content["Resources"].items()
        if resource.get("DeletionPolicy", "").startswith("Retain")
    }
    told = {name for output in _KEPT for name in retained if name in str(read._content["Outputs"][output]["Value"])}
    assert told == retained
    assert len(retained) == len(_KEPT)
