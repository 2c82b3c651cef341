"""What an agent does to its git directory: the files are kept all the same, and what is forged stays out."""

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from runners.workspaces import Archive, Cache, Workspace
from tests.runners.repositories import Source, run_git
from tests.runners.workspaces.forging import hostile_commit, write_raw

Checkout = Callable[[], Workspace]


def _git_is_a_file(workspace: Workspace, elsewhere: Path) -> None:
    (workspace.path / ".git").rename(elsewhere)
    (workspace.path / ".git").write_text(f"gitdir: {elsewhere}\n")


def _git_is_a_link(workspace: Workspace, elsewhere: Path) -> None:
    (workspace.path / ".git").rename(elsewhere)
    (workspace.path / ".git").symlink_to(elsewhere)


def _git_is_gone(workspace: Workspace, elsewhere: Path) -> None:
    (workspace.path / ".git").rename(elsewhere)


def _git_is_a_pipe(workspace: Workspace, elsewhere: Path) -> None:
    (workspace.path / ".git").rename(elsewhere)
    os.mkfifo(workspace.path / ".git")


def _replace(workspace: Workspace, name: str, content: str) -> None:
    (workspace.path / ".git" / name).write_text(content)


def _head_is_garbage(workspace: Workspace, _: Path) -> None:
    _replace(workspace, "HEAD", "garbage\n")


def _head_is_empty(workspace: Workspace, _: Path) -> None:
    _replace(workspace, "HEAD", "")


def _head_leads_out(workspace: Workspace, elsewhere: Path) -> None:
    elsewhere.write_text(f"{'1' * 40}\n")
    _replace(workspace, "HEAD", f"ref: refs/../../../../{elsewhere.name}\n")


def _head_is_absolute(workspace: Workspace, elsewhere: Path) -> None:
    elsewhere.write_text(f"{'1' * 40}\n")
    _replace(workspace, "HEAD", f"ref: {elsewhere}\n")


def _head_is_a_circle(workspace: Workspace, _: Path) -> None:
    _replace(workspace, "HEAD", "ref: refs/heads/a\n")
    (workspace.path / ".git/refs/heads").mkdir(exist_ok=True)
    _replace(workspace, "refs/heads/a", "ref: refs/heads/b\n")
    _replace(workspace, "refs/heads/b", "ref: refs/heads/a\n")


def _head_is_a_pipe(workspace: Workspace, _: Path) -> None:
    (workspace.path / ".git/HEAD").unlink()
    os.mkfifo(workspace.path / ".git/HEAD")


def _head_is_a_folder(workspace: Workspace, _: Path) -> None:
    (workspace.path / ".git/HEAD").unlink()
    (workspace.path / ".git/HEAD").mkdir()


def _head_is_no_ref(workspace: Workspace, _: Path) -> None:
    _replace(workspace, "HEAD", "ref: config\n")


def _head_is_a_link(workspace: Workspace, elsewhere: Path) -> None:
    elsewhere.write_text(f"{'1' * 40}\n")
    (workspace.path / ".git/HEAD").unlink()
    (workspace.path / ".git/HEAD").symlink_to(elsewhere)


def _refs_are_elsewhere(workspace: Workspace, elsewhere: Path) -> None:
    (workspace.path / ".git/refs").rename(elsewhere)
    (workspace.path / ".git/refs").symlink_to(elsewhere)
    _replace(workspace, "HEAD", "ref: refs/heads/x\n")
    (elsewhere / "heads").mkdir(exist_ok=True)
    (elsewhere / "heads/x").write_text(f"{'1' * 40}\n")


@pytest.mark.parametrize(
    "tamper",
    [
        _git_is_a_file,
        _git_is_a_link,
        _git_is_gone,
        _git_is_a_pipe,
        _head_is_garbage,
        _head_is_empty,
        _head_leads_out,
        _head_is_absolute,
        _head_is_a_circle,
        _head_is_a_pipe,
        _head_is_a_folder,
        _head_is_no_ref,
        _head_is_a_link,
        _refs_are_elsewhere,
    ],
)
def test_files_are_kept_whatever_became_of_the_git_directory(
    checkout: Checkout,
    keep: Callable[[Workspace], Archive],
    tmp_path: Path,
    tamper: Callable[[Workspace, Path], None],
) -> None:
    workspace = checkout()
    (workspace.path / "a").write_text("a\n")
    tamper(workspace, tmp_path / "elsewhere")
    found = keep(workspace)
    assert found.notes == ("The checkout's HEAD could not be read: only its files are kept, not its commits.",)
    assert (found.commits, found.changed_files, found.insertions) == (1, 1, 1)
    assert found.branch == workspace.branch


def _point_at(workspace: Workspace, commit: str) -> None:
    _replace(workspace, "HEAD", f"{commit}\n")


def _no_such_commit(workspace: Workspace) -> None:
    _point_at(workspace, "1" * 40)


def _a_tree(workspace: Workspace) -> None:
    _point_at(workspace, run_git(workspace.path, "rev-parse", "HEAD^{tree}"))


def _a_blob(workspace: Workspace) -> None:
    _point_at(workspace, run_git(workspace.path, "rev-parse", "HEAD:readme.md"))


def _forged_commit(workspace: Workspace) -> None:
    git_dir = workspace.path / ".git"
    tree = run_git(workspace.path, "rev-parse", "HEAD^{tree}")
    text = f"tree {tree}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nForged\n"
    _point_at(workspace, write_raw(git_dir, "commit", text.encode(), name="2" * 40))


def _forged_blob(workspace: Workspace) -> None:
    git_dir = workspace.path / ".git"
    write_raw(git_dir, "blob", b"other content\n", name="3" * 40)
    tree = write_raw(git_dir, "tree", b"100644 forged\0" + b"\x33" * 20)
    text = f"tree {tree}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nForged\n"
    _point_at(workspace, write_raw(git_dir, "commit", text.encode()))


def _truncated_commit(workspace: Workspace) -> None:
    run_git(workspace.path, "commit", "--quiet", "--allow-empty", "-m", "Work")
    head = run_git(workspace.path, "rev-parse", "HEAD")
    path = workspace.path / ".git/objects" / head[:2] / head[2:]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:20])


def _bad_names(workspace: Workspace) -> None:
    _point_at(workspace, hostile_commit(workspace.path / ".git", [("100644", ".git", "evil\n")]))


def _bad_submodule(workspace: Workspace) -> None:
    text = '[submodule "x"]\n\tpath = x\n\turl = -u./payload\n'
    _point_at(workspace, hostile_commit(workspace.path / ".git", [("100644", ".gitmodules", text)]))


def _garbage_pack(workspace: Workspace) -> None:
    run_git(workspace.path, "commit", "--quiet", "--allow-empty", "-m", "Work")
    pack = workspace.path / ".git/objects/pack"
    pack.mkdir(exist_ok=True)
    (pack / f"pack-{'4' * 40}.pack").write_bytes(b"PACK\0\0\0\2\0\0\0\1garbage")


def _linked_objects(workspace: Workspace) -> None:
    """Objects that are there for the agent's git, by way of a link that leads elsewhere."""
    run_git(workspace.path, "commit", "--quiet", "--allow-empty", "-m", "Work")
    objects, elsewhere = workspace.path / ".git/objects", workspace.folder / "objects"
    objects.rename(elsewhere)
    objects.symlink_to(elsewhere)


def _linked_object(workspace: Workspace) -> None:
    run_git(workspace.path, "commit", "--quiet", "--allow-empty", "-m", "Work")
    head = run_git(workspace.path, "rev-parse", "HEAD")
    path, elsewhere = workspace.path / ".git/objects" / head[:2] / head[2:], workspace.folder / "object"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize(
    "forge",
    [
        _no_such_commit,
        _a_tree,
        _a_blob,
        _forged_commit,
        _forged_blob,
        _truncated_commit,
        _bad_names,
        _bad_submodule,
        _garbage_pack,
        _linked_objects,
        _linked_object,
    ],
)
def test_forged_commits_do_not_get_in_and_the_files_are_kept(
    checkout: Checkout,
    keep: Callable[[Workspace], Archive],
    acme: Cache,
    tmp_path: Path,
    forge: Callable[[Workspace], None],
) -> None:
    workspace = checkout()
    (workspace.path / "a").write_text("a\n")
    forge(workspace)
    found = keep(workspace)
    [note] = found.notes
    assert note.startswith("The commits are damaged and were not kept, only the files: ")
    assert (found.commits, found.changed_files, found.insertions) == (1, 1, 1)
    assert run_git(acme.path("acme"), "rev-parse", f"{found.branch}~1") == workspace.base_commit
    run_git(acme.path("acme"), "fsck", "--full", "--strict")
    assert "+a" in (tmp_path / "changes.patch").read_text()


def test_an_object_that_claims_to_be_huge_does_not_fill_memory(
    checkout: Checkout, keep: Callable[[Workspace], Archive]
) -> None:
    workspace = checkout()
    path = workspace.path / ".git/objects/55" / ("5" * 38)
    path.parent.mkdir()
    path.write_bytes(zlib.compress(b"commit 100000000000\0" + b"x" * 100))
    _point_at(workspace, "5" * 40)
    [note] = keep(workspace).notes
    assert "attempting to allocate 100000000001 over limit" in note


def test_files_that_the_cache_refuses_are_kept_as_a_patch(
    checkout: Checkout, keep: Callable[[Workspace], Archive], acme: Cache, tmp_path: Path
) -> None:
    workspace = checkout()
    (workspace.path / ".gitmodules").write_text('[submodule "x"]\n\tpath = x\n\turl = -u./payload\n')
    found = keep(workspace)
    assert (found.branch, found.changed_files, found.patch_path) == (None, 1, tmp_path / "changes.patch")
    [note] = found.notes
    assert note.startswith("There is a patch only, for the branch was refused: ")
    assert run_git(acme.path("acme"), "for-each-ref", "refs/heads") == ""


def test_an_object_forged_under_a_known_name_changes_nothing(
    checkout: Checkout, keep: Callable[[Workspace], Archive], acme: Cache, tmp_path: Path
) -> None:
    workspace = checkout()
    blob = run_git(workspace.path, "rev-parse", "HEAD:readme.md")
    (workspace.path / "a").write_text("a\n")
    run_git(workspace.path, "add", "a")
    run_git(workspace.path, "commit", "--quiet", "-m", "Work")
    write_raw(workspace.path / ".git", "blob", b"# Forged\n", name=blob)
    (workspace.path / "readme.md").write_text("# Changed\n")
    found = keep(workspace)
    patch = (tmp_path / "changes.patch").read_text()
    assert "Forged" not in patch
    assert "-# Acme" in patch
    assert run_git(acme.path("acme"), "cat-file", "-p", f"{found.branch}:a") == "a"


def test_objects_of_another_repository_are_not_reached(
    checkout: Checkout,
    keep: Callable[[Workspace], Archive],
    repository: Callable[[], Source],
    acme: Cache,
    tmp_path: Path,
) -> None:
    secret = repository()
    commit = secret.commit({"secret": "of another team\n"})
    acme.refresh("secret", secret.url)
    workspace = checkout()
    _replace(workspace, "objects/info/alternates", f"{acme.objects('acme')}\n{acme.objects('secret')}\n")
    run_git(workspace.path, "cat-file", "-e", commit)
    _point_at(workspace, commit)
    found = keep(workspace)
    assert "of another team" not in (tmp_path / "changes.patch").read_text() if found.patch_path else True
    assert found.notes[0].startswith("The commits are damaged and were not kept")
    with pytest.raises(AssertionError, match="cat-file"):
        run_git(acme.path("acme"), "cat-file", "-e", commit)
