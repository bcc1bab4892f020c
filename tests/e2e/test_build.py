"""The artifact that `sam deploy` uploads: built here, looked into, and run."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.template import ROOT
from tests.bench import cloud, cold_emulated, emulator
from tests.bench.deliveries import payment
from tests.conftest import template

SAM = ROOT / ".venv/sam/bin/sam"
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
MACHINE = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine()]


def run(*command: str | Path, path: str = os.environ["PATH"], **variables: str) -> subprocess.CompletedProcess[str]:
    """With the person's environment, and `path` in the place of theirs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("POWERTOOLS", "AWS"))}
    environment |= {"PATH": path, "SAM_CLI_TELEMETRY": "0", **variables}
    return subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What `make build` does for this interpreter and machine, in a folder of its own; and what it said."""
    if not SAM.exists():
        pytest.skip("needs the SAM CLI (make test sets it up)")
    folder = tmp_path_factory.mktemp("build")
    told = run(SAM, "build", "--build-dir", folder, PY=MINOR, ARCH=MACHINE)
    assert told.returncode == 0, told.stderr
    return folder, told.stdout + told.stderr


def test_every_function_is_built(built: tuple[Path, str]) -> None:
    """Each logical id has its artifact, with the catalogue in it and nothing of the build's own."""
    folder, _ = built
    for function in template(Mode="live").functions():
        artifact = folder / function.logical_id
        assert (artifact / f"{function.handler.partition('.')[0]}.py").exists()
        assert json.loads((artifact / "catalogue.json").read_text())["products"]
        assert not {".lock", "bin", "Makefile", "requirements.in", "requirements.txt"} & set(os.listdir(artifact))


def test_the_artifact_is_small(built: tuple[Path, str]) -> None:
    """Zipped 1.8 MB at most, 4 MB with byte code; boto3 comes with the runtime; the figure is printed."""
    folder, told = built
    artifact = folder / "CheckoutFunction"
    assert _zipped(artifact, folder / "zipped") <= 4_000_000
    sources = shutil.copytree(artifact, folder / "sources", ignore=shutil.ignore_patterns("__pycache__"))
    assert _zipped(sources, folder / "zipped") <= 1_800_000
    assert not {"boto3", "botocore"} & set(os.listdir(artifact))
    assert re.search(rf"artifact: \d+ kB, zipped \d+ kB, for python{MINOR} on {MACHINE}", told)


def _zipped(folder: Path, archive: Path) -> int:
    return Path(shutil.make_archive(str(archive), "zip", folder)).stat().st_size


def test_byte_code_is_shipped(built: tuple[Path, str]) -> None:
    """Every module has byte code of its interpreter valid whatever file times say, that names the place on Lambda."""
    folder, _ = built
    artifact = folder / "CheckoutFunction"
    for source in artifact.rglob("*.py"):
        compiled = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
        assert compiled.exists(), source
    code = (artifact / "payments/__pycache__" / f"ledger.{sys.implementation.cache_tag}.pyc").read_bytes()
    assert int.from_bytes(code[4:8], "little") == 0b01  # hash-based, unchecked: PEP 552
    assert b"/var/task/payments/ledger.py" in code


def test_what_is_built_runs(built: tuple[Path, str]) -> None:
    """The artifact answers a request by its own modules: only boto3's family is not in it."""
    folder, _ = built
    artifact = folder / "WebhookFunction"
    script = (
        "import sys, types, webhook, checkout, relay, reconcile, retain, preflight\n"
        "import aws_lambda_powertools, certifi, urllib3\n"
        "assert all(each.__file__.startswith(sys.argv[1]) for each in (aws_lambda_powertools, certifi, urllib3))\n"
        "assert 'requests' not in sys.modules\n"
        "context = types.SimpleNamespace(aws_request_id='x', get_remaining_time_in_millis=lambda: 4000)\n"
        "print(webhook.handler({'headers': {}, 'body': '{}'}, context)['statusCode'])\n"
    )
    variables = {name: value for f in template(Mode="live").functions() for name, value in f.environment.items()}
    variables |= {"AWS_DEFAULT_REGION": "eu-west-1", "PYTHONPATH": str(artifact)}
    told = run(sys.executable, "-c", script, artifact, **variables)
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[-1] == "401"


def test_what_is_built_settles_a_payment_on_lambdas_runtime_interface(built: tuple[Path, str]) -> None:
    """Lambda's runtime client imports the artifact and hands it deliveries: the first settles, the second changes
    nothing. What the bench runs is this."""
    if obstacle := emulator.missing():
        pytest.skip(obstacle)
    folder, _ = built
    with cloud.running() as stack:
        [order] = stack.orders(1)
        variables = stack.environment("webhook") | cold_emulated.BUSY
        command = (*emulator.PYTHON, "webhook.handler")
        with emulator.Environment(command, folder / "WebhookFunction", variables) as environment:
            told = [json.loads(environment.invoke(payment(order))["body"])["outcome"] for _ in range(2)]
        assert told == ["settled", "redelivered"]
        assert len(stack.ledger()[f"order#{order}"]["payments"]["L"]) == 1


def test_without_the_runtimes_python_the_build_says_so(tmp_path: Path) -> None:
    """A python3.13 that is only a name, as version managers leave it, is none: no byte code, and a word about it."""
    functions = _copy(tmp_path)
    names_only = tmp_path / "shims"
    names_only.mkdir()
    (names_only / "python3.13").write_text("#!/bin/sh\nexit 127\n")
    (names_only / "python3.13").chmod(0o755)
    told = _make(functions, f"{names_only}{os.pathsep}{os.environ['PATH']}")
    assert told.returncode == 0, told.stderr
    assert "python3.13 is not here: byte code is left out" in told.stdout
    assert not list((tmp_path / "artifact").rglob("*.pyc"))


def test_a_build_without_uv(tmp_path: Path) -> None:
    """Plain `sam build` on a machine that has Python and make only: the build brings its own uv."""
    names = ("sh", "bash", "make", "find", "cp", "rm", "mkdir", "du", "cut", "wc", "cat")
    only = tmp_path / "bin"
    only.mkdir()
    for name in names:
        (only / name).symlink_to(str(shutil.which(name)))
    (only / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (only / "python3").chmod(0o755)
    told = _make(_copy(tmp_path), str(only))
    assert told.returncode == 0, told.stderr
    assert (tmp_path / "artifact/urllib3").is_dir()


@pytest.mark.parametrize(
    ("catalogue", "complaint"),
    [
        ('{"products": {"mug": {"productId": "x"}}}', "catalogue: mug: must have"),
        ("{", "catalogue: catalogue.json is not JSON"),
    ],
)
def test_a_wrong_catalogue_fails_the_build(tmp_path: Path, catalogue: str, complaint: str) -> None:
    """Before anything is uploaded, in words that say where."""
    functions = _copy(tmp_path)
    (functions / "catalogue.json").write_text(catalogue)
    told = _make(functions, os.environ["PATH"])
    assert told.returncode != 0
    assert complaint in told.stderr


def test_a_shop_without_a_catalogue_builds(tmp_path: Path) -> None:
    """In mode test the catalogue may be removed: products are then named by their Pocketsflow id."""
    functions = _copy(tmp_path)
    (functions / "catalogue.json").unlink()
    told = _make(functions, os.environ["PATH"])
    assert told.returncode == 0, told.stderr
    assert not (tmp_path / "artifact/catalogue.json").exists()


def _copy(tmp_path: Path) -> Path:
    """functions/ as SAM copies it, in a place where it can be changed."""
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(ROOT / "functions", tmp_path / "functions", ignore=ignored))


def _make(functions: Path, path: str) -> subprocess.CompletedProcess[str]:
    artifact = functions.parent / "artifact"
    artifact.mkdir()
    return run(
        "make", "-C", functions, "build-CheckoutFunction", f"ARTIFACTS_DIR={artifact}", path=path, PY="", ARCH=""
    )
