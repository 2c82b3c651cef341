"""Folders that are made whole or not at all, and removed whatever is in them."""

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from runners.base import WorkspaceError
from runners.workspaces import remove, sizes
from runners.workspaces.folders import building, spread_apart

TOP_DIRECTORY = 0x20000


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
    for number in range(20):  # what holds less needs no program
        (tmp_path / "tree" / f"{number}").touch()
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


def test_what_is_made_in_a_folder_is_placed_apart_where_the_file_system_can_do_that() -> None:
    with tempfile.TemporaryDirectory() as name:  # on a disk, where the folder of a test is in memory
        folder = Path(name)
        if _file_system_of(folder) not in ("ext3", "ext4"):
            pytest.skip("The temporary files are on another file system than ext4.")
        spread_apart(folder)
        spread_apart(folder)
        flags = _flags(folder)
        assert flags is not None
        (folder / "below").mkdir()
        assert flags & TOP_DIRECTORY
        assert _flags(folder / "below") == flags & ~TOP_DIRECTORY, "a session can't tell"


def test_a_folder_that_can_not_be_marked_does_no_harm(tmp_path: Path) -> None:
    spread_apart(tmp_path / "nowhere")
    spread_apart(Path("/proc"))


def _file_system_of(folder: Path) -> str:
    mounted = [part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)]
    return max(mounted, key=lambda part: len(part.mountpoint)).fstype


def _flags(folder: Path) -> int | None:
    read = bytearray(8)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, 0x80086601, read)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return int.from_bytes(read, sys.byteorder)
