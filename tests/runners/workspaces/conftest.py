"""A cache, and workspaces of one repository."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from runners.workspaces import Archive, Cache, Workspace, archive, prepare
from tests.runners.repositories import Source
from tests.runners.workspaces.programs import program

FILES = {"readme.md": "# Acme\n", "src/app.py": "print('hello')\n", "src/lib.py": "x = 1\n"}


_ROOM = 500 * 1024 * 1024  # bytes


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory where the machine has room for it: on a busy disk the many small files here take a minute."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shutil.disk_usage(shared).free < _ROOM:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared, prefix="rota-") as folder:
        yield Path(folder)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def source(repository: Callable[[], Source]) -> Source:
    """A repository with one commit of three files."""
    made = repository()
    made.commit(FILES, "Begin")
    return made


@pytest.fixture
def acme(source: Source, cache: Cache) -> Cache:
    """The cache that has fetched `source` as `acme`."""
    cache.refresh("acme", source.url)
    return cache


@pytest.fixture
def checkout(acme: Cache, tmp_path: Path) -> Callable[[], Workspace]:
    """Prepares workspaces of `acme` at main, on the branches rota/nightly/1-1, 1-2, …"""
    numbers = itertools.count(1)

    def make() -> Workspace:
        number = next(numbers)
        folder = tmp_path / "workspaces" / f"w{number}"
        return prepare(acme, "acme", ref="main", branch=f"rota/nightly/1-{number}", into=folder, default_branch="main")

    return make


@pytest.fixture
def keep(acme: Cache, tmp_path: Path) -> Callable[[Workspace], Archive]:
    """Archives what a workspace of `acme` has changed."""

    def keep(workspace: Workspace) -> Archive:
        return archive(workspace, acme, into=tmp_path / "changes.patch", timeout=timedelta(seconds=10))

    return keep


@pytest.fixture
def forge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Serves repositories at ssh://forge/PATH by a stand-in for ssh. Its script says what happens before git answers.

    Gives the file that gets one line for each connection.
    """
    asked = tmp_path / "asked"

    def serve(script: str = "") -> Path:
        serving = f'echo x >> {asked}\n{script}\nfor last; do :; done\neval "exec $last"'
        monkeypatch.setenv("GIT_SSH_COMMAND", str(program(tmp_path / "bin", "ssh", serving)))
        return asked

    return serve
