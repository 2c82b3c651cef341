"""How git is called."""

import os
import shlex
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from runners.base import DiskFull, ProgramMissing, Unwanted, WorkspaceError
from runners.workspaces.git import GitFailed, Place, TookTooLong, environment, for_people, git, plain_errors
from runners.workspaces.skeleton import BARE, write_git_dir
from runners.workspaces.wanted import as_long_as
from tests.processes import until
from tests.runners.repositories import Source
from tests.runners.workspaces.programs import program

SOON = timedelta(seconds=10)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_git_sees_nothing_of_the_workers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://secret")
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'core.pager=touch'")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "touch")
    for forge in (True, False):
        names = environment(forge=forge)
        assert not {"DATABASE_URL", "GIT_DIR", "GIT_CONFIG_PARAMETERS", "GIT_EXTERNAL_DIFF"} & names.keys()


def test_only_a_forge_gets_the_operators_configuration() -> None:
    variables = {"HOME": "/home/ada", "SSH_AUTH_SOCK": "/agent", "https_proxy": "http://proxy", "PATH": "/bin"}
    forge, isolated = (environment(forge=forge, variables=variables) for forge in (True, False))
    assert (forge["HOME"], forge["SSH_AUTH_SOCK"], forge["https_proxy"]) == ("/home/ada", "/agent", "http://proxy")
    assert not {"SSH_AUTH_SOCK", "https_proxy"} & isolated.keys()
    assert isolated["GIT_CONFIG_GLOBAL"] == os.devnull
    assert isolated["GIT_ALLOW_PROTOCOL"] == "file"


def test_ssh_never_asks() -> None:
    assert "-oBatchMode=yes" in environment(forge=True, variables={})["GIT_SSH_COMMAND"]
    own = environment(forge=True, variables={"GIT_SSH_COMMAND": "ssh -i key"})["GIT_SSH_COMMAND"]
    assert own.startswith("ssh -i key -oBatchMode=yes")


def test_programs_are_not_looked_for_in_the_checkout() -> None:
    assert environment(forge=False, variables={"PATH": ".:/usr/bin::bin:/bin"})["PATH"] == "/usr/bin:/bin"


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    deaf = program(tmp_path, "ssh", f"trap '' TERM; echo $$ >> {shlex.quote(str(pids))}; sleep 60")
    monkeypatch.setenv("GIT_SSH_COMMAND", str(deaf))
    with pytest.raises(TookTooLong, match=r"Asking: git took longer than 0\.3 s"):
        git("ls-remote", "ssh://host/x", at=None, action="Asking", timeout=timedelta(seconds=0.3), forge=True)
    [pid] = pids.read_text().split()
    until(lambda: not is_running(int(pid)), within=5, what="the deaf program is gone")


def test_a_command_that_nobody_wants_any_more_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = tmp_path / "pids"
    slow = program(tmp_path, "ssh", f"echo $$ >> {shlex.quote(str(pids))}; sleep 60")
    monkeypatch.setenv("GIT_SSH_COMMAND", str(slow))
    with as_long_as(lambda: not pids.exists()), pytest.raises(Unwanted, match="Asking: ended"):
        git("ls-remote", "ssh://host/x", at=None, action="Asking", timeout=3 * SOON, forge=True)
    [pid] = pids.read_text().split()
    until(lambda: not is_running(int(pid)), within=15, what="the slow program is gone")


def test_a_command_that_is_wanted_has_what_it_was_given_and_its_time() -> None:
    """It is asked after every half second, whatever goes in and out meanwhile."""
    given, said = b"line\n" * 50_000, "seq 50000; sleep 0.6; cat; seq 50000"
    numbers = b"".join(b"%d\n" % number for number in range(1, 50_001))
    with as_long_as(lambda: True):
        for stdin in (given, b""):
            answer = git("-c", f"alias.say=!{said}", "say", at=None, action="Asking", timeout=3 * SOON, stdin=stdin)
            assert answer.out == numbers + stdin + numbers
        with pytest.raises(TookTooLong, match=r"longer than 0\.7 s"):
            git(*("-c", "alias.slowly=!sleep 60", "slowly"), at=None, action="Asking", timeout=timedelta(seconds=0.7))


def test_what_a_command_takes_of_memory_is_bounded(tmp_path: Path) -> None:
    """Git becomes a shell for an alias, and that waits until it or its parent is bounded."""
    ours = "/proc/$PPID/limits /proc/$(cut -d' ' -f4 /proc/$PPID/stat)/limits"
    look = f"for _ in $(seq 150); do grep -qs 'Max data size *{2 * 1024**3} ' {ours} && exit; sleep 0.1; done; exit 9"
    alias = f"alias.look=!{program(tmp_path, 'look', look)}"
    git("-c", alias, "look", at=None, action="Looking", timeout=timedelta(seconds=60))


def test_packing_takes_no_more_memory_on_many_cores(tmp_path: Path) -> None:
    """Neither what we call, nor what that starts in a repository of ours that it fetches from."""
    write_git_dir(tmp_path / "ours", config=BARE, head="ref: refs/heads/main")
    for at in (None, Place(git_dir=tmp_path / "ours")):
        where = ("--file", str(at.git_dir / "config")) if at else ()
        asked = git("config", *where, "--get-regexp", "^pack[.]", at=None, action="Asking", timeout=SOON)
        assert asked.out.split() == [b"pack.threads", b"4", b"pack.windowmemory", b"64m"]


def test_an_error_is_a_sentence_without_credentials() -> None:
    said = "hint: Try this\nremote: Denied\nfatal: unable to access 'https://ada:hunter2@example.org/x/': 403\n\x1b[31m"
    assert for_people(said) == "Denied; unable to access 'https://…@example.org/x/': 403;  [31m"
    assert for_people("x" * 400) == "x" * 300 + "…"
    assert for_people("") == "git said nothing"


def test_a_failure_keeps_what_git_said(source: Source) -> None:
    place = Place(git_dir=source.path / ".git")
    with pytest.raises(GitFailed, match="Reading: Not a valid object name nowhere") as caught:
        git("cat-file", "-p", "nowhere", at=place, action="Reading", timeout=SOON)
    assert "fatal:" in caught.value.stderr


def test_a_full_disk_is_told_as_one(source: Source) -> None:
    place = Place(git_dir=source.path / ".git")
    with Path("/dev/full").open("wb") as full, pytest.raises(DiskFull, match="no space left"):
        git("cat-file", "-p", "HEAD", at=place, action="Reading", timeout=SOON, stdout=full)


def test_a_full_disk_is_told_as_one_in_our_own_writing(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="no space left"), plain_errors("Writing"), Path("/dev/full").open("w") as full:
        full.write("x")
    with pytest.raises(WorkspaceError, match="Reading: No such file"), plain_errors("Reading"):
        (tmp_path / "missing").read_text()


def test_a_machine_without_git_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramMissing, match="git is not installed"):
        git("version", at=None, action="Asking", timeout=SOON)


def test_a_checkout_that_is_gone_is_not_taken_for_a_missing_git(tmp_path: Path) -> None:
    place = Place(git_dir=tmp_path, work_tree=tmp_path / "gone")
    with pytest.raises(WorkspaceError, match="The checkout is gone"):
        git("status", at=place, action="Asking", timeout=SOON)
