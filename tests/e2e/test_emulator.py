"""Execution environments of the bench: AWS's Runtime Interface Emulator in front of Lambda's runtime client."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.template import ROOT
from tests.bench import artifacts, burst, cold_emulated, emulator
from tests.bench.emulator import Environment, Failed
from tests.bench.report import Scale

HANDLER = """\
import os, time

held = []

def handler(event, context):
    match event:
        case "raise":
            raise ValueError("of the handler")
        case "end":
            os._exit(3)
        case "work":
            until = time.process_time() + 0.1
            while time.process_time() < until:
                pass
        case "hold":
            held.append(bytearray(b"x" * 50_000_000))
    return {"pid": os.getpid(), "told": os.environ["TOLD"]}
"""
Start = Callable[[str], Environment]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Environments of an artifact that has a module `job` with the handler above, by the handler's name."""
    if obstacle := emulator.missing():
        pytest.skip(obstacle)
    (tmp_path / "job.py").write_text(HANDLER)
    started = []

    def starting(handler: str) -> Environment:
        started.append(Environment((*emulator.PYTHON, handler), tmp_path, {"TOLD": "so"}))
        return started[-1]

    yield starting
    for environment in started:
        environment.close()


def has_ended(pid: int) -> bool:
    """What nobody has waited for yet counts, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_one_process_answers_all_events(start: Start) -> None:
    """By the artifact's handler, with the variables that it was given."""
    environment = start("job.handler")
    first, second = environment.invoke({}), environment.invoke({})
    assert first == second
    assert first["told"] == "so"
    assert Path(f"/proc/{first['pid']}").exists()


def test_it_measures_that_process(start: Start) -> None:
    """What the handler takes of the processor and of memory, and at most so much as a handler's process takes."""
    environment = start("job.handler")
    environment.invoke({})
    cpu, memory = environment.cpu(), environment.memory()
    environment.invoke("work")
    environment.invoke("hold")
    assert 0.1 <= environment.cpu() - cpu < 1
    assert 50_000_000 <= environment.memory() - memory < 100_000_000


def test_a_handler_that_does_not_import(start: Start) -> None:
    """The complaint says which, and what the log has of it."""
    with pytest.raises(Failed) as failed:
        start("nowhere.handler").invoke({})
    first, *log = str(failed.value).splitlines()
    assert first == "Runtime.ImportModuleError: Unable to import module 'nowhere': No module named 'nowhere'"
    assert any("Unable to import module 'nowhere'" in line for line in log)


@pytest.mark.parametrize(
    ("event", "complaint"), [("raise", "ValueError: of the handler"), ("end", "Runtime.ExitError: .* exit status 3")]
)
def test_an_event_that_fails(start: Start, event: str, complaint: str) -> None:
    """Whether the handler raises or its process ends: told, and the next event is answered."""
    environment = start("job.handler")
    with pytest.raises(Failed, match=f"^{complaint}"):
        environment.invoke(event)
    assert environment.invoke({})["told"] == "so"


def test_its_end_leaves_no_process(start: Start) -> None:
    """Neither the emulator nor the runtime, although something went wrong meanwhile."""
    with pytest.raises(KeyError), start("job.handler") as environment:  # noqa: PT012
        runtime = environment.invoke({})["pid"]
        raise KeyError
    assert has_ended(runtime)
    assert has_ended(environment.pid)


def test_who_is_killed_leaves_no_process(start: Start, tmp_path: Path) -> None:
    """Who started an environment and is killed cannot end it, so it ends by itself."""
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv (util-linux)")
    code = (
        "import sys, pathlib\n"
        "from tests.bench.emulator import PYTHON, Environment\n"
        "environment = Environment((*PYTHON, 'job.handler'), pathlib.Path(sys.argv[1]), {'TOLD': 'so'})\n"
        "print(environment.invoke({})['pid'], environment.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        processes = [int(pid) for pid in starter.stdout.readline().split()]
        starter.kill()
    assert len(processes) == 2
    deadline = time.monotonic() + 15
    while not all(map(has_ended, processes)) and time.monotonic() < deadline:
        os.sched_yield()
    assert all(map(has_ended, processes))


def test_without_the_emulator_the_bench_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs it is left out, and everything else is still measured."""
    monkeypatch.setattr(emulator, "missing", lambda: "it is on holiday")
    with artifacts.built() as nothing:
        sections = [part.section(part.measure(Scale(2, 2), nothing)) for part in (cold_emulated, burst)]
    for section in sections:
        heading, *told = section.text.splitlines()
        assert heading.startswith("## ")
        assert told == ["", "Nothing ran in the emulator: it is on holiday."]
        assert not [*section.targets, *section.panels]
