"""Short sessions: how many a second, beside a plain Celery task that runs the same program and stores its result.

    .venv/bin/python bench/throughput.py [--quick] [--times 3] [--at-once 8] [--database postgres] [--json FILE]

The two take turns, each time with a worker, a Valkey and a database of their own, which are gone afterwards. Prints
JSON on standard output, a table on standard error.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # who is started by a path finds only what is beside it

from bench import report, stack

SIDES = {"rota": "Rota: a session of a script", "plain": "plain Celery task, result stored"}
_COUNT, _QUICK_COUNT = 400, 40
_LONGEST = 700  # seconds for one side


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures short sessions, beside a plain Celery task.")
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK_COUNT} sessions, once")
    parser.add_argument("--times", type=int, default=3, help="rounds (3)")
    parser.add_argument("--at-once", type=int, default=8, help="threads of the worker (8)")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON here, too")
    wanted = parser.parse_args()
    report.end_in_order()
    count, times = (_QUICK_COUNT, 1) if wanted.quick else (_COUNT, wanted.times)
    machine = {**report.machine(), "database": wanted.database, "programs": count, "at_once": wanted.at_once}
    rounds = [
        {side: _measured(side, count, at_once=wanted.at_once, database=wanted.database) for side in SIDES}
        for _ in range(times)
    ]
    found = {
        side: {name: round(statistics.median(one[side][name] for one in rounds), 2) for name in rounds[0][side]}
        for side in SIDES
    }
    written = json.dumps({"machine": {**machine, "load_at_end": report.load()}, "throughput": found}, indent=2)
    print(written, flush=True)
    if wanted.json:
        wanted.json.write_text(f"{written}\n")
    for side, label in SIDES.items():
        each, own, theirs = found[side].values()
        print(f"{label:36} {each:>8.1f} / s {own:>8.1f} ms CPU + {theirs:.1f} ms of its processes", file=sys.stderr)


def _measured(side: str, count: int, *, at_once: int, database: str) -> dict[str, float]:
    print(f"{SIDES[side]}: {count} …", file=sys.stderr, flush=True)
    with stack.surroundings(database, ROTA_MAX_SESSIONS=str(at_once)) as environment, stack.broker(environment):
        stack.run(["manage.py", "migrate", "--verbosity", "0"], environment, within=_LONGEST)
        try:
            done = stack.run(["-m", "bench.session_rate", side, str(count), str(at_once)], environment, within=_LONGEST)
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"{side} failed:\n{error.stderr[-3000:]}") from error
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    main()
