"""What a checkout costs, new and kept, by the number of files, and with many sessions at once.

    .venv/bin/python bench/checkouts.py [--quick] [--files N …] [--at-once N] [--folder DIR] [--json FILE]

Prints JSON, and on the way what was found so far. Needs git and room for the files in DIR (default: the temporary
folder): some 5 GB, and 10 for twenty workspaces of 100,000 files at once, which is done only where --at-once asks.

Beside it, the floor: what plain git takes on the same disk, at the same place, with as many checkout workers.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # who is started by a path finds only what is beside it

from bench import report
from bench.figures import spreads
from runners import Cache, Kept, Workspace, archive, prepare, remove
from runners.workspaces.checkout import WORKERS
from runners.workspaces.folders import spread_apart

SIZES = (1_000, 20_000, 100_000)
AT_ONCE = 20
_ENVIRONMENT = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
_MOST_AT_ONCE = 20_000  # files: with more it takes minutes
_CHANGED = 100  # files that differ between two commits
_DIRT = 200  # files that a session leaves behind, of each kind


def main() -> None:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or millions of files would stay
    machine = {**report.machine(), **facts(arguments.folder)}
    sizes = arguments.files or (SIZES[:2] if arguments.quick else SIZES)
    found = measure(sizes, quick=arguments.quick, folder=arguments.folder, at_once=arguments.at_once)
    report.publish({"machine": {**machine, "load_at_end": report.load()}, "checkouts": found}, into=arguments.json)


def facts(folder: Path) -> dict[str, Any]:
    """What the figures depend on, beside the machine."""
    described = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    system = subprocess.run(["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=True)
    free = shutil.disk_usage(folder).free // 2**30
    return {"git": described, "file_system": system.stdout.strip(), "free_gb": free}


def measure(
    sizes: Sequence[int], *, quick: bool, folder: Path | None = None, at_once: int | None = None
) -> dict[str, dict[str, Any]]:
    """Number of files → figures. `at_once` None: as many sessions as usual, and none where that would take minutes."""
    found: dict[str, dict[str, Any]] = {}
    for files in sizes:
        usual = 0 if files > _MOST_AT_ONCE else 5 if quick else AT_ONCE
        many = usual if at_once is None else at_once
        with tempfile.TemporaryDirectory(dir=folder, prefix="rota-bench-") as name:
            for step, figures in _measured(Path(name), files, quick=quick, at_once=many):
                found.setdefault(str(files), {})[step] = figures
                print(f"{files} files, {step}: {figures}", file=sys.stderr, flush=True)
            # In a tenth of the time that Python takes; each by itself, for twenty take longer than one removal may.
            for entry in (*Path(name).glob("workspaces/kept/*/*"), *Path(name).iterdir()):
                remove(entry)
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures what a checkout costs, new and kept.")
    parser.add_argument("--quick", action="store_true", help="fewer files and repetitions: about half a minute")
    parser.add_argument("--files", type=int, nargs="+", metavar="N", help="how many files instead of the usual numbers")
    parser.add_argument("--at-once", type=int, metavar="N", help="sessions at once; 0: none")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where: it matters which disk")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON here, too")
    return parser.parse_args()


def _measured(folder: Path, files: int, *, quick: bool, at_once: int) -> Iterator[tuple[str, Any]]:
    """Name and figures: milliseconds of single sessions, seconds of many at once."""
    bench = _Bench(folder, files)
    times = 3 if quick or files > _MOST_AT_ONCE else 5
    yield "first_fetch", round(bench.first_fetch, 3)
    yield "plain_git", _repeated(times, bench.plain_git)
    yield "cold", _repeated(times, lambda: bench.session(warm=False))
    bench.session(warm=True)
    if bench.keeps:
        yield "warm", _repeated(times, lambda: bench.session(warm=True))
        yield "warm_at_another_commit", _repeated(times, bench.session_at_another_commit)
    else:
        yield "warm", None
    if at_once:
        yield "at_once", bench.at_once(at_once)


def _repeated(times: int, measure: Callable[[], dict[str, float]]) -> dict[str, dict[str, float]]:
    """Milliseconds of each step."""
    rows = [measure() for _ in range(times)]
    return spreads([{name: seconds * 1000 for name, seconds in row.items()} for row in rows])


class _Bench:
    """One repository of so many files, and sessions that work in it."""

    def __init__(self, folder: Path, files: int) -> None:
        self._folder, self._files = folder, files
        self._source = folder / "source"
        self._cache = Cache(folder / "cache")
        self._kept = Kept(folder / "workspaces" / "kept")
        self._number = 0
        spread_apart(folder)
        self._make_source()
        began = time.perf_counter()
        self._cache.refresh("bench", str(self._source))
        self.first_fetch = time.perf_counter() - began

    @property
    def keeps(self) -> bool:
        """Whether a checkout waits: on tmpfs none is kept."""
        return bool(self._kept.listed())

    def plain_git(self) -> dict[str, float]:
        """The floor: a clone that borrows its objects, the same work, and what makes it clean again. Seconds."""
        copy = (
            self._folder / "workspaces" / f"plain-{self._next()}"
        )  # of the same name, it would be put in the same place
        copy.parent.mkdir(exist_ok=True)
        spread_apart(copy.parent)
        began = time.perf_counter()
        self._git("-c", f"checkout.workers={WORKERS}", "clone", "--quiet", "--shared", ".", str(copy))
        cloned = time.perf_counter()
        self._dirty(copy, chance=random.Random(0))
        worked = time.perf_counter()
        self._git("-C", str(copy), "reset", "--quiet", "--hard")
        self._git("-C", str(copy), "clean", "-ffdxq")
        clean = time.perf_counter()
        remove(copy)
        return {"clone": cloned - began, "reset": clean - worked, "remove": time.perf_counter() - clean}

    def session(self, *, warm: bool) -> dict[str, float]:
        """Prepare, work, archive, clear away. Seconds of all but the work."""
        waits = self.keeps
        began = time.perf_counter()
        workspace = self._prepare(self._next(), warm=warm)
        prepared = time.perf_counter()
        if warm and waits and not workspace.renewed:
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
        numbers = chance.sample(range(self._files), _CHANGED)
        self._commit([(_path(number), f"changed for {self._number}\n") for number in numbers], on="main")
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
        self._dirty(workspace.path, chance=random.Random(workspace.folder.name))

    def _dirty(self, checkout: Path, *, chance: random.Random) -> None:
        """What sessions leave: edits, new files, build products in folders of their own."""
        for number in chance.sample(range(self._files), min(_DIRT, self._files)):
            path = checkout / _path(number)
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

    def _make_source(self) -> None:
        """Written as one pack: a hundred thousand files more would take minutes to write and to remove."""
        subprocess.run(
            ["git", "init", "--quiet", "--bare", "--initial-branch=main", str(self._source)],
            env=_ENVIRONMENT,
            check=True,
        )
        texts = ((_path(number), f"line of file {number}\n" * (20 + number % 150)) for number in range(self._files))
        self._commit([(".gitignore", "__pycache__/\n"), *texts], on="")

    def _commit(self, files: Iterable[tuple[str, str]], *, on: str) -> None:
        """Commit files, path and text, on top of a branch."""
        stream = [b"commit refs/heads/main\ncommitter Bench <bench@example.org> 1800000000 +0000\ndata 6\nChange\n"]
        stream += [f"from refs/heads/{on}^0\n".encode()] if on else []
        stream += [f"M 100644 inline {path}\ndata {len(text)}\n{text}\n".encode() for path, text in files]
        self._git("fast-import", "--quiet", stdin=b"".join(stream))

    def _git(self, *arguments: str, stdin: bytes = b"") -> None:
        subprocess.run(["git", *arguments], cwd=self._source, env=_ENVIRONMENT, input=stdin, check=True)


def _path(number: int) -> str:
    return f"part{number // 2000}/module{number // 20 % 100}/file{number}.txt"


if __name__ == "__main__":
    main()
