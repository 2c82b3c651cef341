"""Where a run starts: at the newest commit, at the one it pinned, or, where that is wanted, at the last one known."""

import os
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from runners.base import FetchFailed, RepositoryInvalid
from runners.workspaces import Cache, find_start
from runners.workspaces.locks import locked
from tests.runners.repositories import Source
from tests.runners.workspaces.programs import program

SOON = timedelta(seconds=0.5)
BOUND = 6  # seconds: twice the half one, and the grace in which git is ended


def hanging_https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"https://127.0.0.1:{server.getsockname()[1]}/acme.git"


def hanging_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("GIT_SSH_COMMAND", str(program(tmp_path / "bin", "ssh", "sleep 60; exit 1")))
    yield "ssh://forge/acme.git"


def hanging_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A repository on a file system that does not answer: a pipe is as patient."""
    folder = tmp_path / "stuck.git"
    for name in ("objects", "refs"):
        (folder / name).mkdir(parents=True)
    (folder / "HEAD").write_text("ref: refs/heads/main\n")
    os.mkfifo(folder / "config")
    yield f"file://{folder}"


@pytest.fixture(params=[hanging_https, hanging_ssh, hanging_file])
def hanging(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    yield from request.param(tmp_path, monkeypatch)


def moved(cache: Cache, url: str) -> None:
    """Let the cache have fetched this address before."""
    state = cache.path("acme") / "rota.json"
    known = cache.known("acme")
    assert known is not None
    state.write_text(state.read_text().replace(known.url, url))


def git_processes() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_it_is_the_newest_commit_of_the_default_branch(source: Source, cache: Cache) -> None:
    found = find_start(cache, "acme", source.url)
    assert (found.commit, found.branch, found.stale) == (source.git("rev-parse", "HEAD"), "main", "")
    newer = source.commit({"a": "a"})
    source.git("checkout", "--quiet", "-b", "other")
    other = source.commit({"b": "b"})
    assert find_start(cache, "acme", source.url, branch="main").commit == newer
    assert find_start(cache, "acme", source.url).branch == "other"
    assert find_start(cache, "acme", source.url).commit == other


def test_what_is_pinned_needs_no_forge_where_it_is_there(source: Source, acme: Cache) -> None:
    first = find_start(acme, "acme", source.url).commit
    source.commit({"a": "a"})
    source.path.rename(source.path.with_name("gone"))
    found = find_start(acme, "acme", source.url, commit=first)
    assert (found.commit, found.branch, found.stale) == (first, "main", "")


def test_what_another_machine_pinned_is_fetched(source: Source, acme: Cache) -> None:
    newer = source.commit({"a": "a"})
    assert find_start(acme, "acme", source.url, commit=newer).commit == newer
    with pytest.raises(RepositoryInvalid):
        find_start(acme, "acme", source.url, commit="0" * 40)


def test_a_forge_that_hangs_fails_within_the_bound_and_leaves_nothing(hanging: str, acme: Cache) -> None:
    for branch in ("", "main"):
        before, began = git_processes(), time.monotonic()
        with pytest.raises(FetchFailed, match="took longer than"):
            find_start(acme, "acme", hanging, branch=branch, timeout=SOON)
        assert time.monotonic() - began < BOUND
        assert git_processes() <= before
        with locked(acme.path("acme").with_suffix(".lock"), wait=timedelta(0)):
            pass


def test_a_forge_that_hangs_is_done_without_where_that_is_wanted(hanging: str, source: Source, acme: Cache) -> None:
    acme.note_default_branch("acme", "main")
    moved(acme, hanging)
    for branch in ("", "main"):
        began = time.monotonic()
        found = find_start(acme, "acme", hanging, branch=branch, timeout=SOON, or_last_known=True)
        assert time.monotonic() - began < BOUND
        assert (found.commit, found.branch) == (source.git("rev-parse", "HEAD"), "main")
        known = acme.known("acme")
        assert known is not None
        assert "took longer than" in found.stale
        assert f"its last known state, of {known.fetched_at:%Y-%m-%d %H:%M} UTC." in found.stale


def test_a_forge_that_is_gone_is_done_without_where_that_is_wanted(
    source: Source, acme: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refusing = program(tmp_path / "bin", "ssh", "echo 'Could not resolve hostname forge' >&2; exit 255")
    monkeypatch.setenv("GIT_SSH_COMMAND", str(refusing))
    moved(acme, "ssh://forge/acme.git")
    found = find_start(acme, "acme", "ssh://forge/acme.git", branch="main", or_last_known=True)
    assert found.commit == source.git("rev-parse", "HEAD")
    assert "Could not resolve hostname" in found.stale
    with pytest.raises(FetchFailed):
        find_start(acme, "acme", "ssh://forge/acme.git", branch="main")


@pytest.mark.parametrize(
    ("slug", "known", "branch", "commit"),
    [
        pytest.param("other", False, "main", "", id="nothing is known"),
        pytest.param("acme", False, "main", "", id="another address is known"),
        pytest.param("acme", True, "", "", id="its default branch is not known"),
        pytest.param("acme", True, "main", "0" * 40, id="what is pinned is missing"),
    ],
)
def test_without_a_last_known_state_it_fails_all_the_same(
    acme: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, slug: str, known: bool, branch: str, commit: str
) -> None:
    url = "ssh://forge/acme.git"
    monkeypatch.setenv("GIT_SSH_COMMAND", str(program(tmp_path / "bin", "ssh", "exit 255")))
    if known:
        moved(acme, url)
    with pytest.raises(FetchFailed):
        find_start(acme, slug, url, branch=branch, commit=commit, or_last_known=True)


def test_an_address_that_is_refused_stays_so(acme: Cache) -> None:
    with pytest.raises(RepositoryInvalid):
        find_start(acme, "acme", "ext::sh -c true", branch="main", or_last_known=True)


@pytest.mark.parametrize("noted", ["", "-x", "a..b", "\udcff"])
def test_a_damaged_note_of_the_default_branch_is_none(acme: Cache, noted: str) -> None:
    (acme.path("acme") / "rota-default-branch").write_bytes(os.fsencode(noted))
    assert acme.default_branch("acme") == ""
