"""What the backbone of Rota costs, measured on a Rota that runs: see bench/README.md.

    .venv/bin/python bench/first_light.py [--quick] [--database postgres] [--json FILE] [PART...]

Prints JSON on standard output, and a table of what matters most on standard error.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # who is started by a path finds only what is beside it

from bench import report

# In this order: a worker's growth is measured while it is young, and the last one fills the database.
PARTS = ("held_sessions", "around_the_agent", "due_to_start", "idle_beat")
_LONGEST = 280  # seconds for all parts together: on a quiet machine they take 200


def main() -> None:
    parser = report.parser("Measures what the backbone of Rota costs.", quick="under a minute", parts=PARTS)
    wanted = report.parsed(parser, parts=PARTS)
    machine = {**report.machine(), "database": wanted.database}
    found = report.beside_a_rota(wanted.parts, database=wanted.database, quick=wanted.quick, within=_LONGEST)
    report.publish({"machine": {**machine, "load_at_end": report.load()}, **found}, into=wanted.json)


if __name__ == "__main__":
    main()
