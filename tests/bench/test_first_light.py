"""The benchmark runs from end to end, and leaves nothing behind. How fast things are is no matter of tests."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.conf import settings

from tests.processes import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PROGRAM = Path(settings.BASE_DIR) / "bench" / "first_light.py"


def test_every_part_finds_figures(tmp_path: Path) -> None:
    done = _started(tmp_path, "--quick")
    out, err = done.communicate(timeout=200)

    assert done.returncode == 0, err.decode()
    found: dict[str, Any] = json.loads(out)
    assert found["due_to_start"]["with_repository_ms"]["in_all"]["p50"] > 0
    assert found["idle_beat"]["1000"]["queries_of_rota_a_tick"] <= 2
    assert found["held_sessions"]["8"]["in_all_mb"] > 0
    assert found["around_the_agent"]["writes"]["bare_ms"]["p50"] > 0
    assert "idle tick at 1000 schedules" in err.decode()


def test_ended_by_a_signal_it_ends_what_it_started(tmp_path: Path) -> None:
    bench = _started(tmp_path, "idle_beat")
    ours = psutil.Process(bench.pid)
    until(lambda: _names(ours) >= {"valkey-server"}, within=60, what="it has started Rota")
    started = ours.children(recursive=True)

    bench.send_signal(signal.SIGTERM)
    bench.communicate(timeout=60)

    assert bench.returncode == 143
    _, alive = psutil.wait_procs(started, timeout=5)
    assert not alive
    assert not list(tmp_path.iterdir())


def _started(temporary: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *arguments],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _names(process: psutil.Process) -> set[str]:
    return {child.name() for child in process.children(recursive=True)}
