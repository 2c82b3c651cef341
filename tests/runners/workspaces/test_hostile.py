"""Nothing that a repository or an agent leaves runs on the host, and nothing outside of the checkout is touched."""

import hashlib
import os
import shlex
import zlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from runners.base import WorkspaceError
from runners.workspaces import Archive, Cache, Workspace, archive, prepare
from tests.runners.repositories import Source, run_git
from tests.runners.workspaces.test_git import program

Checkout = Callable[[], Workspace]
SOON = timedelta(seconds=10)


class Trap:
    """A program that leaves a line when it runs."""

    def __init__(self, folder: Path) -> None:
        self._sprung = folder / "sprung"
        self.path = program(folder / "trap", "trap", f'echo "$0" "$@" >> {shlex.quote(str(self._sprung))}\ncat')

    @property
    def sprung(self) -> str:
        return self._sprung.read_text() if self._sprung.exists() else ""


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path)


@pytest.fixture
def keep(acme: Cache, tmp_path: Path) -> Callable[[Workspace], Archive]:
    def keep(workspace: Workspace) -> Archive:
        return archive(workspace, acme, into=tmp_path / "changes.patch", timeout=SOON)

    return keep


def set_every_program(git_dir: Path, trap: Trap, tmp_path: Path) -> None:
    """Configuration in which everything that git can start is the trap."""
    included = tmp_path / "included"
    included.write_text(f"[core]\n\tfsmonitor = {trap.path}\n\teditor = {trap.path}\n")
    hooks = tmp_path / "hooks"
    for name in ("pre-commit", "post-checkout", "post-index-change", "reference-transaction", "fsmonitor-watchman"):
        program(hooks, name, f"exec {trap.path}")
        program(git_dir / "hooks", name, f"exec {trap.path}")
    with (git_dir / "config").open("a") as config:
        config.write(
            f"""
[include]
	path = {included}
[core]
	fsmonitor = {trap.path}
	hooksPath = {hooks}
	pager = {trap.path}
	editor = {trap.path}
	sshCommand = {trap.path}
	gitProxy = {trap.path}
	askPass = {trap.path}
	alternateRefsCommand = {trap.path}
[filter "trap"]
	clean = {trap.path}
	smudge = {trap.path}
	process = {trap.path}
	required = true
[filter "lfs"]
	clean = {trap.path}
	smudge = {trap.path}
[diff]
	external = {trap.path}
[diff "trap"]
	command = {trap.path}
	textconv = {trap.path}
[merge "trap"]
	driver = {trap.path}
[uploadpack]
	packObjectsHook = {trap.path}
[gpg]
	program = {trap.path}
[commit]
	gpgSign = true
[credential]
	helper = {trap.path}
[sequence]
	editor = {trap.path}
[alias]
	diff-files = !{trap.path}
	ls-files = !{trap.path}
[url "ext::{trap.path} "]
	insteadOf = /
	insteadOf = https://
[protocol "ext"]
	allow = always
[extensions]
	partialClone = origin
[remote "origin"]
	url = ext::{trap.path}
	promisor = true
[maintenance]
	auto = true
[gc]
	auto = 1
"""
        )


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


def hash_object(git_dir: Path, kind: str, content: str) -> str:
    return run_git(git_dir, "hash-object", "-t", kind, "-w", "--stdin", "--literally", stdin=content)


def hostile_commit(git_dir: Path, entries: list[tuple[str, str, str]]) -> str:
    """A commit whose tree has names that git itself would refuse to add: triples of mode, name and content."""
    raw = b""
    for mode, name, content in entries:
        oid = content if mode == "40000" else hash_object(git_dir, "blob", content)
        raw += f"{mode} {name}".encode() + b"\0" + bytes.fromhex(oid)
    tree = write_raw(git_dir, "tree", raw)
    text = f"tree {tree}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nHostile\n"
    return write_raw(git_dir, "commit", text.encode())


def write_raw(git_dir: Path, kind: str, raw: bytes, *, name: str = "") -> str:
    """Write a loose object as it is, under a name of one's own choice if need be."""
    data = f"{kind} {len(raw)}".encode() + b"\0" + raw
    oid = name or hashlib.sha1(data, usedforsecurity=False).hexdigest()
    path = git_dir / "objects" / oid[:2] / oid[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(zlib.compress(data))
    return oid


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
