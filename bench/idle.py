"""Beat while nothing is due: its start, its memory, its share of a core, and the effect of one edit.

    .venv/bin/python bench/idle.py [--quick] [--database postgres] [--json FILE]

Each size has a beat, a Valkey and a database of its own, which are gone afterwards. Prints JSON on standard output, a
table on standard error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # who is started by a path finds only what is beside it

from bench import report, stack

_SIZES = (1_000, 50_000, 100_000)
_LONGEST = 600  # seconds for one size
_TOLD = {
    "first_tick_s": ("started → first tick", "s", 1.2),
    "beat_pss_mb": ("memory (PSS)", "MB", 75),
    "beat_cpu_percent": ("share of a core", "%", 0.3),  # once it has sent its first message to the broker
    "edit_effective_ms": ("an edit is effective, p99", "ms", 1000),
    "stall_ms": ("the tick after it, p99", "ms", 20),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures beat while nothing is due.")
    parser.add_argument("--quick", action="store_true", help="1,000 schedules alone, and few edits")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON here, too")
    wanted = parser.parse_args()
    report.end_in_order()
    sizes, edits, seconds = (_SIZES[:1], 3, 2) if wanted.quick else (_SIZES, 40, 20)
    machine = {**report.machine(), "database": wanted.database}
    found = {str(size): _measured(size, edits, seconds, database=wanted.database) for size in sizes}
    written = json.dumps({"machine": {**machine, "load_at_end": report.load()}, "idle": found}, indent=2)
    print(written, flush=True)
    if wanted.json:
        wanted.json.write_text(f"{written}\n")
    for name, (label, unit, target) in _TOLD.items():
        figures = [_told(found[str(size)][name]) for size in sizes]
        row = " ".join(f"{figure:>9.2f} {unit:2}" for figure in figures)
        print(f"{label:28} {row}   target {target} {unit}", file=sys.stderr)


def _told(figure: Any) -> float:
    return float(figure["p99"] if isinstance(figure, dict) else figure)


def _measured(size: int, edits: int, seconds: int, *, database: str) -> dict[str, Any]:
    print(f"{size:,} schedules …", file=sys.stderr, flush=True)
    with stack.surroundings(database) as environment, stack.broker(environment):
        stack.run(["manage.py", "migrate", "--verbosity", "0"], environment, within=_LONGEST)
        command = ["-m", "bench.idle_side", str(size), str(edits), str(seconds)]
        try:
            done = stack.run(command, environment, within=_LONGEST)
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"{size:,} failed:\n{error.stderr[-3000:]}") from error
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    main()
