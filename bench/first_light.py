"""What the backbone of Rota costs, measured on a Rota that runs: see bench/README.md.

    .venv/bin/python bench/first_light.py [--quick] [--database postgres] [--json FILE] [PART...]

Prints JSON on standard output, and a table of what matters most on standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a program that is started by its path finds what lies beside it, and no more

from bench import stack  # noqa: E402

# In this order: a worker's growth is measured while it is young, and the last one fills the database.
PARTS = ("held_sessions", "around_the_agent", "due_to_start", "idle_beat")
_LONGEST = 280  # seconds for all parts together: on a quiet machine they take 200


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or what was started would go on
    machine = _machine(arguments.database)
    settings = {"ROTA_MAX_SESSIONS": "32", "ROTA_MAX_SESSIONS_PER_REPOSITORY": "32"}
    with stack.surroundings(arguments.database, **settings) as environment, stack.running(environment):
        try:
            found = _measured(environment, arguments.parts or PARTS, quick=arguments.quick)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            print(f"Nothing is reported: {error}", file=sys.stderr)
            return 1
    report = {"machine": {**machine, "load_at_end": _load()}, **found}
    written = json.dumps(report, indent=2)
    print(written)
    if arguments.json:
        arguments.json.write_text(f"{written}\n")
    for line in _table(report):
        print(line, file=sys.stderr)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures what the backbone of Rota costs.")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: under a minute")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON here, too")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"these alone, of: {', '.join(PARTS)}")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")
    return arguments


def _measured(environment: Mapping[str, str], parts: Sequence[str], *, quick: bool) -> dict[str, Any]:
    """Part → figures. Raises CalledProcessError when one failed, TimeoutExpired when they took too long."""
    command = [sys.executable, "-m", "bench.measure", *(["--quick"] if quick else []), *parts]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
        timeout=_LONGEST,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _machine(database: str) -> dict[str, Any]:
    return {
        "began_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "database": database,
        "load_at_begin": _load(),
    }


def _load() -> float:
    """How many processes wanted a core in the last minute: above the number of cores, figures are too high."""
    return round(os.getloadavg()[0], 1)


def _table(report: Mapping[str, Any]) -> Iterator[str]:
    yield f"{'':44} {'measured':>24}   target"
    for name, measured, target in _rows(report):
        yield f"{name:44} {measured:>24}   {target}"


def _rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    due = report.get("due_to_start", {})
    for name in ("without_repository_ms", "with_repository_ms"):
        if name in due:
            whole = due[name]["in_all"]
            figures = f"{whole['p50']:.0f} / {whole['p99']:.0f} ms"
            yield f"due → process started, p50 / p99, {name[:-3].replace('_', ' ')}", figures, "fires within 1 s"
    for size, cost in report.get("idle_beat", {}).items():
        if isinstance(cost, dict):
            queries = f"{cost['queries_of_rota_a_tick']:.1f} + {cost['queries_of_django_celery_beat_a_tick']:.1f}"
            yield f"idle tick at {size} schedules: queries", queries, "2 of ours"
            yield f"idle tick at {size} schedules: CPU", f"{cost['cpu_ms_a_tick']:.2f} ms", ""
            yield f"beat at {size} schedules: PSS", f"{cost['beat_pss_mb']:.0f} MB", ""
    for count, memory in report.get("held_sessions", {}).items():
        if isinstance(memory, dict) and "in_all_mb" in memory:
            yield f"memory of one session, {count} running", f"{memory['in_all_mb']:.1f} MB", "15 MB"
    for name, cost in report.get("around_the_agent", {}).items():
        if isinstance(cost, dict):
            yield f"around an agent that {name}", f"{cost['overhead_ms']:.0f} ms", "500 ms"


if __name__ == "__main__":
    sys.exit(main())
