"""Processes that tests start: each has a bounded life and an end."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

_LONGEST_LIFE = 3600  # seconds, also when the tests themselves were killed


def bounded(command: Sequence[str | os.PathLike[str]]) -> list[str | os.PathLike[str]]:
    """`command`, ended by the system's `timeout` program where the tests can't do it any more."""
    timeout = shutil.which("timeout")
    return [timeout, "--kill-after=5", str(_LONGEST_LIFE), *command] if timeout else [*command]


def until(condition: Callable[[], object], *, within: float, what: str, said: Callable[[], str] = str) -> None:
    """Return as soon as `condition` holds; fail the test, with what was `said`, when `within` seconds pass first."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s: {what} {said()}"
        time.sleep(0.02)


def end(process: subprocess.Popen[bytes], gentle: signal.Signals = signal.SIGTERM) -> None:
    """Ask the process to end, then kill its group (it leads one of its own)."""
    process.send_signal(gentle)
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
