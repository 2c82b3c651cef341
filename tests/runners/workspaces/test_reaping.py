"""Workspaces of dead sessions are archived first, then removed."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runners.workspaces import Cache, Workspace, reap

Checkout = Callable[[], Workspace]


@pytest.fixture
def later() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=1)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_dead_sessions_work_is_archived_and_its_workspace_removed(
    checkout: Checkout, acme: Cache, tmp_path: Path, later: datetime
) -> None:
    workspace, idle = checkout(), checkout()
    (workspace.path / "a").write_text("a\n")
    work, nothing = reap(tmp_path / "workspaces", acme, before=later, into=tmp_path / "patches")
    assert work.name == "w1"
    assert work.archive is not None
    assert work.archive.branch == workspace.branch
    assert work.archive.patch_path == tmp_path / "patches" / "w1.patch"
    assert work.archive.patch_path.exists()
    assert nothing.archive is not None
    assert nothing.archive.head == idle.base_commit
    assert names(tmp_path / "workspaces") == []


def test_live_and_young_workspaces_stay(checkout: Checkout, acme: Cache, tmp_path: Path, later: datetime) -> None:
    live, young, old = checkout(), checkout(), checkout()
    os.utime(old.folder, (1000, 1000))
    os.utime(live.folder, (1000, 1000))
    root = tmp_path / "workspaces"
    (root / ".w8.0123abcd.new").mkdir()
    os.utime(root / ".w8.0123abcd.new", (1000, 1000))
    reaped = reap(root, acme, before=later - timedelta(hours=1), into=tmp_path, live={live.folder.name, "w8"})
    assert [entry.name for entry in reaped] == [old.folder.name]
    assert names(root) == sorted([live.folder.name, young.folder.name, ".w8.0123abcd.new"])


def test_halves_are_removed_and_never_archived(
    checkout: Checkout, acme: Cache, tmp_path: Path, later: datetime
) -> None:
    half_removed, root = checkout(), tmp_path / "workspaces"
    half_removed.folder.rename(root / ".w1.0123abcd.gone")
    (root / ".w1.0123abcd.gone" / "checkout" / "readme.md").unlink()
    (root / ".w9.0123abcd.new").mkdir()
    reaped = reap(root, acme, before=later, into=tmp_path / "patches")
    assert [(entry.archive, entry.error) for entry in reaped] == [(None, ""), (None, "")]
    assert names(root) == []
    assert not (tmp_path / "patches").exists()


def test_what_is_no_workspace_is_never_touched(acme: Cache, tmp_path: Path, later: datetime) -> None:
    root = tmp_path / "home"
    (root / "documents" / "checkout").mkdir(parents=True)
    (root / "documents" / "precious").touch()
    (root / "file").touch()
    (root / "link").symlink_to(root / "documents")
    assert reap(root, acme, before=later, into=tmp_path) == []
    assert names(root) == ["documents", "file", "link"]
    assert reap(tmp_path / "missing", acme, before=later, into=tmp_path) == []


def test_one_that_can_not_be_archived_stays_and_stops_nothing(
    checkout: Checkout, acme: Cache, tmp_path: Path, later: datetime
) -> None:
    broken, fine = checkout(), checkout()
    (broken.folder / "workspace.json").write_text("{}")
    lost, ok = reap(tmp_path / "workspaces", acme, before=later, into=tmp_path / "patches")
    assert "no whole workspace" in lost.error
    assert (lost.name, ok.name, ok.error) == (broken.folder.name, fine.folder.name, "")
    assert names(tmp_path / "workspaces") == [broken.folder.name]
