"""Processes that use workspaces as a worker does, to be killed in the middle of it."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_ROOT = Path(__file__).parents[3]


def worker(code: str, *arguments: object, under: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """A Python process that runs `code` with `sys.argv[1:]` set to the arguments, started by the command `under`."""
    return subprocess.Popen(
        [*under, sys.executable, "-c", f"import sys\n{code}", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
