"""What a session did becomes a patch and a branch: all of it, once, and nothing else."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from runners.base import DiskFull, WorkspaceError
from runners.workspaces import Archive, Cache, Workspace, archive, diff_text
from runners.workspaces.locks import Busy, locked
from tests.processes import until
from tests.runners.repositories import Source, run_git
from tests.runners.workspaces.archives import commit, log
from tests.runners.workspaces.conftest import FILES
from tests.runners.workspaces.test_checkout import files

Checkout = Callable[[], Workspace]


@pytest.fixture
def patch(tmp_path: Path) -> Path:
    return tmp_path / "patches" / "changes.patch"


def patched(source: Source, found: Archive, tmp_path: Path) -> dict[str, str]:
    """The files that come of the patch, applied by git to the base."""
    folder = tmp_path / "patched"
    run_git(tmp_path, "clone", "--quiet", "--no-local", source.url, str(folder))
    run_git(folder, "checkout", "--quiet", found.base_commit)
    run_git(folder, "apply", "--index", str(found.patch_path))
    return files(folder)


def test_nothing_changed_leaves_nothing(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    found = archive(workspace, acme, into=patch)
    assert found == Archive(base_commit=workspace.base_commit, head=workspace.base_commit)
    assert not patch.parent.exists()
    assert run_git(acme.path("acme"), "branch") == ""
    assert diff_text(found) == ""


def test_reading_and_touching_is_no_change(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    (workspace.path / "readme.md").touch()
    os.utime(workspace.path / "src/app.py", (1, 1))
    (workspace.path / "src/lib.py").unlink()
    (workspace.path / "src/lib.py").write_text(FILES["src/lib.py"])
    (workspace.path / "empty").mkdir()
    run_git(workspace.path, "status")
    assert archive(workspace, acme, into=patch).branch is None


def test_uncommitted_changes_are_committed_by_rota(
    checkout: Checkout, acme: Cache, patch: Path, source: Source, tmp_path: Path
) -> None:
    workspace = checkout()
    (workspace.path / "readme.md").write_text("# Acme 2\n")
    (workspace.path / "new.txt").write_text("one\ntwo\n")
    (workspace.path / "src/lib.py").unlink()
    found = archive(workspace, acme, into=patch)
    assert (found.changed_files, found.insertions, found.deletions, found.commits) == (3, 3, 2, 1)
    assert (found.branch, found.committed_by_rota, found.notes, found.left_out) == (workspace.branch, True, (), ())
    assert found.patch_path == patch
    assert found.patch_bytes == patch.stat().st_size
    assert log(acme, found) == ["Rota: Keep what the session left uncommitted"]
    assert patched(source, found, tmp_path) == files(workspace.path)
    assert acme.resolve("acme", workspace.branch) == found.head


def test_commits_stay_what_they_are(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    (workspace.path / "a").write_text("a\n")
    commit(workspace, "First")
    (workspace.path / "b").write_text("b\n")
    head = commit(workspace, "Second")
    found = archive(workspace, acme, into=patch)
    assert (found.head, found.commits, found.committed_by_rota) == (head, 2, False)
    assert (found.changed_files, found.insertions, found.deletions) == (2, 2, 0)
    assert log(acme, found) == ["Rota: Second", "Rota: First"]


def test_commits_and_changes_become_one_patch(
    checkout: Checkout, acme: Cache, patch: Path, source: Source, tmp_path: Path
) -> None:
    workspace = checkout()
    (workspace.path / "a").write_text("a\n")
    (workspace.path / "readme.md").write_text("committed\n")
    head = commit(workspace, "Mine")
    (workspace.path / "readme.md").write_text("and changed since\n")
    (workspace.path / "b").write_text("staged\n")
    run_git(workspace.path, "add", "b")
    (workspace.path / "c").write_text("untracked\n")
    found = archive(workspace, acme, into=patch)
    assert log(acme, found) == ["Rota: Keep what the session left uncommitted", "Rota: Mine"]
    assert run_git(acme.path("acme"), "rev-parse", f"{found.branch}~1") == head
    assert patched(source, found, tmp_path) == files(workspace.path)


def test_ignored_files_are_left_out_unless_the_agent_committed_them(
    checkout: Checkout, acme: Cache, patch: Path
) -> None:
    workspace = checkout()
    (workspace.path / ".gitignore").write_text("*.log\nbuild/\n")
    (workspace.path / "kept.log").write_text("forced\n")
    (workspace.path / "build").mkdir()
    (workspace.path / "build/out").write_text("out\n")
    run_git(workspace.path, "add", "--force", "kept.log", ".gitignore")
    run_git(workspace.path, "commit", "--quiet", "-m", "Work")
    (workspace.path / "other.log").write_text("noise\n")
    (workspace.path / "d").write_text("d\n")
    found = archive(workspace, acme, into=patch)
    listed = run_git(acme.path("acme"), "ls-tree", "-r", "--name-only", str(found.branch)).splitlines()
    assert sorted(set(listed) - FILES.keys()) == [".gitignore", "d", "kept.log"]


def test_ignore_rules_outside_of_the_files_count_for_nothing(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    (workspace.path / ".git/info/exclude").write_text("*\n")
    (workspace.path / "new").write_text("new\n")
    assert archive(workspace, acme, into=patch).changed_files == 1


def test_archiving_again_gives_the_same(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    (workspace.path / "a").write_text("a\n")
    head = commit(workspace)
    assert archive(workspace, acme, into=patch).head == head
    assert archive(workspace, acme, into=patch).head == head
    (workspace.path / "b").write_text("b\n")
    first = archive(Workspace.open(workspace.folder), acme, into=patch)
    text = patch.read_bytes()
    again = archive(Workspace.open(workspace.folder), acme, into=patch)
    assert (again.commits, again.changed_files, again.branch) == (first.commits, first.changed_files, first.branch)
    assert patch.read_bytes() == text


def test_a_change_taken_back_leaves_no_patch_of_an_earlier_archive(
    checkout: Checkout, acme: Cache, patch: Path
) -> None:
    workspace = checkout()
    (workspace.path / "a").write_text("a\n")
    commit(workspace)
    archive(workspace, acme, into=patch)
    (workspace.path / "a").unlink()
    found = archive(workspace, acme, into=patch)
    assert (found.patch_path, found.patch_bytes, found.changed_files, found.commits) == (None, 0, 0, 2)
    assert not patch.exists()


def test_a_change_in_the_same_second_and_of_the_same_size_is_seen(checkout: Checkout, acme: Cache, patch: Path) -> None:
    plain, with_commit, second = checkout(), checkout(), int(time.time())
    commit(with_commit)
    for workspace in (plain, with_commit):
        (workspace.path / "readme.md").write_text("# Acne\n")
    until(lambda: int(time.time()) > second, within=2, what="the second is over")
    for workspace in (plain, with_commit):
        assert archive(workspace, acme, into=patch).changed_files == 1
        assert run_git(workspace.path, "status", "--porcelain") == "M readme.md"


def test_a_lock_of_a_killed_command_is_not_in_the_way(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    (workspace.path / "a").write_text("a\n")
    stale = acme.path("acme") / "refs" / "heads" / f"{workspace.branch}.lock"
    stale.parent.mkdir(parents=True)
    stale.touch()
    assert archive(workspace, acme, into=patch).branch == workspace.branch


def test_files_of_every_kind_survive(
    checkout: Checkout, acme: Cache, patch: Path, source: Source, tmp_path: Path
) -> None:
    workspace = checkout()
    names = ["-rf", "a\nb", "ü", 'quo"te', "tab\t", "x" * 250, "deep/" * 60 + "file", "back\\slash", "--output=x"]
    for name in names:
        path = workspace.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{len(name)}\n")
    bad = os.fsencode(workspace.path) + b"/\xff\xfe"
    Path(os.fsdecode(bad)).write_text("no UTF-8\n")
    (workspace.path / "binary").write_bytes(bytes(range(256)) * 10)
    (workspace.path / "link").symlink_to("/etc/hostname")
    (workspace.path / "readme.md").chmod(0o755)
    (workspace.path / "src/app.py").unlink()
    (workspace.path / "src/app.py").mkdir()
    (workspace.path / "src/app.py/inner").write_text("a folder where a file was\n")
    found = archive(workspace, acme, into=patch)
    folder = tmp_path / "out"
    run_git(tmp_path, "clone", "--quiet", "--no-local", source.url, str(folder))
    run_git(folder, "apply", "--index", str(found.patch_path))
    assert run_git(folder, "write-tree") == run_git(acme.path("acme"), "rev-parse", f"{found.branch}^{{tree}}")
    assert (folder / "binary").read_bytes() == bytes(range(256)) * 10
    assert str((folder / "link").readlink()) == "/etc/hostname"
    assert os.access(folder / "readme.md", os.X_OK)
    assert {name for name in names if not (folder / name).is_file()} == set()


def test_a_folder_that_became_a_link_is_kept_as_a_link(
    checkout: Checkout, acme: Cache, patch: Path, tmp_path: Path
) -> None:
    workspace = checkout()
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("app.py", "lib.py", "secret"):
        (outside / name).write_text("secret of the machine\n")
    for path in (workspace.path / "src").iterdir():
        path.unlink()
    (workspace.path / "src").rmdir()
    (workspace.path / "src").symlink_to(outside)
    found = archive(workspace, acme, into=patch)
    assert "secret of the machine" not in patch.read_text()
    listed = run_git(acme.path("acme"), "ls-tree", "-r", str(found.branch))
    assert "120000" in listed.splitlines()[-1]
    assert "src/" not in listed


def test_what_is_too_large_is_left_out_and_said(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    (workspace.path / "core").write_bytes(bytes(3 * 1024 * 1024))
    (workspace.path / "small").write_text("small\n")
    found = archive(workspace, acme, into=patch, largest_file=2 * 1024 * 1024)
    assert found.left_out == ("core: larger than 2 MB",)
    assert found.changed_files == 1


def test_only_some_of_what_is_left_out_is_named(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    for number in range(60):
        (workspace.path / f"core-{number}").write_text("too large")
    found = archive(workspace, acme, into=patch, largest_file=2)
    assert len(found.left_out) == 51
    assert found.left_out[-1] == "and 10 more"
    assert found.patch_path is None


def test_a_repository_inside_of_the_checkout_is_left_out_and_said(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    run_git(workspace.path, "init", "--quiet", "vendor/lib")
    (workspace.path / "vendor/lib/file").write_text("x\n")
    run_git(workspace.path / "vendor/lib", "add", "file")
    found = archive(workspace, acme, into=patch)
    assert found.left_out == ("vendor/lib/: a git repository of its own",)
    assert found.branch is None


def test_unreadable_files_and_folders_are_kept(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    (workspace.path / "new").mkdir()
    (workspace.path / "new/file").write_text("new\n")
    (workspace.path / "new/file").chmod(0)
    (workspace.path / "new").chmod(0)
    (workspace.path / "src").chmod(0)
    found = archive(workspace, acme, into=patch)
    assert (found.changed_files, found.deletions) == (1, 0)


def test_a_checkout_that_is_gone_is_an_error_and_no_deletion(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    workspace.path.rename(workspace.folder / "elsewhere")
    with pytest.raises(WorkspaceError, match="The checkout is gone"):
        archive(workspace, acme, into=patch)
    workspace.path.symlink_to(workspace.folder / "elsewhere")
    with pytest.raises(WorkspaceError, match="The checkout is gone"):
        archive(workspace, acme, into=patch)


def test_all_files_gone_is_a_deletion(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    run_git(workspace.path, "rm", "--quiet", "-r", ".")
    assert archive(workspace, acme, into=patch).deletions == 3


def test_a_cache_in_use_is_waited_for_and_the_work_stays(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    (workspace.path / "a").write_text("a\n")
    with locked(acme.root / "acme.lock", wait=timedelta(seconds=1)), pytest.raises(Busy):
        archive(workspace, acme, into=patch, timeout=timedelta(seconds=0.2))
    assert archive(workspace, acme, into=patch).changed_files == 1


def test_a_full_disk_is_told_and_the_work_stays(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    (workspace.path / "a").write_text("a\n")
    patch.parent.mkdir()
    patch.with_name(f"{patch.name}.part").symlink_to("/dev/full")
    with pytest.raises(DiskFull):
        archive(workspace, acme, into=patch)
    assert not patch.exists()
    assert archive(workspace, acme, into=patch).changed_files == 1


def test_a_lost_cache_is_an_error_and_the_work_stays(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    (workspace.path / "a").write_text("a\n")
    acme.path("acme").rename(acme.root / "away")
    with pytest.raises(WorkspaceError):
        archive(workspace, acme, into=patch)
    (acme.root / "away").rename(acme.path("acme"))
    assert archive(workspace, acme, into=patch).changed_files == 1


def test_a_patch_is_shown_up_to_a_limit(checkout: Checkout, acme: Cache, patch: Path) -> None:
    workspace = checkout()
    (workspace.path / "a").write_text("line ü\n" * 1000)
    (workspace.path / "b").write_bytes(b"\xff\n")
    found = archive(workspace, acme, into=patch)
    assert diff_text(found) == patch.read_bytes().decode(errors="replace")
    shown = diff_text(found, max_bytes=1000)
    assert len(shown.encode()) < 1100
    *lines, last = shown.splitlines()
    assert lines[-1] == "+line ü"
    assert last.startswith("… cut:")


def test_twenty_sessions_archive_at_once(checkout: Checkout, acme: Cache, tmp_path: Path) -> None:
    workspaces = [checkout() for _ in range(20)]
    for workspace in workspaces:
        (workspace.path / "a").write_text(f"{workspace.branch}\n")

    def one(workspace: Workspace) -> str | None:
        return archive(workspace, acme, into=tmp_path / f"{workspace.folder.name}.patch").branch

    with ThreadPoolExecutor(20) as pool:
        kept = list(pool.map(one, workspaces))
    assert kept == [workspace.branch for workspace in workspaces]
    run_git(acme.path("acme"), "fsck", "--strict")
