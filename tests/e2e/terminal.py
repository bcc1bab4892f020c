"""A terminal with `pf` in it, and a person who reads and types."""

import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pexpect

from sandbox.template import ROOT
from tests.e2e.conftest import Sandbox, shell

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@contextmanager
def terminal(sandbox: Sandbox, *words: str, columns: int = 120) -> Iterator["pexpect.spawn[str]"]:
    """`pf --sandbox …`, running; it is ended with the block."""
    child = pexpect.spawn(
        sys.executable,
        ["-m", "ops", "--sandbox", "--aws-url", sandbox.aws, *words],
        cwd=str(ROOT), env={**shell(), "TERM": "xterm-256color"}, encoding="utf-8", timeout=60,
        dimensions=(50, columns), preexec_fn=_as_a_shell_does,
    )  # fmt: skip
    try:
        yield child
    finally:
        child.close(force=True)


def _as_a_shell_does() -> None:
    """Ctrl-C ends what runs at a terminal, also where the tests themselves run in the background and ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def said(sandbox: Sandbox, *words: str, typing: str = "", columns: int = 120) -> tuple[int, str]:
    """Exit code, and what the screen showed, without colours and movements. `typing` answers the questions."""
    shown = ""
    with terminal(sandbox, *words, columns=columns) as child:
        for line in typing.splitlines():
            child.expect(r"\]: $|\?: $|: $")
            shown += (child.before or "") + str(child.after)
            child.sendline(line)
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus is not None
        return child.exitstatus, _CONTROL.sub("", shown + (child.before or ""))
