"""A burst: N schedules are due at once. How long until each is on record and enqueued, beside other schedulers.

    .venv/bin/pip install -r bench/requirements.txt              # the other schedulers
    .venv/bin/python bench/burst.py [--quick] [--times 3] [--json FILE] [PEER...]

Each peer is a module of bench/peers that says how it is set up and what counts as done. They take turns, each time in a
process of its own with a Valkey and a database of its own, which are gone afterwards. A peer that is not installed is
left out, and that is said. Prints JSON on standard output, a table on standard error.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # who is started by a path finds only what is beside it

from bench import report, stack
from bench.peers.stopwatch import WARM

# Name → (module, database). The first one of each database is its floor.
PEERS = {
    "floor, SQLite": ("floor", "sqlite"),
    "Rota, SQLite": ("rota", "sqlite"),
    "Rota, one line, SQLite": ("rota_one_line", "sqlite"),
    "Rota in a row, SQLite": ("rota_sustained", "sqlite"),
    "django-celery-beat, SQLite": ("stock", "sqlite"),
    "APScheduler, SQLite": ("apscheduler_peer", "sqlite"),
    "django-q2, SQLite": ("django_q", "sqlite"),
    "floor, PostgreSQL": ("floor", "postgres"),
    "Rota, PostgreSQL": ("rota", "postgres"),
    "Rota, one line, PostgreSQL": ("rota_one_line", "postgres"),
    "Rota in a row, PostgreSQL": ("rota_sustained", "postgres"),
    "django-celery-beat, PostgreSQL": ("stock", "postgres"),
    "APScheduler, PostgreSQL": ("apscheduler_peer", "postgres"),
    "django-q2, PostgreSQL": ("django_q", "postgres"),
    "procrastinate, PostgreSQL": ("procrastinate_peer", "postgres"),
    "celery-redbeat": ("redbeat_peer", "sqlite"),
    "huey": ("huey_peer", "sqlite"),
}
_SIZES = (1_000, 10_000)
_TIMES = ("median_ms", "slowest_ms")
_LONGEST = 900  # seconds for one burst of one peer
_LONG = 60  # seconds: who takes longer is measured once
_NOT_INSTALLED = "ModuleNotFoundError: No module named"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures a burst of due schedules, beside other schedulers.")
    parser.add_argument("--quick", action="store_true", help="1,000 schedules alone")
    parser.add_argument("--times", type=int, default=3, help="rounds (3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON here, too")
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"these alone, of: {'; '.join(PEERS)}")
    wanted = parser.parse_args()
    report.end_in_order()
    if unknown := set(wanted.peers) - set(PEERS):
        parser.error(f"no such peer: {', '.join(unknown)}")
    peers = wanted.peers or list(PEERS)
    sizes = _SIZES[:1] if wanted.quick else _SIZES
    machine = report.machine()
    found = {size: _bursts(peers, size, times=wanted.times) for size in sizes}
    written = json.dumps({"machine": {**machine, "load_at_end": report.load()}, "burst": found}, indent=2)
    print(written, flush=True)
    if wanted.json:
        wanted.json.write_text(f"{written}\n")
    for row in (*_table(found), *_growth(found)):
        print(row, file=sys.stderr)


def _bursts(peers: list[str], size: int, *, times: int) -> dict[str, dict[str, Any]]:
    """Peer → figures. They take turns, that a busy minute of the machine hits all of them."""
    taken: dict[str, list[dict[str, float]]] = {peer: [] for peer in peers}
    for _ in range(times):
        for peer, before in list(taken.items()):
            if before and before[-1]["seconds"] > _LONG:
                continue
            figures = _burst(peer, size)
            if figures is None:
                del taken[peer]
                continue
            taken[peer].append(figures)
    return {peer: _summed_up(rounds) for peer, rounds in taken.items()}


def _summed_up(rounds: list[dict[str, float]]) -> dict[str, Any]:
    """The smallest CPU time is nearest to what it is without other work."""
    seconds = [one["seconds"] for one in rounds]
    return {
        "median_ms": round(statistics.median(seconds) * 1000),
        "slowest_ms": round(max(seconds) * 1000),
        "rounds": len(rounds),
        "cpu_ms_each": min(one["cpu_ms_each"] for one in rounds),
    }


def _burst(peer: str, size: int) -> dict[str, float] | None:
    """One burst. None, after a word about it: the peer is not installed, or takes too long."""
    module, database = PEERS[peer]
    settings = "bench.peers.django_q_settings" if module == "django_q" else "config.settings"
    print(f"{peer}: {size:,} schedules …", file=sys.stderr, flush=True)
    most = str(WARM + size)
    with (
        stack.surroundings(database, DJANGO_SETTINGS_MODULE=settings, ROTA_MAX_SESSIONS=most) as environment,
        stack.broker(environment),
    ):
        try:
            stack.run(["manage.py", "migrate", "--verbosity", "0"], environment, within=_LONGEST)
            done = stack.run(["-m", "bench.peers", module, str(size)], environment, within=_LONGEST)
        except subprocess.TimeoutExpired:
            print(f"{peer} is left out: it takes longer than {_LONGEST // 60} minutes", file=sys.stderr)
            return None
        except subprocess.CalledProcessError as error:
            if _NOT_INSTALLED in error.stderr:
                print(f"{peer} is left out: {error.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                return None
            raise SystemExit(f"{peer} failed:\n{error.stderr[-3000:]}") from error
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _table(found: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> Iterator[str]:
    """The median and the slowest round, each also as so many times the median of the same database's floor."""
    for size, peers in found.items():
        title = f"{size:,} due at once"
        yield f"{title:34} {'median':>11} {'slowest':>11} {'CPU each':>10} {'× floor':>8} {'at worst':>8}"
        for peer, figures in peers.items():
            floor = peers.get(f"floor, {'PostgreSQL' if 'PostgreSQL' in peer else 'SQLite'}")
            times = [f"{figures[name] / floor['median_ms']:.1f}" if floor else "" for name in _TIMES]
            yield (
                f"{peer:34} {figures['median_ms']:>8,} ms {figures['slowest_ms']:>8,} ms "
                f"{figures['cpu_ms_each']:>7.3f} ms {times[0]:>8} {times[1]:>8}"
            )


def _growth(found: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> Iterator[str]:
    """How many times longer ten times as many take; and how many fires a second many in a row come to."""
    few, many = found[min(found)], found[max(found)]
    if few is not many:
        for peer in many:
            yield f"{peer:34} grows by {many[peer]['median_ms'] / few[peer]['median_ms']:.1f}"
    size = max(found)
    for peer, figures in many.items():
        if PEERS[peer][0] == "rota_sustained":
            yield f"{peer:34} {size / figures['median_ms'] * 1000:,.0f} fires a second, {5 * size:,} enabled"


if __name__ == "__main__":
    main()
