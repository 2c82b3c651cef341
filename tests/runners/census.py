"""Who is alive on this machine, by what /proc says: looked up without a line of Rota's, to check what Rota finds."""

from __future__ import annotations

import os
from pathlib import Path

from tests.processes import until


def carrying(mark: str) -> dict[int, str]:
    """The processes with `mark` in their command line or environment: pid → command line. This process is none."""
    wanted = mark.encode()
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        command, environment = _read(entry / "cmdline"), _read(entry / "environ")
        if int(entry.name) != os.getpid() and (wanted in command or wanted in environment) and _runs(entry):
            found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def assert_gone(mark: str, *, within: float) -> None:
    """Fail with who they are unless nobody carries `mark` any more, in seconds."""
    try:
        until(lambda: not carrying(mark), within=within, what="nobody is left")
    except AssertionError:
        raise AssertionError(f"left after {within} s: {carrying(mark)}") from None


def _runs(entry: Path) -> bool:
    """A zombie or a dead process runs no more."""
    return _read(entry / "stat").rpartition(b")")[2].split()[:1] not in ([], [b"Z"], [b"X"])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
