"""A session on a disk that has only so much room left: a real small disk, and every amount of room from none on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
APART = ("unshare", "--user", "--map-root-user", "--mount")  # where a user may mount a small disk

_DISKS = """
import json, os, subprocess, sys, time
from pathlib import Path
from runners import Launch, Limits, RunnerError, ending_or_died, kill, read_lines, request_stop, start

root = Path(sys.argv[1])
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "SECRET": "canary"}

def new_disk(name):
    disk = root / name
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=40", "none", disk], check=True)
    (disk / "session").mkdir()
    return disk

def fill(disk, left, kind):
    # Until there is so much room left for blocks, or for files.
    if kind == "files":
        for number in range(os.statvfs(disk).f_ffree - left):
            (disk / str(number)).touch()
        return
    with (disk / "filling").open("wb", buffering=0) as file:
        for _ in range(os.statvfs(disk).f_bfree - left):
            file.write(bytes(os.statvfs(disk).f_bsize))

def begin(folder, *argv):
    start(folder, Launch(argv=argv, environment=ENVIRONMENT), cwd=Path("/"), limits=Limits())

def ended_by(folder):
    while not (ending := ending_or_died(folder)):
        time.sleep(0.01)
    return ending.ended_by
"""

_WITH_LITTLE_ROOM = """
def lived(folder):
    # What became of a session there: its reason code, and whether its line was kept.
    try:
        begin(folder, "echo", "hello")
    except RunnerError as error:
        return [error.reason, False]
    return [ended_by(folder), [line.data for line in read_lines(folder, 0)[0]] == [b"hello"]]

found = []
for left in range(8):
    disk = new_disk(str(left))
    fill(disk, left, sys.argv[2])
    reason, kept = lived(disk / "session")
    secrets = [path.name for path in (disk / "session").iterdir() if b"canary" in path.read_bytes()]
    killed = kill(disk / "session")
    found.append({"left": left, "reason": reason, "kept": kept, "secrets": secrets, "killed": killed})
print(json.dumps(found))
"""

_STOPPED = """
disk = new_disk("a")
begin(disk / "session", "sleep", "600")
fill(disk, 0, "files")
request_stop(disk / "session", "cancelled")
print(json.dumps([ended_by(disk / "session"), kill(disk / "session")]))
"""


def on_small_disks(program: str, *arguments: object) -> Any:
    """What the program says in JSON, run where it may mount disks."""
    if shutil.which("unshare") is None or subprocess.run([*APART, "true"], check=False).returncode:
        pytest.skip("This machine has no user namespaces, in which to mount a small disk.")
    python = [sys.executable, "-c", _DISKS + program, *map(str, arguments)]
    said = subprocess.run([*APART, *python], cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


@pytest.mark.parametrize("kind", ["blocks", "files"])
def test_a_session_says_that_the_disk_is_full_or_has_all_it_printed(tmp_path: Path, kind: str) -> None:
    found: list[dict[str, Any]] = on_small_disks(_WITH_LITTLE_ROOM, tmp_path, kind)

    assert [one for one in found if one["reason"] not in ("", "disk_full")] == []
    assert [one for one in found if one["kept"] != (one["reason"] == "")] == []
    assert [one for one in found if one["secrets"] or one["killed"]] == []
    assert [one["reason"] for one in (found[0], found[-1])] == ["disk_full", ""]


def test_a_session_can_be_stopped_where_no_reason_can_be_written(tmp_path: Path) -> None:
    assert on_small_disks(_STOPPED, tmp_path) == ["shutdown", 0]
