"""The measurements themselves, beside a Rota that runs: bench/first_light.py starts this in its surroundings.

python -m bench.measure [--quick] PART... prints one JSON object: part → figures
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib import import_module

import django


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("parts", nargs="+")
    arguments = parser.parse_args()
    django.setup()
    import_module("bench.rows").clear()
    found = {}
    for part in arguments.parts:
        print(f"Measuring {part} …", file=sys.stderr, flush=True)
        began = time.monotonic()
        figures = import_module(f"bench.{part}").measure(quick=arguments.quick)
        found[part] = {**figures, "seconds_taken": round(time.monotonic() - began)}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
