"""What is measured beside others runs from end to end, and leaves nothing behind."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

BENCH = Path(settings.BASE_DIR) / "bench"


def test_a_burst_is_measured_beside_its_floor(tmp_path: Path) -> None:
    peers = ("floor, SQLite", "Rota, SQLite", "Rota, one line, SQLite", "Rota in a row, SQLite")
    told, table = _run("burst.py", tmp_path, "--times", "1", *peers)
    found = told["burst"]["1000"]
    assert set(found) == set(peers)
    assert all(figures["cpu_ms_each"] > 0 and figures["median_ms"] > 0 for figures in found.values())
    assert "× floor" in table


def test_an_idle_beat_is_measured_and_what_an_edit_does_to_it(tmp_path: Path) -> None:
    told, table = _run("idle.py", tmp_path)
    figures = told["idle"]["1000"]
    assert figures["edit_effective_ms"]["n"] == figures["stall_ms"]["n"] == 3
    assert figures["beat_pss_mb"] > 0
    assert "first tick" in table


def test_short_sessions_are_measured_beside_a_plain_task(tmp_path: Path) -> None:
    told, table = _run("throughput.py", tmp_path)
    assert told["throughput"]["rota"]["each_second"] > 0
    assert told["throughput"]["plain"]["each_second"] > 0
    assert "plain Celery task" in table


def _run(name: str, temporary: Path, *arguments: str) -> tuple[Any, str]:
    done = subprocess.run(
        [sys.executable, BENCH / name, "--quick", *arguments],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert not list(temporary.iterdir())
    return json.loads(done.stdout), done.stderr
