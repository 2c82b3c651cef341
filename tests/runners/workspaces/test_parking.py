"""The work of a session that still runs goes to another machine."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from runners.base import WorkspaceError
from runners.workspaces import Cache, Workspace, archive, prepare
from runners.workspaces.parking import LARGEST_FILE, bundle, bundle_branch, unbundle
from tests.runners.repositories import Source

SECRETS = {"TOKEN": "correct-horse-battery"}


@pytest.fixture
def source(tmp_path: Path) -> Source:
    source = Source(tmp_path / "shop")
    source.commit({"README.md": "# Shop\n", ".gitignore": "build/\n"}, "Begin")
    return source


def cache_on(source: Source, machine: Path) -> Cache:
    cache = Cache(machine / "repositories")
    cache.refresh("shop", source.url)
    return cache


@pytest.fixture
def cache(source: Source, tmp_path: Path) -> Cache:
    return cache_on(source, tmp_path / "one")


@pytest.fixture
def workspace(cache: Cache, tmp_path: Path) -> Workspace:
    return prepare(cache, "shop", ref="main", branch="rota/x/1-1", into=tmp_path / "one" / "workspaces" / "1")


def commit(workspace: Workspace, name: str, text: str) -> None:
    """As an agent does it."""
    (workspace.path / name).write_text(text)
    for arguments in (["add", name], ["commit", "-q", "-m", f"Add {name}"]):
        subprocess.run(["git", *arguments], cwd=workspace.path, check=True, capture_output=True)


def test_the_locks_of_a_git_that_was_killed_hinder_nobody(cache: Cache, workspace: Workspace, tmp_path: Path) -> None:
    commit(workspace, "one.txt", "one\n")
    file = tmp_path / "work.bundle"
    (tmp_path / "work.bundle.part").touch()
    (tmp_path / "work.bundle.part.lock").touch()
    assert bundle(workspace, cache, base=workspace.base_commit, into=file, secrets=SECRETS)


def test_commits_and_what_is_in_none_come_to_another_machine(
    source: Source, cache: Cache, workspace: Workspace, tmp_path: Path
) -> None:
    commit(workspace, "one.txt", "one\n")
    (workspace.path / "two.txt").write_text("two\n")
    (workspace.path / "large.bin").write_bytes(b"\0" * (LARGEST_FILE + 1))
    before = sorted(path.name for path in workspace.path.iterdir())
    file = tmp_path / "work.bundle"
    assert bundle(workspace, cache, base=workspace.base_commit, into=file, secrets=SECRETS)
    assert sorted(path.name for path in workspace.path.iterdir()) == before, "the session is at work in there"

    other = cache_on(source, tmp_path / "two")
    unbundle(other, "shop", file=file, branch=workspace.branch)
    there = prepare(other, "shop", ref=workspace.branch, branch="rota/x/1-1.2", into=tmp_path / "two" / "1")
    assert sorted(path.name for path in there.path.glob("*.*")) == [
        ".git",
        ".gitignore",
        "README.md",
        "one.txt",
        "two.txt",
    ]
    log = subprocess.run(["git", "log", "--format=%s"], cwd=there.path, check=True, capture_output=True, text=True)
    assert "Add one.txt" in log.stdout


def test_where_nothing_changed_there_is_nothing_to_keep(cache: Cache, workspace: Workspace, tmp_path: Path) -> None:
    assert not bundle(workspace, cache, base=workspace.base_commit, into=tmp_path / "b", secrets={})
    assert not (tmp_path / "b").exists()


def test_what_holds_a_secret_is_not_kept(cache: Cache, workspace: Workspace, tmp_path: Path) -> None:
    (workspace.path / "two.txt").write_text("correct-horse-battery\n")
    assert not bundle(workspace, cache, base=workspace.base_commit, into=tmp_path / "b", secrets=SECRETS)
    assert not (tmp_path / "b").exists()


def test_a_branch_that_was_kept_comes_there_too(
    source: Source, cache: Cache, workspace: Workspace, tmp_path: Path
) -> None:
    commit(workspace, "one.txt", "one\n")
    kept = archive(workspace, cache, into=tmp_path / "patch")
    file = tmp_path / "work.bundle"
    assert bundle_branch(cache, "shop", workspace.branch, base=workspace.base_commit, into=file)
    other = cache_on(source, tmp_path / "two")
    unbundle(other, "shop", file=file, branch=workspace.branch)
    assert other.resolve("shop", workspace.branch) == kept.head


def test_what_is_damaged_is_refused_in_a_sentence(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"no bundle")
    with pytest.raises(WorkspaceError, match="Taking over the work so far"):
        unbundle(cache, "shop", file=tmp_path / "b", branch="rota/x/1-1")


def test_a_tree_that_git_can_not_read_in_time_is_left(cache: Cache, workspace: Workspace, tmp_path: Path) -> None:
    commit(workspace, "one.txt", "one\n")
    with pytest.raises(WorkspaceError, match="took longer"):
        bundle(
            *(workspace, cache),
            base=workspace.base_commit,
            into=tmp_path / "b",
            secrets={},
            timeout=timedelta(milliseconds=1),
        )
    assert [path.name for path in tmp_path.glob("b*")] == []
