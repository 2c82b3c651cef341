"""What a session made of its history is kept: branches, merges, commits that look back, histories cut short."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runners.workspaces import Cache, Workspace, archive, prepare
from tests.runners.repositories import Source, run_git
from tests.runners.workspaces.archives import commit, log

Checkout = Callable[[], Workspace]


@pytest.fixture
def patch(tmp_path: Path) -> Path:
    return tmp_path / "patches" / "changes.patch"


def test_a_commit_on_another_branch_is_the_result(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    run_git(workspace.path, "checkout", "--quiet", "-b", "fix/it")
    (workspace.path / "a").write_text("a\n")
    head = commit(workspace)
    run_git(workspace.path, "pack-refs", "--all")
    found = archive(workspace, acme, into=patch)
    assert (found.head, found.branch) == (head, workspace.branch)


def test_a_detached_head_with_a_commit_is_the_result(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    run_git(workspace.path, "checkout", "--quiet", "--detach")
    (workspace.path / "a").write_text("a\n")
    assert archive(workspace, acme, into=patch).commits == 1
    head = commit(workspace)
    assert archive(workspace, acme, into=patch).head == head


def test_packed_objects_are_kept_too(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    (workspace.path / "a").write_text("a\n")
    commit(workspace, "First")
    run_git(workspace.path, "gc", "--quiet", "--prune=now")  # joins ours with those of the cache in one pack
    (workspace.path / "b").write_text("b\n")
    commit(workspace, "Second")
    found = archive(workspace, acme, into=patch)
    assert log(acme, found) == ["Rota: Second", "Rota: First"]
    assert found.notes == ()


def test_a_merge_and_an_empty_commit_are_kept(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    run_git(workspace.path, "checkout", "--quiet", "-b", "side")
    commit(workspace, "Side")
    run_git(workspace.path, "checkout", "--quiet", workspace.branch)
    run_git(workspace.path, "merge", "--quiet", "--no-ff", "side", "-m", "Merge")
    found = archive(workspace, acme, into=patch)
    assert log(acme, found) == ["Rota: Merge", "Rota: Side"]
    assert (found.patch_path, found.changed_files, found.branch) == (None, 0, workspace.branch)


def test_history_written_anew_is_kept(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    run_git(workspace.path, "checkout", "--quiet", "--orphan", "anew")
    (workspace.path / "a").write_text("a\n")
    head = commit(workspace, "All anew")
    found = archive(workspace, acme, into=patch)
    assert (found.head, found.changed_files) == (head, 1)


def test_looking_at_another_commit_is_no_change(source: Source, cache: Cache, tmp_path: Path, patch: Path) -> None:
    first = source.git("rev-parse", "HEAD")
    source.commit({"a": "a\n"})
    cache.refresh("acme", source.url)
    workspace = prepare(cache, "acme", ref="main", branch="rota/x/1-1", into=tmp_path / "w")
    run_git(workspace.path, "checkout", "--quiet", first)
    found = archive(workspace, cache, into=patch)
    assert (found.branch, found.patch_path) == (None, None)
    assert found.notes == (f"The checkout was left at {first[:12]}, a commit of the repository, with no change.",)


def test_going_back_by_a_new_commit_is_a_change(source: Source, cache: Cache, tmp_path: Path, patch: Path) -> None:
    source.commit({"a": "a\n"})
    cache.refresh("acme", source.url)
    workspace = prepare(cache, "acme", ref="main", branch="rota/x/1-1", into=tmp_path / "w")
    run_git(workspace.path, "revert", "--no-edit", "HEAD")
    found = archive(workspace, cache, into=patch)
    assert (found.commits, found.deletions) == (1, 1)


def test_a_change_in_a_shallow_repository_is_kept(source: Source, cache: Cache, tmp_path: Path, patch: Path) -> None:
    source.commit({"a": "a\n"})
    run_git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{source.path}", "shallow")
    cache.refresh("acme", str(tmp_path / "shallow"))
    workspace = prepare(cache, "acme", ref="main", branch="rota/x/1-1", into=tmp_path / "w")
    (workspace.path / "b").write_text("b\n")
    commit(workspace)
    (workspace.path / "c").write_text("c\n")
    found = archive(workspace, cache, into=patch)
    assert (found.commits, found.changed_files, found.notes) == (2, 2, ())


def test_a_change_survives_that_the_forge_forgot_its_base(
    source: Source, checkout: Checkout, acme: Cache, patch: Path
) -> None:
    workspace = checkout()
    (workspace.path / "a").write_text("a\n")
    commit(workspace)
    source.git("commit", "--quiet", "--amend", "-m", "Begin anew")
    acme.refresh("acme", source.url)
    assert archive(workspace, acme, into=patch).commits == 1
