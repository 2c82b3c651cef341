"""A kept checkout is like a new one to the next session, whatever the one before did to it."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runners.base import RunnerError
from runners.workspaces import Cache, Kept, Workspace, archive, prepare, tells_of_every_write
from tests.processes import until
from tests.runners.repositories import Source, run_git
from tests.runners.workspaces.dirt import (
    DIRT,
    NOT_KEPT,
    Act,
    acts,
    hard_link,
    hidden_edit,
    mapped_edit,
    swapped_for_a_link,
    write,
)
from tests.runners.workspaces.programs import program
from tests.runners.workspaces.traps import Trap, set_every_program
from tests.runners.workspaces.trees import seen_by_a_session
from tests.runners.workspaces.workers import worker

FILES = {
    ".gitignore": "build/\n*.o\n",
    "readme.md": "# Acme\n",
    "run.sh": "#!/bin/sh\n",
    "src/app.py": "print('hello')\n",
    "src/deep/er/lib.py": "x = 1\n",
    "docs/one.md": "1\n",
    "docs/two.md": "2\n",
    "-rf": "an option\n",
    "line\nbreak": "odd\n",
    "p" * 200 + "/" + "q" * 200: "long\n",
}


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On a disk, other than for the tests beside: a file system in memory does not tell of every write."""
    folder = tmp_path_factory.mktemp("warm")
    if not tells_of_every_write(folder):
        pytest.skip("Checkouts are not kept on the file system of the temporary folder.")
    return folder


class Rig:
    """Sessions of one repository, one after another, with or without a pool of kept checkouts."""

    def __init__(self, source: Source, cache: Cache, root: Path) -> None:
        self.source, self.cache, self.root = source, cache, root
        self.kept = Kept(root / "workspaces" / "kept")
        self._number = 0

    def session(self, *, warm: bool = True, ref: str = "main") -> Workspace:
        self._number += 1
        return prepare(
            self.cache,
            "acme",
            ref=ref,
            branch=f"rota/nightly/1-{self._number}",
            into=self.root / "workspaces" / str(self._number),
            default_branch="main",
            kept=self.kept if warm else None,
        )

    def end(self, workspace: Workspace) -> str:
        archive(workspace, self.cache, into=self.root / "changes.patch")
        return self.kept.give(workspace.folder, slug="acme")

    def after(self, act: Act) -> Workspace:
        """A session that `act` comes before, in the same checkout if that can be kept."""
        before = self.session()
        act(before.path)
        self.end(before)
        return self.session()


@pytest.fixture
def rig(repository: Callable[[], Source], cache: Cache, tmp_path: Path) -> Iterator[Rig]:
    source, library = repository(), repository()
    library.commit({"lib": "lib\n"})
    source.commit(FILES, "Begin")
    (source.path / "run.sh").chmod(0o755)
    (source.path / "link").symlink_to("src/app.py")
    source.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", library.url, "lib")
    source.commit({}, "All kinds")
    cache.refresh("acme", source.url)
    yield Rig(source, cache, tmp_path)
    if tmp_path.is_dir():
        subprocess.run(["chmod", "-R", "u+rwx", str(tmp_path)], check=False)


@pytest.mark.parametrize("dirt", DIRT)
@pytest.mark.no_cover
def test_the_next_session_can_not_tell(rig: Rig, dirt: str) -> None:
    cold = seen_by_a_session(rig.session(warm=False))
    workspace = rig.after(DIRT[dirt])
    assert workspace.renewed is (dirt not in NOT_KEPT)
    assert seen_by_a_session(workspace) == cold
    assert seen_by_a_session(rig.after(lambda checkout: None)) == cold


def test_all_at_once_and_several_times_over(rig: Rig) -> None:
    cold = seen_by_a_session(rig.session(warm=False))
    harmless = [name for name in DIRT if name not in NOT_KEPT and "git directory" not in name]
    for seed in range(3):
        several = random.Random(seed).sample(harmless, len(harmless))

        def dirty(checkout: Path, names: list[str] = several) -> None:
            for name in names:
                try:
                    DIRT[name](checkout)
                except (OSError, AssertionError):
                    continue  # what came before is in its way

        workspace = rig.after(dirty)
        assert workspace.renewed
        assert seen_by_a_session(workspace) == cold


def test_what_lies_outside_of_a_checkout_is_not_touched(rig: Rig, tmp_path: Path) -> None:
    rig.after(acts(hard_link, swapped_for_a_link))
    assert (tmp_path / "precious/app.py").read_text() == "print('hello')\n"
    assert (tmp_path / "workspaces/outside").read_text() == "# Acme\n"


def test_an_edit_in_the_second_of_the_checkout_is_seen_in_a_later_one(rig: Rig) -> None:
    """Git compares whole seconds, and reads a file only where its index is not younger."""
    until(lambda: time.time() % 1 < 0.1, within=5, what="a second begins")
    workspace = rig.session()
    hidden_edit(workspace.path)
    mapped_edit(workspace.path)
    now = int(time.time())
    until(lambda: int(time.time()) > now, within=5, what="the next second")
    rig.end(workspace)
    after = rig.session()
    assert after.renewed
    assert (after.path / "src/app.py").read_text() == "print('hello')\n"
    assert (after.path / "readme.md").read_text() == "# Acme\n"


def test_nothing_of_the_agents_runs(rig: Rig, tmp_path: Path) -> None:
    trap = Trap(tmp_path)

    def set_traps(checkout: Path) -> None:
        set_every_program(checkout / ".git", trap, tmp_path)
        (checkout / ".gitattributes").write_text("* filter=trap diff=trap\n")
        hidden_edit(checkout)

    assert rig.after(set_traps).renewed
    assert trap.sprung == ""


def test_files_that_stay_are_not_written_again(rig: Rig) -> None:
    before = rig.session()
    inode = (before.path / "readme.md").stat().st_ino
    (before.path / "src/app.py").write_text("changed")
    assert rig.end(before) == ""
    after = rig.session()
    assert (after.path / "readme.md").stat().st_ino == inode
    assert not before.folder.exists()
    assert rig.kept.listed() == []


def test_the_work_is_archived_first_and_stays_so(rig: Rig, tmp_path: Path) -> None:
    workspace = rig.session()
    (workspace.path / "new").write_text("new\n")
    found = archive(workspace, rig.cache, into=tmp_path / "changes.patch")
    assert rig.kept.give(workspace.folder, slug="acme") == ""
    rig.session()
    assert rig.cache.resolve("acme", workspace.branch) == found.head


# --- another commit


def random_change(source: Source, chance: random.Random) -> None:
    """Names that are now a file, now a folder, now a link, now gone."""
    for number in chance.sample(range(12), 4):
        path = source.path / f"n{number}"
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        kind = chance.choice(("file", "folder", "link", "program", "gone"))
        if kind == "file":
            path.write_text(chance.choice(("one\n", "two\n")))
        elif kind == "folder":
            (path / "in").mkdir(parents=True)
            (path / "in" / "file").write_text(chance.choice(("one\n", "two\n")))
        elif kind == "link":
            path.symlink_to(chance.choice(("readme.md", "/etc", "src")))
        elif kind == "program":
            program(source.path, path.name, "true")


def test_another_commit_is_like_a_new_checkout_of_it(rig: Rig) -> None:
    chance = random.Random(7)
    rig.end(rig.session())
    for number in range(8):
        random_change(rig.source, chance)
        rig.source.commit({"number": str(number)})
        rig.cache.refresh("acme", rig.source.url)
        warm = rig.session()
        assert warm.renewed
        assert seen_by_a_session(warm) == seen_by_a_session(rig.session(warm=False))
        hidden_edit(warm.path)
        shutil.rmtree(warm.path / "docs")
        rig.end(warm)


def test_a_submodule_that_came_and_went_leaves_nothing(rig: Rig) -> None:
    workspace = rig.session()
    write("lib/left")(workspace.path)
    rig.end(workspace)
    rig.source.git("rm", "--quiet", "-r", "--cached", "lib")
    shutil.rmtree(rig.source.path / "lib")
    rig.source.commit({"lib": "a file\n"})
    rig.cache.refresh("acme", rig.source.url)
    warm = rig.session()
    assert (warm.renewed, (warm.path / "lib").read_text()) == (True, "a file\n")


def test_where_attributes_change_the_checkout_is_a_new_one(rig: Rig) -> None:
    """Git would leave the files as they are, with the ends of lines that they had."""
    rig.end(rig.session())
    rig.source.commit({"docs/.gitattributes": "*.md text eol=crlf\n"})
    rig.cache.refresh("acme", rig.source.url)
    workspace = rig.session()
    assert not workspace.renewed
    assert (workspace.path / "docs/one.md").read_bytes() == b"1\r\n"
    rig.end(workspace)
    assert rig.session().renewed


# --- what can't be trusted


def damaged_index(folder: Path) -> None:
    data = bytearray((folder / "index").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (folder / "index").write_bytes(data)


def another_version(folder: Path) -> None:
    run_git(folder / "checkout", "update-index", "--index-version=4", environment=_index(folder))


def skipping(folder: Path) -> None:
    run_git(folder / "checkout", "update-index", "--skip-worktree", "readme.md", environment=_index(folder))


def _index(folder: Path) -> dict[str, str]:
    run_git(folder / "checkout", "init", "--quiet")
    return {"GIT_INDEX_FILE": str(folder / "index")}


def link_for_a_checkout(folder: Path) -> None:
    moved = (folder / "checkout").rename(folder.parents[1] / "moved")
    (folder / "checkout").symlink_to(moved)


SPOILT: dict[str, Act] = {
    "index": damaged_index,
    "no index": lambda folder: (folder / "index").unlink(),
    "empty index": lambda folder: (folder / "index").write_bytes(b""),
    "index of another version": another_version,
    "index with flags": skipping,
    "no folders in the record": lambda folder: (folder / "workspace.json").write_text(
        json.dumps({**json.loads((folder / "workspace.json").read_text()), "folders": None})
    ),
    "no checkout": lambda folder: shutil.rmtree(folder / "checkout"),
    "a link for a checkout": link_for_a_checkout,
    "attribute of a folder": lambda folder: os.setxattr(folder / "checkout/docs", "user.mark", b"1"),
}


@pytest.mark.parametrize("harm", SPOILT)
def test_what_was_harmed_while_it_waited_is_thrown_away(rig: Rig, harm: str) -> None:
    cold = seen_by_a_session(rig.session(warm=False))
    rig.end(rig.session())
    (kept,) = rig.kept.listed()
    SPOILT[harm](kept.path)
    workspace = rig.session()
    assert not workspace.renewed
    assert seen_by_a_session(workspace) == cold
    assert sorted(path.name for path in workspace.folder.iterdir()) == ["checkout", "index", "workspace.json"]
    assert rig.kept.listed() == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_folder_of_another_owner_is_not_kept(rig: Rig) -> None:
    workspace = rig.session()
    os.chown(workspace.path / "src", 12345, 12345)
    assert "another owner" in rig.end(workspace)
    assert not workspace.folder.exists()
    assert rig.kept.listed() == []


HOLD = {
    "works in it": "import os, sys, time; os.chdir(sys.argv[1]); print(flush=True); time.sleep(30)",
    "has a file open": "import sys, time; f = open(sys.argv[1] + '/run.sh', 'r+'); print(flush=True); time.sleep(30)",
    "has a file mapped": (
        "import mmap, os, sys, time; d = os.open(sys.argv[1] + '/readme.md', os.O_RDWR); m = mmap.mmap(d, 0); "
        "os.closerange(3, 99); print(flush=True); time.sleep(30)"
    ),
}


@pytest.mark.parametrize("hold", HOLD)
def test_a_checkout_that_a_process_still_has_in_hand_is_not_kept(rig: Rig, hold: str) -> None:
    workspace = rig.session()
    with subprocess.Popen([sys.executable, "-c", HOLD[hold], str(workspace.path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert "still in use" in rig.end(workspace)
        process.kill()
    assert not workspace.folder.exists()
    assert rig.kept.listed() == []
    assert not rig.session().renewed


def test_where_writes_leave_no_trace_nothing_is_kept(rig: Rig) -> None:
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or tells_of_every_write(shared):
        pytest.skip("There is no such file system here.")
    with tempfile.TemporaryDirectory(dir=shared, prefix="rota-") as folder:
        in_memory = Rig(rig.source, rig.cache, Path(folder))
        workspace = in_memory.session()
        assert "does not tell of every write" in in_memory.end(workspace)
        assert not workspace.folder.exists()
        assert not in_memory.session().renewed


# --- at once, and killed


def test_each_is_taken_once(rig: Rig) -> None:
    first = [rig.session() for _ in range(3)]
    for workspace in first:
        assert rig.end(workspace) == ""

    def one(number: int) -> Workspace:
        return prepare(
            rig.cache, "acme", ref="main", branch=f"rota/x/1-{number}", into=rig.root / f"x{number}", kept=rig.kept
        )

    with ThreadPoolExecutor(12) as pool:
        made = list(pool.map(one, range(12)))
    assert sum(workspace.renewed for workspace in made) == 3
    assert {run_git(workspace.path, "status", "--porcelain", "--ignored") for workspace in made} == {""}
    assert rig.kept.listed() == []


SESSIONS = """
from pathlib import Path
from runners.workspaces import Cache, Kept, archive, prepare
cache, root = Cache(Path(sys.argv[1])), Path(sys.argv[2])
kept = Kept(root / "kept")
print("ready", flush=True)
for number in range(1000):
    w = prepare(cache, "acme", ref="main", branch=f"rota/x/{number}", into=root / f"{sys.argv[3]}{number}", kept=kept)
    (w.path / "new").write_text("x")
    (w.path / "src/app.py").write_text("print('HELLO')\\n")
    archive(w, cache, into=root / "p.patch")
    kept.give(w.folder, slug="acme")
"""


def test_after_a_kill_at_any_moment_the_next_session_finds_all_in_order(rig: Rig) -> None:
    rig.source.commit({f"many/{number}": str(number) * 50 for number in range(400)})
    rig.cache.refresh("acme", rig.source.url)
    cold = seen_by_a_session(rig.session(warm=False))
    root = rig.root / "workspaces"
    chance = random.Random(3)
    for number in range(8):
        process = worker(SESSIONS, rig.cache.root, root, f"k{number}-")
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.1 + chance.random() * 0.4)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        workspace = rig.session()
        assert seen_by_a_session(workspace) == cold
        rig.end(workspace)
    left = [path for path in root.glob("k*-*") if (path / "workspace.json").exists()]
    for path in left:
        archive(Workspace.open(path), rig.cache, into=rig.root / "left.patch")
    assert all(one.name.isdigit() or one.name.startswith("k") for one in rig.kept.listed())


def test_a_workspace_that_is_gone_is_not_kept(rig: Rig) -> None:
    workspace = rig.session()
    workspace.remove()
    assert rig.kept.give(workspace.folder, slug="acme")
    assert rig.kept.listed() == []


def test_a_missing_commit_is_an_error_with_and_without_a_kept_one(rig: Rig) -> None:
    rig.end(rig.session())
    with pytest.raises(RunnerError):
        rig.session(ref="0" * 40)
    until(lambda: len(rig.kept.listed()) == 1, within=1, what="the kept one is still there")
