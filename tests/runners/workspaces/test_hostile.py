"""Nothing that a repository or an agent leaves runs on the host, and nothing outside of the checkout is touched."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runners.base import WorkspaceError
from runners.workspaces import Archive, Cache, Workspace, archive, prepare
from tests.runners.repositories import Source, run_git
from tests.runners.workspaces.forging import hash_object, hostile_commit, write_raw
from tests.runners.workspaces.traps import Trap, set_every_program

Checkout = Callable[[], Workspace]


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path)


def test_no_program_of_the_agents_configuration_runs(
    checkout: Checkout, keep: Callable[[Workspace], Archive], trap: Trap, tmp_path: Path
) -> None:
    workspace = checkout()
    (workspace.path / "a").write_text("a\n")
    run_git(workspace.path, "add", "a")
    run_git(workspace.path, "commit", "--quiet", "-m", "Work")
    set_every_program(workspace.path / ".git", trap, tmp_path)
    (workspace.path / ".gitattributes").write_text("* filter=trap diff=trap merge=trap\n*.bin filter=lfs\n")
    (workspace.path / "readme.md").write_text("changed\n")
    (workspace.path / "b.bin").write_text("b\n")
    found = keep(workspace)
    assert (found.commits, found.changed_files, found.notes) == (2, 4, ())
    assert "+changed" in (tmp_path / "changes.patch").read_text()
    workspace.remove()
    assert trap.sprung == ""


def test_the_trap_springs_for_those_who_believe_the_checkout(checkout: Checkout, trap: Trap, tmp_path: Path) -> None:
    workspace = checkout()
    set_every_program(workspace.path / ".git", trap, tmp_path)
    (workspace.path / "readme.md").write_text("changed\n")
    run_git(workspace.path, "status", check=False)
    assert trap.sprung


def test_a_submodule_is_not_asked(
    source: Source, repository: Callable[[], Source], cache: Cache, trap: Trap, tmp_path: Path
) -> None:
    library = repository()
    library.commit({"lib": "lib\n"})
    source.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", library.url, "lib")
    source.commit({})
    cache.refresh("acme", source.url)
    workspace = prepare(cache, "acme", ref="main", branch="rota/x/1-1", into=tmp_path / "w")
    assert list((workspace.path / "lib").iterdir()) == []
    run_git(workspace.path, "clone", "--quiet", library.url, "lib")
    set_every_program(workspace.path / "lib/.git", trap, tmp_path)
    (workspace.path / "lib/.git/info/attributes").write_text("* filter=trap\n")
    (workspace.path / "lib/lib").write_text("LIB\n")  # of the same size: git has to look into it, through its filter
    (workspace.path / "a").write_text("a\n")
    found = archive(workspace, cache, into=tmp_path / "changes.patch")
    assert found.changed_files == 1
    assert trap.sprung == ""


def test_a_repository_can_not_run_anything_by_being_checked_out(
    source: Source, cache: Cache, trap: Trap, tmp_path: Path
) -> None:
    source.commit(
        {
            ".gitattributes": "* filter=lfs diff=trap\n",
            ".gitmodules": f'[submodule "x"]\n\tpath = x\n\turl = ext::{trap.path}\n\tupdate = !{trap.path}\n',
            ".lfsconfig": f"[lfs]\n\turl = ext::{trap.path}\n",
            "big.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "hooks/post-checkout": f"#!/bin/sh\n{trap.path}\n",
        }
    )
    set_every_program(source.path / ".git", trap, tmp_path)
    cache.refresh("acme", source.url)
    workspace = prepare(cache, "acme", ref="main", branch="rota/x/1-1", into=tmp_path / "w")
    assert (workspace.path / "big.bin").read_text().startswith("version https://git-lfs")
    assert not (workspace.path / ".git/hooks").exists()
    assert trap.sprung == ""


@pytest.mark.parametrize(
    "name",
    [
        *(".git", ".GIT", "git~1", "..", ".", "a/../../escaped", "/absolute", ".git/config", "a\\..\\b"),
        *(".git\u200c", ".g\u200cit", ".git ", ".git::$INDEX_ALLOCATION", ".GIT/hooks", "-rf", "a\nb", "d" * 300),
    ],
)
def test_no_name_in_a_repository_leads_out_of_the_checkout(
    source: Source, cache: Cache, tmp_path: Path, name: str
) -> None:
    commit = hostile_commit(source.path / ".git", [("100644", name, "evil\n")])
    source.git("update-ref", "refs/heads/evil", commit)
    cache.refresh("acme", source.url)
    before = sorted(path.name for path in tmp_path.iterdir())
    try:
        workspace = prepare(cache, "acme", ref="evil", branch="rota/x/1-1", into=tmp_path / "w")
    except WorkspaceError:
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        return
    assert name in ("-rf", "a\nb", "a\\..\\b"), "this is no name, on one system or another"
    outside = [path for path in tmp_path.rglob("*escaped*") if workspace.path not in path.parents]
    assert outside == []
    assert (workspace.path / ".git/config").read_text().startswith("[core]")


def test_a_link_in_a_repository_is_not_written_through(source: Source, cache: Cache, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    git_dir = source.path / ".git"
    blob = hash_object(git_dir, "blob", "evil\n")
    inner = write_raw(git_dir, "tree", b"100644 file\0" + bytes.fromhex(blob))
    commit = hostile_commit(git_dir, [("120000", "link", str(outside)), ("40000", "link", inner)])
    source.git("update-ref", "refs/heads/evil", commit)
    cache.refresh("acme", source.url)
    try:
        prepare(cache, "acme", ref="evil", branch="rota/x/1-1", into=tmp_path / "w")
    except WorkspaceError:
        assert not (tmp_path / "w").exists()
    assert list(outside.iterdir()) == []


def test_a_repository_of_refs_with_odd_names_works(source: Source, cache: Cache, tmp_path: Path) -> None:
    names = ["$(touch)", "-x", "--upload-pack=touch", "a;b", "HEAD", "rota/nightly/1-1", "ü", "'", "x" * 200]
    head = source.git("rev-parse", "HEAD")
    for name in names:
        source.git("update-ref", f"refs/heads/{name}", head)
    (source.path / ".git/packed-refs").write_bytes(head.encode() + b" refs/heads/\xff\xfe\n")
    cache.refresh("acme", source.url)
    workspace = prepare(
        cache, "acme", ref="main", branch="rota/nightly/1-1", into=tmp_path / "w", default_branch="main"
    )
    listed = run_git(workspace.path, "for-each-ref", "--format=x", "refs/remotes/origin").splitlines()
    assert len(listed) >= len(names) + 2
    assert run_git(workspace.path, "status", "--porcelain") == ""


@pytest.mark.parametrize("name", [".gitignore", ".gitattributes", "src/.gitignore", "readme.md", "new", "lib/.git"])
def test_a_pipe_does_not_block(checkout: Checkout, keep: Callable[[Workspace], Archive], name: str) -> None:
    workspace = checkout()
    path = workspace.path / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    (workspace.path / "a").write_text("a\n")
    found = keep(workspace)
    assert found.insertions == 1


def test_a_repository_inside_that_leads_out_is_not_followed(
    checkout: Checkout, keep: Callable[[Workspace], Archive], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    for folder in ("objects", "refs"):
        (elsewhere / folder).mkdir(parents=True)
    os.mkfifo(elsewhere / "HEAD")
    workspace = checkout()
    for name, content in (("one", f"gitdir: {elsewhere}\n"), ("two", f"gitdir: ../../{elsewhere.name}\n")):
        (workspace.path / name).mkdir()
        (workspace.path / name / ".git").write_text(content)
        (workspace.path / name / "file").write_text("x\n")
    (workspace.path / "three").mkdir()
    (workspace.path / "three/.git").symlink_to(elsewhere)
    (workspace.path / "three/file").write_text("x\n")
    run_git(workspace.path, "worktree", "add", "--quiet", "four")
    found = keep(workspace)
    assert found.changed_files == 3
    assert found.left_out == ("four/: a git repository of its own",)


def test_a_folder_that_is_too_deep_does_not_keep_the_rest_from_being_kept(
    checkout: Checkout, keep: Callable[[Workspace], Archive]
) -> None:
    workspace = checkout()
    (workspace.path / "a").write_text("a\n")
    here = os.open(workspace.path, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=here)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    assert keep(workspace).insertions == 1
    workspace.remove()
    assert not workspace.folder.exists()


def test_names_that_only_other_systems_mind_are_left_out_and_said(
    checkout: Checkout, keep: Callable[[Workspace], Archive]
) -> None:
    workspace = checkout()
    (workspace.path / ".GIT").mkdir()
    (workspace.path / ".GIT/config").write_text("[core]\n")
    (workspace.path / "a").write_text("a\n")
    found = keep(workspace)
    assert found.changed_files == 1
    assert found.left_out == (".GIT/config: no name that git takes",)


def test_a_damaged_index_of_the_agent_means_nothing(checkout: Checkout, keep: Callable[[Workspace], Archive]) -> None:
    workspace = checkout()
    (workspace.path / ".git/index").write_bytes(b"garbage")
    assert keep(workspace).branch is None
    (workspace.path / "a").write_text("a\n")
    assert keep(workspace).changed_files == 1


def test_flags_in_the_agents_index_hide_nothing(checkout: Checkout, keep: Callable[[Workspace], Archive]) -> None:
    workspace = checkout()
    run_git(workspace.path, "update-index", "--assume-unchanged", "readme.md")
    run_git(workspace.path, "update-index", "--skip-worktree", "src/app.py")
    (workspace.path / "readme.md").write_text("changed\n")
    (workspace.path / "src/app.py").write_text("changed\n")
    assert keep(workspace).changed_files == 2


def test_a_worktree_that_is_elsewhere_by_configuration_is_not_read(
    checkout: Checkout, keep: Callable[[Workspace], Archive], tmp_path: Path
) -> None:
    workspace = checkout()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/secret").write_text("secret\n")
    run_git(workspace.path, "config", "core.worktree", str(tmp_path / "elsewhere"))
    assert keep(workspace).branch is None


def test_a_damaged_index_of_ours_is_an_error_and_the_work_stays(
    checkout: Checkout, keep: Callable[[Workspace], Archive]
) -> None:
    workspace = checkout()
    (workspace.path / "a").write_text("a\n")
    index = workspace.index.read_bytes()
    workspace.index.write_bytes(b"garbage")
    with pytest.raises(WorkspaceError, match="index file"):
        keep(workspace)
    workspace.index.write_bytes(index)
    assert keep(workspace).changed_files == 1
    assert sorted(path.name for path in workspace.folder.iterdir()) == ["checkout", "index", "workspace.json"]
