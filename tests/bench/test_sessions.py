"""bench/sessions.py runs from end to end. How fast things are is no matter of tests."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PROGRAM = Path(settings.BASE_DIR) / "bench" / "sessions.py"


def test_the_parts_that_are_asked_for_are_measured(tmp_path: Path) -> None:
    done = _run(tmp_path, "--quick", "--json", str(tmp_path / "found.json"), "event_latency")
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert set(found) == {"machine", "event_latency"}
    assert found["event_latency"]["8"]["n"] == 8 * 20
    assert found["event_latency"]["1"]["p50"] > 0
    assert json.loads((tmp_path / "found.json").read_text()) == found
    assert "line printed → event to be read" in done.stderr.decode()


def test_a_part_that_does_not_exist_is_refused_at_once(tmp_path: Path) -> None:
    done = _run(tmp_path, "speed")
    assert done.returncode == 2
    assert b"no such part: speed" in done.stderr


def _run(temporary: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=280,
    )
