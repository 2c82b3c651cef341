"""An agent leaves what it likes: its work is kept all the same, in bounds, and nothing runs, blocks or leads out."""

import os
import socket
import stat
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from runners.workspaces import Archive, Cache, Workspace, archive
from tests.runners.repositories import run_git
from tests.runners.workspaces.traps import Trap, set_every_program

Checkout = Callable[[], Workspace]
Keep = Callable[[Workspace], Archive]
GIGABYTE = 1024**3


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path)


@pytest.fixture
def keep(acme: Cache, tmp_path: Path) -> Keep:
    def keep(workspace: Workspace) -> Archive:
        return archive(workspace, acme, into=tmp_path / "changes.patch", timeout=timedelta(seconds=60))

    return keep


def sparse(path: Path, size: int = 5 * GIGABYTE) -> None:
    """A file that claims a size and takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


def work(workspace: Workspace) -> None:
    """One file by a commit, one without."""
    (workspace.path / "a").write_text("a\n")
    run_git(workspace.path, "add", "a")
    run_git(workspace.path, "commit", "--quiet", "-m", "Work")
    (workspace.path / "b").write_text("b\n")


@pytest.mark.parametrize("name", ["core.bin", "readme.md", "src/deep/data"])
def test_a_file_of_five_gigabytes_is_left_out_and_said(checkout: Checkout, keep: Keep, name: str) -> None:
    workspace = checkout()
    work(workspace)
    sparse(workspace.path / name)
    found = keep(workspace)
    assert found.left_out == (f"{name}: larger than 50 MB",)
    assert (found.commits, found.changed_files) == (2, 2)


@pytest.mark.parametrize("name", [".gitignore", "src/.gitignore", ".gitattributes", "x/.gitattributes"])
def test_what_git_would_read_whole_may_be_huge(checkout: Checkout, keep: Keep, name: str) -> None:
    workspace = checkout()
    work(workspace)
    sparse(workspace.path / name)
    found = keep(workspace)
    assert found.commits == 2
    assert found.changed_files == 2
    assert found.left_out == (f"{name}: too large to be read for rules",)


@pytest.mark.parametrize(
    "attributes", ["* working-tree-encoding=UTF-16\n", "* working-tree-encoding=no-such\n", "* working-tree-encoding\n"]
)
def test_files_that_are_not_encoded_as_they_should_be_are_kept_as_they_are(
    checkout: Checkout, keep: Keep, acme: Cache, attributes: str
) -> None:
    workspace = checkout()
    work(workspace)
    (workspace.path / ".gitattributes").write_text(attributes)
    (workspace.path / "readme.md").write_bytes(b"\xff\xfe\x00odd")
    found = keep(workspace)
    assert (found.commits, found.changed_files, found.left_out, found.notes) == (2, 4, (), ())
    assert run_git(acme.path("acme"), "cat-file", "-p", f"{found.head}:b") == "b"


@pytest.mark.parametrize(
    "name",
    ["HEAD", "packed-refs", "index", "config", "index.lock", "shallow", "objects/info/alternates", "info/grafts"],
)
def test_what_it_wrote_into_its_git_directory_may_be_huge(checkout: Checkout, keep: Keep, name: str) -> None:
    workspace = checkout()
    work(workspace)
    sparse(workspace.path / ".git" / name)
    found = keep(workspace)
    assert found.changed_files == 2
    assert found.insertions == 2


def test_a_pack_that_claims_five_gigabytes_is_refused_and_the_files_are_kept(checkout: Checkout, keep: Keep) -> None:
    workspace = checkout()
    work(workspace)
    sparse(workspace.path / ".git/objects/pack" / f"pack-{'5' * 40}.pack")
    found = keep(workspace)
    assert found.changed_files == 2


def test_kinds_of_files_that_are_none_are_removed(checkout: Checkout, keep: Keep, tmp_path: Path) -> None:
    workspace = checkout()
    work(workspace)
    os.mkfifo(workspace.path / "pipe")
    os.mkfifo(workspace.path / ".git/hooks-pipe")
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(workspace.path)
        listening.bind("socket")
        os.chdir(here)
        if os.geteuid() == 0:
            os.mknod(workspace.path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
            os.mknod(workspace.path / ".gitignore2", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        found = keep(workspace)
    assert (found.changed_files, found.left_out) == (2, ())


def test_folders_that_can_not_be_entered_are_opened(checkout: Checkout, keep: Keep) -> None:
    workspace = checkout()
    (workspace.path / "closed/inner").mkdir(parents=True)
    (workspace.path / "closed/inner/file").write_text("x\n")
    (workspace.path / "closed/inner/file").chmod(0)
    for name in ("closed/inner", "closed"):
        (workspace.path / name).chmod(0)
    assert keep(workspace).insertions == 1


def test_no_configuration_by_any_road_is_obeyed(checkout: Checkout, keep: Keep, trap: Trap, tmp_path: Path) -> None:
    """Beside `.git/config`: what it includes, what belongs to a worktree, and attributes and excludes of every kind."""
    workspace = checkout()
    work(workspace)
    git_dir = workspace.path / ".git"
    set_every_program(git_dir, trap, tmp_path)
    mine = f'[core]\n\tfsmonitor = {trap.path}\n\thooksPath = {tmp_path}\n[filter "trap"]\n\tclean = {trap.path}\n'
    (git_dir / "mine").write_text(mine)
    (git_dir / "config.worktree").write_text(mine)
    attributes = tmp_path / "attributes"
    attributes.write_text("* filter=trap diff=trap merge=trap export-subst\n")
    with (git_dir / "config").open("a") as config:
        config.write('[includeIf "gitdir:**"]\n\tpath = mine\n[includeIf "onbranch:**"]\n\tpath = mine\n')
        config.write(f"[core]\n\tattributesFile = {attributes}\n\texcludesFile = {attributes}\n\tworktree = /etc\n")
        config.write("[extensions]\n\tworktreeConfig = true\n")
        config.write(f'[gpg "ssh"]\n\tprogram = {trap.path}\n[gpg "x509"]\n\tprogram = {trap.path}\n')
        config.write(f"[user]\n\tsigningKey = x\n[interactive]\n\tdiffFilter = {trap.path}\n")
        config.write(f'[submodule "x"]\n\tupdate = !{trap.path}\n[http]\n\tproxy = {trap.path}\n')
    (git_dir / "info").mkdir(exist_ok=True)
    (git_dir / "info/attributes").write_text(attributes.read_text())
    (git_dir / "info/exclude").write_text("b\n")
    (git_dir / "commondir").write_text("/etc\n")
    (workspace.path / ".gitattributes").write_text(
        "* filter=trap diff=trap merge=trap export-subst working-tree-encoding=UTF-16\n"
    )
    (workspace.path / "c").write_text("$Format:%H$\n")
    found = keep(workspace)
    assert trap.sprung == ""
    assert found.changed_files == 4, found
    assert "+$Format:%H$" in (tmp_path / "changes.patch").read_text()


@pytest.mark.parametrize(
    "name",
    [
        *(
            "-rf",
            "--exec=touch x",
            "a\nb",
            "a\tb",
            '"',
            "\\",
            "$(x)",
            "x" * 255,
            "ü",
            "\udcff",
            ":(glob)**",
            "!x",
            "#x",
        ),
        *(" ", "a ", "*", "HEAD", "refs", "con.txt", "..."),
    ],
)
def test_a_file_of_any_name_is_kept(checkout: Checkout, keep: Keep, acme: Cache, name: str) -> None:
    workspace = checkout()
    (workspace.path / name).write_text("odd\n")
    found = keep(workspace)
    assert (found.changed_files, found.left_out, found.insertions) == (1, (), 1)
    command = ["git", "ls-tree", "-z", "--name-only", found.head]
    listed = subprocess.run(command, cwd=acme.path("acme"), capture_output=True, check=True).stdout
    assert os.fsencode(name) in listed.split(b"\0")


@pytest.mark.parametrize(
    "name", [".git\u200c", ".g\u200cit", ".GIT", "git~1", ".git ", ".git.", ".git::$INDEX_ALLOCATION"]
)
def test_a_name_that_is_git_s_own_elsewhere_does_no_harm(checkout: Checkout, keep: Keep, trap: Trap, name: str) -> None:
    """Some of them are `.git` on the file systems of other machines: git refuses those, and they are named."""
    workspace = checkout()
    work(workspace)
    (workspace.path / name).mkdir()
    (workspace.path / name / "config").write_text(f"[core]\n\tfsmonitor = {trap.path}\n")
    (workspace.path / name / "HEAD").write_text("ref: refs/heads/x\n")
    found = keep(workspace)
    assert (found.commits, found.branch, found.notes) == (2, workspace.branch, ())
    if found.left_out:
        assert found.changed_files == 2
        assert all(line.endswith(": no name that git takes") for line in found.left_out)
    else:
        assert found.changed_files == 4
    assert trap.sprung == ""


def test_paths_as_long_as_they_can_be_are_kept(checkout: Checkout, keep: Keep, acme: Cache) -> None:
    workspace = checkout()
    name = "/".join(["d" * 100] * 3)
    (workspace.path / name).mkdir(parents=True)
    (workspace.path / name / ("f" * 200)).write_text("long\n")
    found = keep(workspace)
    assert (found.changed_files, found.left_out) == (1, ())
    assert f"{name}/{'f' * 200}" in run_git(acme.path("acme"), "ls-tree", "-r", "--name-only", found.head)


@pytest.mark.parametrize("target", ["/etc", "/etc/passwd", "../..", "../../..", "/proc/self/environ", "nowhere"])
def test_links_are_kept_as_links(checkout: Checkout, keep: Keep, acme: Cache, target: str) -> None:
    workspace = checkout()
    for name in ("link", ".gitattributes", ".gitignore"):
        (workspace.path / name).unlink(missing_ok=True)
        (workspace.path / name).symlink_to(target)
    (workspace.path / "b").write_text("b\n")
    found = keep(workspace)
    assert found.changed_files == 4 if found.branch else found.notes
    if found.branch:
        assert run_git(acme.path("acme"), "cat-file", "-p", f"{found.head}:link") == target
    patch = found.patch_path
    assert patch
    assert "root:" not in patch.read_text()


def test_a_folder_that_became_a_link_is_not_read_through(checkout: Checkout, keep: Keep, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "app.py").write_text("of somebody else\n")
    workspace = checkout()
    (workspace.path / "src").rename(tmp_path / "moved")
    (workspace.path / "src").symlink_to(outside)
    found = keep(workspace)
    assert found.patch_path
    assert "somebody else" not in found.patch_path.read_text()
    assert (outside / "app.py").read_text() == "of somebody else\n"


def test_many_small_traps_at_once(checkout: Checkout, keep: Keep, trap: Trap, tmp_path: Path) -> None:
    """Repositories in repositories, each with programs of its own and a `.git` that is a file."""
    workspace = checkout()
    work(workspace)
    for number in range(5):
        folder = workspace.path / f"nested-{number}"
        run_git(workspace.path, "init", "--quiet", folder.name)
        set_every_program(folder / ".git", trap, tmp_path)
        (folder / "file").write_text("x\n")
        (folder / "inner").mkdir()
        (folder / "inner/.git").write_text("gitdir: ../.git\n")
    found = keep(workspace)
    assert trap.sprung == ""
    assert found.changed_files == 2
    assert len(found.left_out) == 5
