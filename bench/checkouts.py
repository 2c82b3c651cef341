"""What a checkout costs, new and kept, by the number of files, and with many sessions at once.

    .venv/bin/python bench/checkouts.py [--quick] [--files N …] [--at-once N] [--folder DIR] [--json FILE]

Prints JSON; the file has what was found so far, should it take too long. Needs git and room for the files: some 10 GB
in DIR (default: the temporary folder) for all of it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a program that is started by its path finds what lies beside it, and no more

from bench.figures import spread  # noqa: E402
from runners import Cache, Kept, Workspace, archive, prepare, remove  # noqa: E402

SIZES = (1_000, 20_000, 100_000)
AT_ONCE = 20
_CHANGED = 100  # files that differ between two commits
_DIRT = 200  # files that a session leaves behind, of each kind


def main() -> None:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or millions of files would stay
    report: dict[str, Any] = {"machine": _machine(arguments.folder)}
    for files in arguments.files or (SIZES[:2] if arguments.quick else SIZES):
        with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="rota-bench-") as folder:
            for name, figures in _measured(Path(folder), files, quick=arguments.quick, at_once=arguments.at_once):
                report.setdefault(str(files), {})[name] = figures
                report["machine"]["load_at_end"] = _load()
                if arguments.json:
                    arguments.json.write_text(f"{json.dumps(report, indent=2)}\n")
                print(f"{files} files, {name}: {json.dumps(figures)}", file=sys.stderr, flush=True)
    print(json.dumps(report, indent=2))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures what a checkout costs, new and kept.")
    parser.add_argument("--quick", action="store_true", help="fewer files and repetitions: about half a minute")
    parser.add_argument("--files", type=int, nargs="+", metavar="N", help="how many files instead of the usual numbers")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, metavar="N", help="sessions at once; 0: none")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where: it matters which disk")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON here, too")
    return parser.parse_args()


def _measured(folder: Path, files: int, *, quick: bool, at_once: int) -> Iterator[tuple[str, Any]]:
    """Name and figures: milliseconds of single sessions, seconds of many at once."""
    bench = _Bench(folder, files)
    times = 3 if quick or files > SIZES[1] else 5
    yield "first_fetch", round(bench.first_fetch, 3)
    yield "cold", _repeated(times, lambda: bench.session(warm=False))
    bench.session(warm=True)
    if bench.keeps:
        yield "warm", _repeated(times, lambda: bench.session(warm=True))
        yield "warm_at_another_commit", _repeated(times, bench.session_at_another_commit)
    else:
        yield "warm", None
    if at_once:
        yield "at_once", bench.at_once(min(at_once, 5) if quick else at_once)


def _repeated(times: int, measure: Callable[[], dict[str, float]]) -> dict[str, dict[str, float]]:
    """Milliseconds of each step."""
    rows = [measure() for _ in range(times)]
    return {name: spread([row[name] * 1000 for row in rows]) for name in rows[0]}


class _Bench:
    """One repository of so many files, and sessions that work in it."""

    def __init__(self, folder: Path, files: int) -> None:
        self._folder, self._files = folder, files
        self._source = folder / "source"
        self._cache = Cache(folder / "cache")
        self._kept = Kept(folder / "workspaces" / "kept")
        self._number = 0
        self._make_source()
        began = time.perf_counter()
        self._cache.refresh("bench", str(self._source))
        self.first_fetch = time.perf_counter() - began

    @property
    def keeps(self) -> bool:
        """Whether a checkout waits: on tmpfs none is kept."""
        return bool(self._kept.listed())

    def session(self, *, warm: bool) -> dict[str, float]:
        """Prepare, work, archive, clear away. Seconds of all but the work."""
        began = time.perf_counter()
        workspace = self._prepare(self._next(), warm=warm)
        prepared = time.perf_counter()
        if warm and self._number > 1 and not workspace.renewed and self._kept.listed():
            raise RuntimeError("A kept checkout was not used.")
        self._work(workspace)
        worked = time.perf_counter()
        archive(workspace, self._cache, into=self._folder / "changes.patch")
        archived = time.perf_counter()
        self._clear(workspace, warm=warm)
        cleared = time.perf_counter()
        return {"prepare": prepared - began, "archive": archived - worked, "clear": cleared - archived}

    def session_at_another_commit(self) -> dict[str, float]:
        chance = random.Random(self._number)
        for number in chance.sample(range(self._files), _CHANGED):
            self._path(number).write_text(f"changed for {self._number}\n")
        self._git("commit", "--quiet", "--all", "-m", "Change")
        self._cache.refresh("bench", str(self._source))
        return self.session(warm=True)

    def at_once(self, count: int) -> dict[str, Any]:
        """So many sessions begin at one moment: all cold, then all with a kept checkout."""
        found: dict[str, Any] = {"sessions": count}
        remove(self._kept.root)
        for name in ("cold", "warm"):
            numbers = [self._next() for _ in range(count)]
            began = time.perf_counter()
            with ThreadPoolExecutor(count) as pool:
                made = list(pool.map(lambda number: self._prepare(number, warm=True), numbers))
            found[name] = round(time.perf_counter() - began, 3)
            found[f"{name}_renewed"] = sum(workspace.renewed for workspace in made)
            for workspace in made:
                self._work(workspace)
            began = time.perf_counter()
            with ThreadPoolExecutor(count) as pool:
                reasons = list(pool.map(lambda workspace: self._clear(workspace, warm=True), made))
            found[f"{name}_cleared"] = round(time.perf_counter() - began, 3)
            found[f"{name}_not_kept"] = sorted(filter(None, reasons))
        return found

    def _prepare(self, number: int, *, warm: bool) -> Workspace:
        return prepare(
            self._cache,
            "bench",
            ref="main",
            branch=f"rota/bench/{number}",
            into=self._folder / "workspaces" / str(number),
            default_branch="main",
            kept=self._kept if warm else None,
        )

    def _work(self, workspace: Workspace) -> None:
        """What sessions leave: edits, new files, build products in folders of their own, commits."""
        chance = random.Random(workspace.folder.name)
        for number in chance.sample(range(self._files), min(_DIRT, self._files)):
            path = workspace.path / self._path(number).relative_to(self._source)
            path.write_text("edited\n")
            (path.parent / "new").write_text("new\n")
            (path.parent / "__pycache__").mkdir(exist_ok=True)
            (path.parent / "__pycache__" / "made").write_text("made\n")

    def _clear(self, workspace: Workspace, *, warm: bool) -> str:
        if warm:
            return self._kept.give(workspace.folder, slug="bench")
        workspace.remove()
        return ""

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _path(self, number: int) -> Path:
        return self._source / f"part{number // 2000}" / f"module{number // 20 % 100}" / f"file{number}.txt"

    def _make_source(self) -> None:
        for number in range(self._files):
            path = self._path(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"line of file {number}\n" * (20 + number % 150))
        (self._source / ".gitignore").write_text("__pycache__/\n")
        self._git("init", "--quiet", "--initial-branch=main")
        self._git("add", "--all")
        self._git("commit", "--quiet", "-m", "Begin")

    def _git(self, *arguments: str) -> None:
        identity = ("-c", "user.name=Bench", "-c", "user.email=bench@example.org", "-c", "gc.auto=0")
        environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        subprocess.run(["git", *identity, *arguments], cwd=self._source, env=environment, check=True)


def _machine(folder: Path) -> dict[str, Any]:
    described = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    system = subprocess.run(["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=True)
    free = shutil.disk_usage(folder).free // 2**30
    return {
        "cores": os.cpu_count(),
        "git": described,
        "file_system": system.stdout.strip(),
        "free_gb": free,
        "load": _load(),
    }


def _load() -> float:
    return round(os.getloadavg()[0], 1)


if __name__ == "__main__":
    main()
