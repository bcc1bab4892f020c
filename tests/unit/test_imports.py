"""What a cold start imports, by name: each module is processor time in front of a webhook that is sent once.

imports.json has a line for each module and says which functions import it: of packages their first sub-modules, of
powertools, where the costly parts lie, one level more. `python -m tests.unit.test_imports` writes it anew.
"""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.template import ROOT
from sandbox.worker import lambda_environment
from tests.bench import cold
from tests.conftest import CONNECTORS, template

FUNCTIONS = {
    function.handler.rpartition(".")[0]: function for function in template(Mode="live", **CONNECTORS).functions()
}
IMPORTS = Path(__file__).with_name("imports.json")
LEVELS = {"aws_lambda_powertools": 3}
OURS = {"payments", "connectors", *FUNCTIONS}
WITH_BOTO3 = {"boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3"}
"""What Lambda's runtime brings."""

NEVER = {
    "asyncio": "one event at a time; nothing is awaited",
    "aws_lambda_powertools.event_handler": "one route needs no resolver, whose decoded body is unfit for an HMAC",
    "aws_lambda_powertools.utilities": "parameters, idempotency, parser: a few lines do it here for less",
    "aws_xray_sdk": "powertools' tracer; X-Ray is switched on in the template",
    "boto3": "botocore's session makes the same clients",
    "charset_normalizer": "of requests",
    "concurrent.futures.thread": "threads are the checkout's, to bound its call",
    "fastjsonschema": "events are read field by field",
    "idna": "of requests",
    "jsonschema": "events are read field by field",
    "moto": "of the sandbox",
    "multiprocessing": "one event at a time",
    "pydantic": "events are read field by field",
    "requests": "urllib3, which botocore brings, does what is needed of it",
    "s3transfer": "of boto3; nothing is in S3",
    "sandbox": "of the laptop",
    "unittest": "of tests",
    "yaml": "of the sandbox",
}
"""Modules, and all below them, that the webhook does without, and why."""
LOGGERS = {"aws_lambda_powertools.utilities", "aws_lambda_powertools.utilities.jmespath_utils"}
"""Powertools' own logger imports these."""


@functools.cache
def imported(module: str) -> frozenset[str]:
    """Full names of everything that a fresh Python imports for a function, in the function's environment."""
    code = f"{cold.IMPORT.format(module)}; print(*(name for name in sys.modules if name not in before))"
    told = subprocess.run(
        [sys.executable, "-c", f"import sys; before = {{*sys.modules, 'simplejson'}}; {code}"],
        env=lambda_environment(FUNCTIONS[module]), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    return frozenset(told.stdout.split())


def listed(module: str) -> set[str]:
    """The names that imports.json keeps: no private ones, and of the standard library's packages only the first."""
    kept = set()
    for name in imported(module):
        package, *_ = parts = name.split(".")
        parts = parts[: 1 if package in sys.stdlib_module_names else LEVELS.get(package, 2)]
        if not any(part.startswith("_") for part in parts):
            kept.add(".".join(parts))
    return kept


def test_these_are_all_functions() -> None:
    """The list speaks of every function that the template has."""
    assert {name for names in json.loads(IMPORTS.read_text()).values() for name in names.split()} == set(FUNCTIONS)


@pytest.mark.parametrize("module", FUNCTIONS)
def test_a_function_imports_what_is_listed(module: str) -> None:
    """No more and no less than the modules that imports.json lists for it; which of its own modules Python has
    imported before differs from one version to the next."""
    known = {name for name, functions in json.loads(IMPORTS.read_text()).items() if module in functions.split()}
    new, gone = sorted(listed(module) - known), sorted(known - listed(module) - sys.stdlib_module_names)
    assert not new + gone, (
        f"{module} now imports {new} and no longer {gone}."
        " If that is meant, run `.venv/bin/python -m tests.unit.test_imports` and commit tests/unit/imports.json;"
        " `make bench` says what it costs."
    )


@pytest.mark.parametrize("never", NEVER)
def test_the_webhook_does_without(never: str) -> None:
    """A payment waits for every import: these have no business in it."""
    found = {name for name in imported("webhook") - LOGGERS if f"{name}.".startswith(f"{never}.")}
    assert not found, f"the webhook imports {sorted(found)}; {never}: {NEVER[never]}"


@pytest.mark.parametrize("module", FUNCTIONS)
def test_nothing_is_imported_that_lambda_does_not_have(module: str) -> None:
    """What lies beside the tests only, however optional, is not part of what they test or measure."""
    locked = re.findall(r"^([\w-]+)==", (ROOT / "functions/requirements.txt").read_text(), re.MULTILINE)
    there = OURS | WITH_BOTO3 | sys.stdlib_module_names | {name.replace("-", "_") for name in locked}
    assert {name.partition(".")[0] for name in listed(module)} <= there


if __name__ == "__main__":
    every = sorted({name for module in FUNCTIONS for name in listed(module)})
    lines = {name: " ".join(module for module in sorted(FUNCTIONS) if name in listed(module)) for name in every}
    IMPORTS.write_text(json.dumps(lines, indent=2) + "\n")
