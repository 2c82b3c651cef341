"""What a session may do to its checkout before it ends: each an act on the folder."""

import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.runners.repositories import run_git

Act = Callable[[Path], object]


def git(*arguments: str) -> Act:
    return lambda checkout: run_git(checkout, *arguments)


def acts(*several: Act) -> Act:
    def act(checkout: Path) -> None:
        for one in several:
            one(checkout)

    return act


def write(name: str, text: str = "left\n") -> Act:
    def act(checkout: Path) -> None:
        path = checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return act


def hidden_edit(checkout: Path) -> None:
    """Another text of the same size, at the same inode, with the times of before."""
    path = checkout / "src/app.py"
    before = path.stat()
    with path.open("r+b") as file:
        file.write(path.read_bytes().replace(b"hello", b"HELLO"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def mapped_edit(checkout: Path) -> None:
    with (checkout / "readme.md").open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        assert view[2:6] == b"Acme"  # read first: not every file system tells of the write then
        view[2:6] = b"EMCA"


def hard_link(checkout: Path) -> None:
    os.link(checkout / "readme.md", checkout.parent.parent / "outside")


def swapped_for_a_link(checkout: Path) -> None:
    outside = checkout.parents[2] / "precious"
    outside.mkdir(exist_ok=True)
    shutil.rmtree(checkout / "src")
    (outside / "app.py").write_text("print('hello')\n")
    (checkout / "src").symlink_to(outside)
    (checkout / "readme.md").unlink()
    (checkout / "readme.md").symlink_to(outside / "app.py")


def attribute(name: str) -> Act:
    return lambda checkout: os.setxattr(checkout / name, "user.mark", b"1")


def old_times(checkout: Path) -> None:
    for name in ("src/app.py", "src", "docs", "."):
        os.utime(checkout / name, (1000, 1000))


def deep(checkout: Path) -> None:
    program_ = "import os\nfor _ in range(900):\n    os.mkdir('deeper')\n    os.chdir('deeper')\nopen('x', 'w')"
    subprocess.run([sys.executable, "-c", program_], cwd=checkout, check=True)


def modes(checkout: Path) -> None:
    (checkout / "run.sh").chmod(0o644)
    (checkout / "readme.md").chmod(0o4777)
    (checkout / "docs/one.md").chmod(0)
    (checkout / "docs").chmod(0o555)
    (checkout / "src").chmod(0o2777)
    checkout.chmod(0o700)


def modes_of_all(checkout: Path) -> None:
    for path in checkout.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o700)


def closed_folders(checkout: Path) -> None:
    write("build/a/b/c")(checkout)
    for name in ("build/a/b", "build/a", "build"):
        (checkout / name).chmod(0o555 if name != "build/a" else 0)


def odd_kinds(checkout: Path) -> None:
    os.mkfifo(checkout / "pipe")
    os.mkfifo(checkout / "src/.gitignore")
    (checkout / "docs/two.md").unlink()
    (checkout / "docs/two.md").mkdir()
    (checkout / "dangling").symlink_to("nowhere")


def git_dir_is_a_file(checkout: Path) -> None:
    (checkout / ".git").rename(checkout / "elsewhere")
    (checkout / ".git").write_text("gitdir: elsewhere\n")


def submodule(checkout: Path) -> None:
    run_git(checkout, "init", "--quiet", "lib")
    write("lib/new")(checkout)
    with (checkout / ".git/config").open("a") as config:
        config.write('[submodule "lib"]\n\turl = /nowhere\n\tactive = true\n')


IDENTITY = ("-c", "user.name=Eve", "-c", "user.email=eve@example.org")
DIRT: dict[str, Act] = {
    "nothing": lambda checkout: None,
    "config": git("config", "user.name", "Eve"),
    "included config": git("config", "include.path", "/etc/passwd"),
    "hooks": write(".git/hooks/post-checkout", "#!/bin/sh\nexit 1\n"),
    "branches and tags": acts(git("branch", "mine"), git("tag", "v9"), git("update-ref", "-d", "refs/heads/main")),
    "stash": acts(write("readme.md"), git("stash")),
    "commits": acts(write("new"), git("add", "new"), git(*IDENTITY, "commit", "-m", "Work")),
    "another commit": git("checkout", "--quiet", "HEAD~1"),
    "replacements": git("replace", "HEAD", "HEAD~1"),
    "grafts": acts(write(".git/info/grafts", "0" * 40 + "\n"), write(".git/shallow", "0" * 40 + "\n")),
    "packed refs": acts(git("branch", "mine"), git("pack-refs", "--all", "--prune")),
    "reflogs": acts(write(".git/logs/refs/heads/main", "odd\n"), git("reflog", "expire", "--expire=now", "--all")),
    "worktrees": git("worktree", "add", "--quiet", "other"),
    "worktrees elsewhere": git("worktree", "add", "--quiet", "../../elsewhere"),
    "config of a worktree": acts(
        git("config", "extensions.worktreeConfig", "true"), git("config", "--worktree", "core.sparseCheckout", "true")
    ),
    "recorded resolutions": acts(git("config", "rerere.enabled", "true"), write(".git/rr-cache/abc/preimage")),
    "a remote": acts(git("remote", "add", "mine", "/nowhere"), git("config", "url./x.insteadOf", "/y")),
    "in the middle of something": acts(write(".git/MERGE_HEAD", "0" * 40), write(".git/rebase-merge/done")),
    "notes": git("-c", "user.name=E", "-c", "user.email=e@example.org", "notes", "add", "-m", "Mine", "HEAD"),
    "a file system monitor": git("update-index", "--fsmonitor-valid", "readme.md"),
    "an untracked cache": git("update-index", "--force-untracked-cache"),
    "alternates": write(".git/objects/info/alternates", "/nowhere\n"),
    "assumed unchanged": acts(git("update-index", "--assume-unchanged", "readme.md"), write("readme.md")),
    "skipped": acts(git("update-index", "--skip-worktree", "src/app.py"), write("src/app.py")),
    "sparse": git("sparse-checkout", "set", "docs"),
    "split index": git("update-index", "--split-index"),
    "index lock": write(".git/index.lock"),
    "staged": acts(write("readme.md"), git("add", "--all")),
    "private excludes": acts(write(".git/info/exclude", "hidden\n"), write("hidden")),
    "private attributes": write(".git/info/attributes", "* eol=crlf\n"),
    "no git directory": lambda checkout: shutil.rmtree(checkout / ".git"),
    "git directory elsewhere": git_dir_is_a_file,
    "untracked": acts(write("new"), write("src/deep/new"), write("another/folder/new")),
    "ignored": acts(write("build/cache"), write("src/a.o")),
    "attributes": write(".gitattributes", "* eol=crlf\n"),
    "deleted": acts(lambda c: (c / "readme.md").unlink(), lambda c: shutil.rmtree(c / "docs")),
    "edited": write("src/app.py"),
    "hidden edit": hidden_edit,
    "mapped edit": mapped_edit,
    "the same text again": lambda checkout: (checkout / "readme.md").write_text("# Acme\n"),
    "nested repository": acts(git("init", "--quiet", "nested"), write("nested/file")),
    "submodule": submodule,
    "modes": modes,
    "modes of all": modes_of_all,
    "closed folders": closed_folders,
    "times": old_times,
    "hard link out": hard_link,
    "links out": swapped_for_a_link,
    "odd kinds": odd_kinds,
    "deep": deep,
    "attribute of a file": attribute("readme.md"),
    "attribute of a folder": attribute("src"),
    "odd names": acts(write("-rf2"), write("a\nb"), write("x" * 255)),
}
NOT_KEPT = {"attribute of a folder"}
"""After these the checkout is not kept."""
