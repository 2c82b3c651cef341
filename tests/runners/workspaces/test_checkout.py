"""An isolated checkout: whole or not there, its own in everything, the same for whoever asks at once."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runners.base import RepositoryInvalid, WorkspaceError
from runners.workspaces import Cache, Workspace, prepare
from tests.runners.repositories import Source, run_git
from tests.runners.workspaces.conftest import FILES
from tests.runners.workspaces.programs import program
from tests.runners.workspaces.workers import worker

Checkout = Callable[[], Workspace]

PREPARE = """
from pathlib import Path
from runners.workspaces import Cache, prepare
cache = Cache(Path(sys.argv[1]))
print("ready", flush=True)
for number in sys.argv[4:]:
    cache.refresh("acme", sys.argv[2])
    prepare(cache, "acme", ref="main", branch=f"rota/x/1-{number}", into=Path(sys.argv[3]) / f"w{number}")
print("done", flush=True)
"""


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


def test_the_session_finds_the_files_on_its_own_branch(checkout: Checkout, source: Source) -> None:
    workspace = checkout()
    assert files(workspace.path) == FILES
    assert run_git(workspace.path, "status", "--porcelain=2", "--branch") == (
        f"# branch.oid {source.git('rev-parse', 'HEAD')}\n# branch.head rota/nightly/1-1"
    )
    assert workspace.base_commit == source.git("rev-parse", "HEAD")


def test_history_branches_and_tags_are_there_without_a_network(source: Source, cache: Cache, tmp_path: Path) -> None:
    source.git("tag", "-a", "v1", "-m", "One")
    source.git("branch", "other")
    source.commit({"a": "a"}, "Second")
    cache.refresh("acme", source.url)
    workspace = prepare(cache, "acme", ref="main", branch="rota/x/1-1", into=tmp_path / "w", default_branch="main")
    source.path.rename(tmp_path / "gone")

    def git(*arguments: str) -> str:
        return run_git(workspace.path, *arguments)

    assert git("log", "--format=%s") == "Second\nBegin"
    assert git("describe").startswith("v1-1-g")
    assert git("branch", "--all", "--format=%(refname)").splitlines() == [
        "refs/heads/main",
        "refs/heads/rota/x/1-1",
        "refs/remotes/origin/HEAD",
        "refs/remotes/origin/main",
        "refs/remotes/origin/other",
    ]
    assert git("symbolic-ref", "refs/remotes/origin/HEAD") == "refs/remotes/origin/main"
    assert git("blame", "--porcelain", "a").startswith(workspace.base_commit)
    assert git("diff", "main...HEAD") == ""
    git("fsck", "--strict")


def test_nothing_leads_back_to_the_forge(checkout: Checkout, source: Source) -> None:
    workspace = checkout()
    assert run_git(workspace.path, "remote", "--verbose") == ""
    git_dir = workspace.path / ".git"
    told = [path.read_bytes() for path in git_dir.rglob("*") if path.is_file()]
    assert not [text for text in told if os.fsencode(source.path) in text]


def test_a_commit_in_the_checkout_is_rotas_where_the_agent_says_nothing(checkout: Checkout) -> None:
    workspace = checkout()
    run_git(workspace.path, "commit", "--quiet", "--allow-empty", "-m", "Work")
    assert run_git(workspace.path, "log", "-1", "--format=%an <%ae>") == "Rota <rota@localhost>"


def test_config_hooks_and_refs_are_a_workspaces_own(checkout: Checkout, acme: Cache) -> None:
    one, other = checkout(), checkout()
    before = sorted(path.name for path in acme.path("acme").iterdir())
    run_git(one.path, "config", "user.name", "Somebody")
    run_git(one.path, "branch", "mine")
    (one.path / ".git" / "hooks").mkdir()
    program(one.path / ".git" / "hooks", "post-commit", "touch hooked")
    run_git(one.path, "commit", "--quiet", "--allow-empty", "-m", "Work")
    run_git(one.path, "gc", "--quiet", "--prune=now")
    assert (one.path / "hooked").exists()
    run_git(other.path, "commit", "--quiet", "--allow-empty", "-m", "Work")
    assert not (other.path / "hooked").exists()
    assert "mine" not in run_git(other.path, "branch")
    assert sorted(path.name for path in acme.path("acme").iterdir()) == before
    run_git(other.path, "fsck", "--strict")


def test_a_checkout_goes_on_while_the_cache_changes(source: Source, checkout: Checkout, acme: Cache) -> None:
    workspace = checkout()
    source.git("checkout", "--quiet", "--orphan", "fresh")
    source.commit({"b": "b"}, "Another history")
    source.git("branch", "-M", "main")
    acme.refresh("acme", source.url)
    (acme.path("acme") / "rota-suspect").touch()
    acme.refresh("acme", source.url)  # makes it anew: the forge has lost the commit, the workspace's cache as well
    assert acme.resolve("acme", "main") == source.git("rev-parse", "main")
    assert files(workspace.path) == FILES


@pytest.mark.parametrize("kind", ["branch", "tag", "commit"])
def test_any_commit_can_be_checked_out(source: Source, cache: Cache, tmp_path: Path, kind: str) -> None:
    first = source.git("rev-parse", "HEAD")
    source.git("branch", "old")
    source.git("tag", "-a", "v1", "-m", "One")
    source.commit({"a": "a"})
    cache.refresh("acme", source.url)
    ref = {"branch": "old", "tag": "v1", "commit": first}[kind]
    workspace = prepare(cache, "acme", ref=ref, branch="rota/x/1-1", into=tmp_path / "w")
    assert files(workspace.path) == FILES
    assert workspace.base_commit == first


def test_a_commit_that_the_forge_forgot_is_still_there(source: Source, acme: Cache, tmp_path: Path) -> None:
    first = source.git("rev-parse", "HEAD")
    source.git("commit", "--quiet", "--amend", "-m", "Begin anew")
    acme.refresh("acme", source.url)
    assert prepare(acme, "acme", ref=first, branch="rota/x/1-1", into=tmp_path / "w").base_commit == first


def test_a_default_branch_that_would_be_in_the_way_is_left_out(
    repository: Callable[[], Source], cache: Cache, tmp_path: Path
) -> None:
    source = repository()
    source.git("checkout", "--quiet", "-b", "rota")
    source.commit({"a": "a"})
    cache.refresh("acme", source.url)
    workspace = prepare(cache, "acme", ref="rota", branch="rota/x/1-1", into=tmp_path / "w", default_branch="rota")
    assert run_git(workspace.path, "rev-parse", "origin/HEAD") == workspace.base_commit
    assert run_git(workspace.path, "branch", "--show-current") == "rota/x/1-1"


def test_modes_and_links_are_as_in_the_repository(source: Source, acme: Cache, tmp_path: Path) -> None:
    program(source.path, "run.sh", "true")
    (source.path / "link").symlink_to("/etc/hostname")
    source.commit({"crlf.txt": "a\r\nb\r\n"})
    acme.refresh("acme", source.url)
    workspace = prepare(acme, "acme", ref="main", branch="rota/x/1-1", into=tmp_path / "w")
    assert os.access(workspace.path / "run.sh", os.X_OK)
    assert not os.access(workspace.path / "readme.md", os.X_OK)
    assert str((workspace.path / "link").readlink()) == "/etc/hostname"
    assert (workspace.path / "crlf.txt").read_bytes() == b"a\r\nb\r\n"
    assert workspace.folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_with_something_in_it_is_not_overwritten(checkout: Checkout, acme: Cache, tmp_path: Path) -> None:
    workspace = checkout()
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "precious").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "documents")
    for into in (workspace.folder, tmp_path / "documents", tmp_path / "file", tmp_path / "link"):
        with pytest.raises(WorkspaceError, match="already holds something"):
            prepare(acme, "acme", ref="main", branch="rota/x/1-1", into=into)
    assert Workspace.open(workspace.folder) == workspace
    (tmp_path / "empty").mkdir()
    assert prepare(acme, "acme", ref="main", branch="rota/x/1-1", into=tmp_path / "empty").path.is_dir()


def test_what_a_killed_worker_left_is_removed_by_the_next_attempt(acme: Cache, tmp_path: Path) -> None:
    for name in (".w.0123abcd.new", ".w.0123abcd.gone", ".w2.0123abcd.new", ".x.w.0123abcd.new"):
        (tmp_path / name / "checkout").mkdir(parents=True)
    prepare(acme, "acme", ref="main", branch="rota/x/1-1", into=tmp_path / "w")
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".w2.0123abcd.new", ".x.w.0123abcd.new"]


@pytest.mark.parametrize("branch", ["-x", "a..b", "rota/../x", "rota/x.lock"])
def test_a_bad_branch_is_refused_before_anything_is_made(acme: Cache, tmp_path: Path, branch: str) -> None:
    with pytest.raises(RepositoryInvalid):
        prepare(acme, "acme", ref="main", branch=branch, into=tmp_path / "w")
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    "record",
    [
        "",
        "[]",
        '{"slug": "acme"}',
        '{"slug": "acme", "branch": "--x", "base_commit": "%s"}' % ("0" * 40),
        '{"slug": "acme", "branch": "a", "base_commit": "--output=x"}',
        '{"slug": "acme", "branch": 1, "base_commit": 2}',
    ],
)
def test_a_damaged_record_is_no_workspace(checkout: Checkout, record: str) -> None:
    workspace = checkout()
    (workspace.folder / "workspace.json").write_text(record)
    with pytest.raises(WorkspaceError, match="no whole workspace"):
        Workspace.open(workspace.folder)


def test_removing_leaves_nothing(checkout: Checkout) -> None:
    workspace = checkout()
    workspace.remove()
    assert list(workspace.folder.parent.iterdir()) == []


def test_twenty_threads_prepare_at_once(source: Source, cache: Cache, tmp_path: Path) -> None:
    source.commit({f"many/{number}": str(number) for number in range(300)})

    def one(number: int) -> Workspace:
        cache.refresh("acme", source.url)
        return prepare(cache, "acme", ref="main", branch=f"rota/x/1-{number}", into=tmp_path / "all" / f"w{number}")

    with ThreadPoolExecutor(20) as pool:
        made = list(pool.map(one, range(20)))
    assert {len(files(workspace.path)) for workspace in made} == {303}
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == sorted(f"w{n}" for n in range(20))
    assert [path.name for path in sorted(cache.root.iterdir())] == ["acme.git", "acme.lock"]


def test_processes_prepare_at_once(source: Source, cache: Cache, tmp_path: Path) -> None:
    workers = [
        worker(PREPARE, cache.root, source.url, tmp_path / "all", *range(first, first + 5)) for first in range(0, 20, 5)
    ]
    for process in workers:
        out, err = process.communicate()
        assert out.endswith(b"done\n"), err
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == sorted(f"w{n}" for n in range(20))


def test_after_a_kill_at_any_moment_the_next_prepare_heals(source: Source, acme: Cache, tmp_path: Path) -> None:
    source.commit({f"many/{number}": str(number) * 100 for number in range(600)})
    acme.refresh("acme", source.url)
    interrupted = 0
    for number in range(6):
        process = worker(PREPARE, acme.root, source.url, tmp_path / "all", 1)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.006 * 1.7**number)
        process.send_signal(signal.SIGKILL)
        out, _ = process.communicate()
        interrupted += b"done" not in out
        into = tmp_path / "all" / "w1"
        if (into / "workspace.json").exists():
            Workspace.open(into).remove()
        workspace = prepare(acme, "acme", ref="main", branch="rota/x/1-1", into=into)
        assert len(files(workspace.path)) == len(FILES) + 600
        assert run_git(workspace.path, "status", "--porcelain") == ""
        workspace.remove()
    assert interrupted >= 3
    assert list((tmp_path / "all").iterdir()) == []
