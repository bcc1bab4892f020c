"""What lies in /var/task: the functions' artifact as `sam build` makes it, and one of each baseline, zipped and then
unzipped into a folder that nobody writes to, as Lambda has it.

boto3 is in none of them: it comes with Lambda's runtime, and here with the bench's own packages, behind the artifact's.
"""

import compileall
import contextlib
import importlib.metadata
import itertools
import json
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sandbox.template import ROOT
from tests.bench import baselines, emulator
from tests.bench.report import OURS

OURS_WITHOUT = f"{OURS}, no byte code"
POWERTOOLS_WITH = "(b), with byte code"
PACKAGES = {
    baselines.POWERTOOLS: ("aws-lambda-powertools", "jmespath", "typing-extensions"),
    baselines.SAMPLE: ("aws-secretsmanager-caching",),
}
"""What a baseline brings beside its module."""
SAM = ROOT / ".venv/sam/bin/sam"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BUILD_SECONDS = 300


class Artifact(NamedTuple):
    folder: Path
    command: Sequence[str]
    """A runtime with the webhook's handler."""
    zipped: int
    unzipped: int
    """Bytes; all files of it together."""


class Artifacts(NamedTuple):
    by_name: Mapping[str, Artifact]
    """Without our own there is none at all."""
    left_out: Sequence[str] = ()
    """What is not among them, and why."""


@contextlib.contextmanager
def built() -> Iterator[Artifacts]:
    """All that can be made and run here, for this interpreter and machine, until the end of the block. Raises
    RuntimeError with the builder's own words."""
    if obstacle := emulator.missing() or (None if SAM.exists() else "it needs the SAM CLI (make test sets it up)"):
        yield Artifacts({}, [f"Nothing ran in the emulator: {obstacle}."])
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made, node = _made_in_python(folder), baselines.node()
        if node:
            made |= _made_in_node(folder, node)
        by_name = {name: _packed(files, command) for name, (files, command) in made.items()}
        yield Artifacts(by_name, [] if node else [baselines.NODE_MISSING])


def _made_in_python(folder: Path) -> dict[str, tuple[Path, Sequence[str]]]:
    ours = _ours(folder / "sam")
    without = shutil.copytree(ours, folder / "without", ignore=shutil.ignore_patterns("__pycache__"))
    made = {OURS: (ours, _python("webhook")), OURS_WITHOUT: (without, _python("webhook"))}
    for name, module in baselines.PYTHON.items():
        files = _installed(folder / module, module, PACKAGES.get(name, ()))
        made[name] = (files, _python(module))
        if name == baselines.POWERTOOLS:
            made[POWERTOOLS_WITH] = (_compiled(shutil.copytree(files, folder / "compiled")), _python(module))
    return made


def _python(module: str) -> Sequence[str]:
    return (*emulator.PYTHON, f"{module}.handler")


def _ours(folder: Path) -> Path:
    """By the README's command, for one of the functions: all get the same artifact."""
    variables = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PY": f"{sys.version_info.major}.{sys.version_info.minor}",
        "ARCH": str(emulator.MACHINE),
        "SAM_CLI_TELEMETRY": "0",
        "UV_SYSTEM_CERTS": str(int(CERTIFICATES.exists())),
    }
    told = subprocess.run(
        [SAM, "build", "WebhookFunction", "--build-dir", folder],
        cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS,
    )  # fmt: skip
    if told.returncode:
        raise RuntimeError(told.stderr)
    return folder / "WebhookFunction"


def _installed(folder: Path, module: str, packages: Sequence[str]) -> Path:
    """A module and the files of the wheels that are installed here, which are the locked ones; as a builder that ships
    no byte code leaves them."""
    folder.mkdir()
    shutil.copy(baselines.FOLDER / f"{module}.py", folder)
    for file in itertools.chain.from_iterable(importlib.metadata.files(package) or () for package in packages):
        if not {"..", "__pycache__"} & {*file.parts}:
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.locate(), target)
    return folder


def _compiled(folder: Path) -> Path:
    """As functions/Makefile does."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(folder, quiet=1, invalidation_mode=mode, stripdir=folder, prependdir="/var/task")
    return folder


def _made_in_node(folder: Path, node: str) -> dict[str, tuple[Path, Sequence[str]]]:
    """With its packages but those for development, and as one file of all that is used."""
    command = (node, str(baselines.EXPRESS / "runtime.mjs"))
    written, bundled = folder / "express", folder / "bundle"
    shutil.copytree(
        baselines.EXPRESS, written, symlinks=True, ignore=shutil.ignore_patterns("runtime.mjs", "caller.mjs", ".*")
    )
    locked = json.loads((written / "package-lock.json").read_text())["packages"]
    for path in [path for path, package in locked.items() if package.get("dev")]:
        shutil.rmtree(written / path, ignore_errors=True)
    bundled.mkdir()
    shutil.copy(baselines.NODE[baselines.BUNDLED], bundled)
    return {
        baselines.WRITTEN: (written, (*command, "app.mjs")),
        baselines.BUNDLED: (bundled, (*command, "app.cjs")),
    }


def _packed(files: Path, command: Sequence[str]) -> Artifact:
    """Zipped as functions/Makefile does, and unzipped where it is run."""
    archive, task = files.with_suffix(".zip"), files.with_suffix(".task")
    names = sorted(path.name for path in files.iterdir())
    subprocess.run([sys.executable, "-m", "zipfile", "-c", archive, *names], cwd=files, check=True)
    with zipfile.ZipFile(archive) as zipped:
        zipped.extractall(task)
        unzipped = sum(entry.file_size for entry in zipped.infolist())
    for path in [task, *task.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    return Artifact(task, command, archive.stat().st_size, unzipped)
