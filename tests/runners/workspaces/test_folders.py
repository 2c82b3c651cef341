"""Folders that are made whole or not at all, and removed whatever is in them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runners.base import WorkspaceError
from runners.workspaces import remove, sizes
from runners.workspaces.folders import building


def test_removing_does_not_follow_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    outside.chmod(0o500)
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "link").symlink_to(outside)
    (tree / "inner/link").symlink_to(outside / "precious")
    remove(tree)
    assert not tree.exists()
    (tmp_path / "link").symlink_to(outside)
    remove(tmp_path / "link")
    assert not (tmp_path / "link").is_symlink()
    assert (outside / "precious").read_text() == "x"
    assert outside.stat().st_mode & 0o777 == 0o500


def test_read_only_folders_are_removed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/file").touch()
    (tree / "a/b/file").chmod(0)
    (tree / "a/b").chmod(0o500)
    (tree / "a").chmod(0)
    remove(tree)
    assert not tree.exists()


def test_a_tree_that_is_too_deep_for_paths_and_recursion_is_removed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    script = "import os\nfor _ in range(2000): os.mkdir('folder'); os.chdir('folder')"
    subprocess.run([sys.executable, "-c", script], cwd=tree, check=True, timeout=30)
    remove(tree)
    assert not tree.exists()


def test_odd_names_files_and_nothing_are_removed(tmp_path: Path) -> None:
    for name in ("-rf", "a\nb", "--no-preserve-root"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
        remove(tmp_path / name)
    (tmp_path / "file").touch()
    remove(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    remove(tmp_path / "pipe")
    remove(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


def test_what_can_not_be_removed_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "bin").mkdir()
    for name in ("rm", "chmod"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(WorkspaceError, match="could not be removed"):
        remove(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()  # a half is never found under the name of the whole


def test_a_folder_comes_to_be_whole_or_not_at_all(tmp_path: Path) -> None:
    with building(tmp_path / "deep/new") as draft:
        (draft / "file").touch()
        assert not (tmp_path / "deep/new").exists()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["new"]
    with pytest.raises(FileNotFoundError), building(tmp_path / "deep/other") as draft:
        (draft / "missing/file").touch()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["new"]


def test_sizes_are_what_the_disk_holds(tmp_path: Path) -> None:
    assert sizes(tmp_path / "missing") == {}
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/data").write_bytes(b"x" * 1_000_000)
    (tmp_path / "a/same").hardlink_to(tmp_path / "a/b/data")
    (tmp_path / "a/link").symlink_to(tmp_path)
    with (tmp_path / "a/sparse").open("wb") as file:
        file.truncate(10**12)
    (tmp_path / "file").write_bytes(b"x" * 10_000)
    found = sizes(tmp_path)
    assert found.keys() == {"a", "file"}
    assert 1_000_000 <= found["a"] < 1_100_000
    assert 10_000 <= found["file"] < 20_000
