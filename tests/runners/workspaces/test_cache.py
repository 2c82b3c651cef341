"""One cache per repository: whole or healed, whoever uses it, whoever was killed."""

import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runners.base import FetchFailed, RepositoryInvalid, Unwanted, WorkspaceError
from runners.workspaces import Cache, prepare
from runners.workspaces.locks import Busy, locked
from runners.workspaces.wanted import as_long_as
from tests.runners.repositories import Source, run_git
from tests.runners.workspaces.caches import branches, is_sound
from tests.runners.workspaces.programs import program

SOON = timedelta(seconds=20)


def refuse(folder: Path, monkeypatch: pytest.MonkeyPatch, cases: str) -> None:
    """Have git do something else in some cases, by the arguments that it gets."""
    script = f'case "$*" in {cases} esac\nexec {shutil.which("git")} "$@"'
    monkeypatch.setenv("PATH", f"{program(folder, 'git', script).parent}:{os.environ['PATH']}")


def test_branches_and_tags_are_fetched_apart_from_those_of_sessions(source: Source, cache: Cache) -> None:
    source.git("branch", "rota/nightly/1-1")
    source.git("tag", "-a", "v1", "-m", "One")
    head = source.git("rev-parse", "HEAD")
    cache.refresh("acme", source.url)
    assert branches(cache) == {
        "refs/remotes/origin/main": head,
        "refs/remotes/origin/rota/nightly/1-1": head,
        "refs/tags/v1": source.git("rev-parse", "v1"),
    }
    assert [path.name for path in sorted(cache.root.iterdir())] == ["acme.git", "acme.lock"]


def test_a_refresh_follows_the_repository(source: Source, acme: Cache) -> None:
    source.git("branch", "old")
    source.git("tag", "v1")
    acme.refresh("acme", source.url)
    source.git("branch", "-D", "old")
    source.git("tag", "-d", "v1")
    source.git("branch", "old/new")  # takes the place of the file `old`
    source.git("commit", "--quiet", "--amend", "-m", "Begin anew")
    acme.refresh("acme", source.url)
    assert branches(acme) == {
        "refs/remotes/origin/main": source.git("rev-parse", "HEAD"),
        "refs/remotes/origin/old/new": source.git("rev-parse", "old/new"),
    }


def test_what_is_known_is_told_with_its_time(source: Source, cache: Cache) -> None:
    assert cache.known("acme") is None
    before = datetime.now(UTC)
    cache.refresh("acme", source.url)
    known = cache.known("acme")
    assert known is not None
    assert known.url == source.url
    assert before <= known.fetched_at <= datetime.now(UTC)


def test_a_ref_is_a_branch_then_a_sessions_branch_then_a_tag_then_a_commit(source: Source, acme: Cache) -> None:
    first = source.git("rev-parse", "HEAD")
    source.git("tag", "-a", "main", "-m", "named like the branch")
    source.git("tag", "-a", "v1", "-m", "One")
    second = source.commit({"a": "a"})
    acme.refresh("acme", source.url)
    source.git("branch", "work", first)
    acme.keep_branch("acme", "rota/nightly/1-1", source=source.path / ".git", ref="work")
    assert acme.resolve("acme", "main") == second
    assert acme.resolve("acme", "rota/nightly/1-1") == first
    assert acme.resolve("acme", "v1") == first
    assert acme.resolve("acme", first) == first
    assert acme.holds("acme", first)
    assert not acme.holds("acme", "0" * 40)
    assert not acme.holds("other", first)


@pytest.mark.parametrize("ref", ["missing", "0" * 40, "refs/heads/main"])
def test_what_is_nowhere_is_refused(acme: Cache, ref: str) -> None:
    with pytest.raises(RepositoryInvalid, match="has no branch, tag or commit"):
        acme.resolve("acme", ref)


def test_a_tree_is_no_commit(source: Source, acme: Cache) -> None:
    with pytest.raises(RepositoryInvalid):
        acme.resolve("acme", source.git("rev-parse", "HEAD^{tree}"))


@pytest.mark.parametrize("ref", ["-x", "--upload-pack=x", "a b", "main\nHEAD", "main^{tree}"])
def test_no_ref_becomes_anything_else(acme: Cache, ref: str) -> None:
    with pytest.raises(RepositoryInvalid, match="can't be the name of a branch"):
        acme.resolve("acme", ref)


@pytest.mark.parametrize("slug", ["", "..", "a/b", "../x", "-x", ".x", "a..b", "a b", "x" * 101])
def test_a_slug_stays_in_its_folder(cache: Cache, slug: str) -> None:
    with pytest.raises(RepositoryInvalid, match="can't name a repository"):
        cache.path(slug)


def test_nothing_is_read_before_the_first_fetch(cache: Cache) -> None:
    with pytest.raises(WorkspaceError, match="has not been fetched"):
        cache.resolve("acme", "main")


def test_an_empty_repository_is_refused_and_leaves_nothing(repository: Callable[[], Source], cache: Cache) -> None:
    empty = repository()
    with pytest.raises(RepositoryInvalid, match="has no commits yet"):
        cache.refresh("acme", empty.url)
    assert [path.name for path in cache.root.iterdir()] == ["acme.lock"]
    empty.commit({"a": "a"})
    cache.refresh("acme", empty.url)
    assert cache.resolve("acme", "main")


def test_a_shallow_repository_works_as_far_as_it_goes(source: Source, cache: Cache, tmp_path: Path) -> None:
    source.commit({"a": "a"})
    run_git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{source.path}", "shallow")
    cache.refresh("acme", str(tmp_path / "shallow"))
    workspace = prepare(cache, "acme", ref="main", branch="rota/x/1-1", into=tmp_path / "w")
    assert run_git(workspace.path, "log", "--format=%s") == "Change"
    assert run_git(workspace.path, "status", "--porcelain") == ""
    run_git(tmp_path / "shallow", "fetch", "--quiet", "--unshallow")
    cache.refresh("acme", str(tmp_path / "shallow"))


def test_a_worktree_is_fetched_with_its_commits_and_without_its_changes(
    source: Source, cache: Cache, tmp_path: Path
) -> None:
    source.git("worktree", "add", "--quiet", "-b", "side", str(tmp_path / "side"))
    (tmp_path / "side" / "readme.md").write_text("changed")
    cache.refresh("acme", str(tmp_path / "side"))
    assert cache.resolve("acme", "side") == source.git("rev-parse", "main")


def test_many_small_packs_are_joined(source: Source, acme: Cache) -> None:
    packs = acme.objects("acme") / "pack"
    [first] = packs.glob("*.pack")
    lone = source.commit({"lone": "nothing will lead to this"})
    acme.refresh("acme", source.url)
    source.git("reset", "--quiet", "--hard", "HEAD~1")
    for number in range(50):  # as fifty fetches would leave them
        copy = packs / f"pack-{number:040x}"
        shutil.copy(first, copy.with_suffix(".pack"))
        shutil.copy(first.with_suffix(".idx"), copy.with_suffix(".idx"))
    source.commit({"a": "a"})
    acme.refresh("acme", source.url)
    assert len(list(packs.glob("*.pack"))) < 5
    assert is_sound(acme)
    assert acme.resolve("acme", lone) == lone  # a checkout may borrow it


def test_packs_that_can_not_be_joined_are_no_failed_fetch(
    source: Source, acme: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(51):
        (acme.path("acme") / f"objects/pack/pack-{number}.pack").touch()
    tried = tmp_path / "tried"
    refuse(tmp_path / "bin", monkeypatch, f"*geometric*) echo x >> {tried}; exit 128;;")
    source.commit({"new.md": "new"}, "Go on")
    acme.refresh("acme", source.url)
    assert tried.read_text() == "x\n"
    assert acme.resolve("acme", "main") == source.git("rev-parse", "HEAD")


def test_twenty_who_ask_at_once_cost_two_fetches(source: Source, cache: Cache, forge: Callable[[str], Path]) -> None:
    asked = forge("sleep 0.2")
    begin = threading.Barrier(20)

    def refresh() -> None:
        begin.wait()
        cache.refresh("acme", f"ssh://forge{source.path}")

    with ThreadPoolExecutor(20) as pool:
        for future in [pool.submit(refresh) for _ in range(20)]:
            future.result()
    assert 1 <= len(asked.read_text().splitlines()) <= 2


def test_a_forge_that_is_gone_fails_all_who_wait_at_once(
    source: Source, cache: Cache, forge: Callable[[str], Path]
) -> None:
    asked = forge("sleep 0.2; echo 'Connection refused' >&2; exit 255")
    begin = threading.Barrier(20)

    def refresh() -> str:
        begin.wait()
        with pytest.raises(FetchFailed) as caught:
            cache.refresh("acme", f"ssh://forge{source.path}")
        return str(caught.value)

    with ThreadPoolExecutor(20) as pool:
        told = {future.result() for future in [pool.submit(refresh) for _ in range(20)]}
    assert len(asked.read_text().splitlines()) <= 2
    [sentence] = told
    assert "Connection refused" in sentence


def test_one_who_asks_later_fetches_again(source: Source, acme: Cache) -> None:
    head = source.commit({"a": "a"})
    acme.refresh("acme", source.url)
    assert acme.resolve("acme", "main") == head


def test_a_forge_that_hangs_is_given_up_and_the_last_state_stays(
    source: Source, acme: Cache, forge: Callable[[str], Path]
) -> None:
    forge("exec sleep 30")
    with pytest.raises(FetchFailed, match=r"longer than 0\.3 s"):
        acme.refresh("acme", f"ssh://forge{source.path}", timeout=timedelta(seconds=0.3))
    known = acme.known("acme")
    assert known is not None
    assert known.url == source.url
    assert acme.resolve("acme", "main") == source.git("rev-parse", "HEAD")


@pytest.mark.parametrize("said", ["Connection refused", "fatal: something that nobody has heard of"])
def test_a_forge_that_fails_leaves_the_last_state(
    source: Source, acme: Cache, forge: Callable[[str], Path], said: str
) -> None:
    forge(f"echo '{said}' >&2; exit 255")
    with pytest.raises(FetchFailed, match=said.removeprefix("fatal: ")):
        acme.refresh("acme", f"ssh://forge{source.path}")
    assert acme.resolve("acme", "main") == source.git("rev-parse", "HEAD")


def test_a_repository_that_is_gone_leaves_the_last_state(source: Source, acme: Cache, tmp_path: Path) -> None:
    source.path.rename(tmp_path / "moved")
    with pytest.raises(RepositoryInvalid, match="There is no git repository at"):
        acme.refresh("acme", source.url)
    assert acme.resolve("acme", "main")


def test_a_cache_too_large_to_be_checked_is_not_taken_for_damaged(
    source: Source, acme: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, full = tmp_path / "asked", "echo 'fatal: Out of memory, malloc failed' >&2; exit 128"
    refuse(tmp_path / "bin", monkeypatch, f"*' fsck '*) {full};; *' fetch '*) echo x >> {asked}; exit 128;;")
    with pytest.raises(FetchFailed):
        acme.refresh("acme", source.url)
    assert asked.read_text() == "x\n", "all of it is fetched anew"


def test_who_is_not_wanted_any_more_does_not_wait_for_the_lock(source: Source, acme: Cache) -> None:
    with locked(acme.root / "acme.lock", wait=SOON), as_long_as(lambda: False), pytest.raises(Unwanted):
        acme.refresh("acme", source.url, timeout=timedelta(minutes=5))


def test_a_lock_that_stays_taken_is_a_failed_fetch(source: Source, acme: Cache) -> None:
    with (
        locked(acme.root / "acme.lock", wait=SOON),
        pytest.raises(FetchFailed, match=r"in use by others for 0\.1 s"),
    ):
        acme.refresh("acme", source.url, timeout=timedelta(seconds=0.1))


def test_a_repository_that_moved_is_followed_and_nothing_is_lost(
    source: Source, acme: Cache, repository: Callable[[], Source]
) -> None:
    kept = source.git("rev-parse", "HEAD")
    acme.keep_branch("acme", "rota/nightly/1-1", source=source.path / ".git", ref="HEAD")
    other = repository()
    head = other.commit({"b": "b"})
    acme.refresh("acme", other.url)
    assert branches(acme) == {"refs/heads/rota/nightly/1-1": kept, "refs/remotes/origin/main": head}
    known = acme.known("acme")
    assert known is not None
    assert known.url == other.url


def test_the_lock_excludes_threads_and_is_free_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with locked(path, wait=SOON), pytest.raises(Busy), locked(path, wait=timedelta(0)):
        pass
    with pytest.raises(ZeroDivisionError), locked(path, wait=SOON):
        _ = 1 / 0
    with locked(path, wait=timedelta(0)):
        pass
