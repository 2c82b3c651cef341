"""One peer, one burst: prints `{"seconds": …, "cpu_ms_each": …}` as JSON."""

from __future__ import annotations

import json
import sys
from importlib import import_module

import django


def main(name: str, count: str) -> None:
    django.setup()
    seconds, cpu = import_module(f"bench.peers.{name}").measure(int(count))
    json.dump({"seconds": round(seconds, 3), "cpu_ms_each": round(cpu * 1000 / int(count), 4)}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
