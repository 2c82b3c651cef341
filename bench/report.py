"""What the benchmarks have in common: their options, the machine, a Rota to measure, and how figures are told."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import stack

# Sessions at once are bounded by what is measured, and by nothing else.
_SETTINGS = {"ROTA_MAX_SESSIONS": "32", "ROTA_MAX_SESSIONS_PER_REPOSITORY": "32"}


def parser(what: str, *, quick: str, parts: Sequence[str]) -> argparse.ArgumentParser:
    """The options of a benchmark that has parts. `quick` says how long it takes with `--quick`."""
    made = argparse.ArgumentParser(description=what)
    made.add_argument("--quick", action="store_true", help=f"fewer repetitions: {quick}")
    made.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the JSON here, too")
    made.add_argument("parts", nargs="*", metavar="PART", help=f"these alone, of: {', '.join(parts)}")
    return made


def parsed(made: argparse.ArgumentParser, *, parts: Sequence[str]) -> argparse.Namespace:
    """What was asked for; without a part: all. A TERM from now on ends the program in order."""
    end_in_order()
    arguments = made.parse_args()
    if unknown := set(arguments.parts) - set(parts):
        made.error(f"no such part: {', '.join(unknown)}")
    arguments.parts = [part for part in parts if part in arguments.parts or not arguments.parts]
    return arguments


def end_in_order() -> None:
    """A TERM from now on ends what was started, too: nothing stays behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def machine() -> dict[str, Any]:
    """What figures depend on, beside what is measured."""
    return {
        "began_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load_at_begin": load(),
    }


def load() -> float:
    """How many processes wanted a core in the last minute: above the number of cores, figures are too high."""
    return round(os.getloadavg()[0], 1)


def beside_a_rota(parts: Sequence[str], *, database: str, quick: bool, within: float) -> dict[str, Any]:
    """Part → figures, measured on a Rota that is started for it and ended. `within` seconds, without its start.

    Raises SystemExit, after a word about it, when a part failed or they took too long.
    """
    command = [sys.executable, "-m", "bench.measure", *(["--quick"] if quick else []), *parts]
    with stack.surroundings(database, **_SETTINGS) as environment, stack.running(environment):
        try:
            done = subprocess.run(
                command,
                cwd=stack.ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                check=True,
                timeout=within,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise SystemExit(f"Nothing is reported: {error}") from error
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def publish(report: Mapping[str, Any], *, into: Path | None) -> None:
    """JSON on standard output and in the file, and a table of what matters most on standard error."""
    written = json.dumps(report, indent=2)
    print(written, flush=True)
    if into:
        into.write_text(f"{written}\n")
    print(f"{'':62} {'measured':>24}   target", file=sys.stderr)
    for name, measured, target in _rows(report):
        print(f"{name:62} {measured:>24}   {target}", file=sys.stderr)


def _rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    yield from _backbone(report)
    for count, memory in _of(report, "held_sessions"):
        if "in_all_mb" in memory:
            yield f"memory of one session, {count} running", f"{memory['in_all_mb']:.1f} MB", "15 MB"
    for name, cost in _of(report, "around_the_agent"):
        yield f"around an agent that {name}", f"{cost['overhead_ms']:.0f} ms", "500 ms"
    for count, latency in _of(report, "event_latency"):
        figures = f"{latency['p50']:.0f} / {latency['p99']:.0f} ms"
        yield f"line printed → event to be read, p50 / p99, {count} sessions", figures, "1 s"
    for size, found in _of(report, "checkouts"):
        yield from _checkouts(size, found)


def _backbone(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    due = report.get("due_to_start", {})
    for name in ("without_repository_ms", "with_repository_ms"):
        if name in due:
            whole = due[name]["in_all"]
            figures = f"{whole['p50']:.0f} / {whole['p99']:.0f} ms"
            yield f"due → process started, p50 / p99, {name[:-3].replace('_', ' ')}", figures, "fires within 1 s"
    for size, cost in _of(report, "idle_beat"):
        queries = f"{cost['queries_of_rota_a_tick']:.1f} + {cost['queries_of_django_celery_beat_a_tick']:.1f}"
        yield f"idle tick at {size} schedules: queries", queries, "2 of ours"
        yield f"idle tick at {size} schedules: CPU", f"{cost['cpu_ms_a_tick']:.2f} ms", ""
        yield f"beat at {size} schedules: PSS", f"{cost['beat_pss_mb']:.0f} MB", ""


def _checkouts(size: str, found: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    files = f"{int(size):,} files"
    plain = found["plain_git"]
    yield f"{files}: plain git, clone --shared", _seconds(plain["clone"]), "the floor"
    yield f"{files}: new workspace", _seconds(found["cold"]["prepare"]), ""
    yield f"{files}: plain git, reset --hard and clean", _seconds(plain["reset"]), "the floor"
    if found["warm"]:
        target = "0.3 s" if int(size) <= 20_000 else ""
        yield f"{files}: kept workspace", _seconds(found["warm"]["prepare"]), target
    if at_once := found.get("at_once"):
        for name in ("cold", "warm"):
            what = f"{files}: {at_once['sessions']} workspaces at once, {'new' if name == 'cold' else 'kept'}"
            yield f"{what}, the last one", f"{at_once[name]:.2f} s", ""


def _seconds(figures: Mapping[str, float]) -> str:
    return f"{figures['p50'] / 1000:.2f} s"


def _of(report: Mapping[str, Any], part: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """The figures of a part by size or name, without how long it took."""
    return [(name, figures) for name, figures in report.get(part, {}).items() if isinstance(figures, dict)]
