"""What a session costs beyond its agent: time, memory, the way of its words, its workspace. See bench/README.md.

    .venv/bin/python bench/sessions.py [--quick] [--database postgres] [--json FILE] [PART...]

Prints JSON on standard output, and a table of what matters most on standard error. Needs room for some 5 GB in the
temporary folder.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # who is started by a path finds only what is beside it

from bench import checkouts, report

# A worker's growth is measured while it is young; checkouts, which need no Rota, when all else is quiet again.
BESIDE_A_ROTA = ("held_sessions", "around_the_agent", "event_latency")
PARTS = (*BESIDE_A_ROTA, "checkouts")
_LONGEST = 300  # seconds for the parts beside a Rota


def main() -> None:
    parser = report.parser("Measures what a session costs beyond its agent.", quick="two minutes", parts=PARTS)
    wanted = report.parsed(parser, parts=PARTS)
    machine = {**report.machine(), **checkouts.facts(Path(tempfile.gettempdir())), "database": wanted.database}
    found: dict[str, Any] = {}
    if parts := [part for part in wanted.parts if part in BESIDE_A_ROTA]:
        found = report.beside_a_rota(parts, database=wanted.database, quick=wanted.quick, within=_LONGEST)
    if "checkouts" in wanted.parts:
        sizes = checkouts.SIZES[:2] if wanted.quick else checkouts.SIZES
        found["checkouts"] = checkouts.measure(sizes, quick=wanted.quick)
    report.publish({"machine": {**machine, "load_at_end": report.load()}, **found}, into=wanted.json)


if __name__ == "__main__":
    main()
