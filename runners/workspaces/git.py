"""How git is called: as an argv list, within a bound, in an environment of ours, with an error that people can read.

Two settings of the stage:

- *isolated* (the default), for everything on this machine: no configuration of the system or of a user, no hooks, no
  file system monitor, no transport but local files, no program that a repository could name.
- *forge*, for talking to where a repository comes from: the operator's own git configuration (credential helpers,
  proxies, certificates, `safe.directory`) and ssh agent, because there the operator is the one who is obeyed. Nothing
  ever asks a question, and none of the worker's other variables are handed on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO

from runners.base import DiskFull, ProgramMissing, WorkspaceError
from runners.workspaces.wanted import ASK_EVERY, check_wanted

# What could run or write as a configuration pleases. Given on the command line: nothing overrides that.
_SETTINGS = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.untrackedCache=false",
    "core.protectHFS=true",  # names that are `.git` on the file systems of other machines are none here either
    "core.protectNTFS=true",
    "core.bigFileThreshold=64m",
    "gc.auto=0",
    "maintenance.auto=false",
    "fetch.unpackLimit=1",  # packs, which git syncs to disk, instead of many loose objects
    "fetch.writeCommitGraph=false",
    "submodule.recurse=false",
)
# Each thread has a window of ten objects of its own, and they take what they like: more than `_MEMORY` on many cores.
_LOCAL_SETTINGS = ("pack.threads=4", "pack.windowMemory=64m")
_FORGE_SETTINGS = ("http.lowSpeedLimit=1000", "http.lowSpeedTime=60")
_SSH_OPTIONS = "-oBatchMode=yes -oConnectTimeout=20 -oServerAliveInterval=20 -oServerAliveCountMax=3"

# The operator's variables that git may need to reach a forge.
_FORGE_VARIABLES = re.compile(
    r"HOME|USER|LOGNAME|TMPDIR|XDG_CONFIG_HOME|SSH_AUTH_SOCK"
    r"|https?_proxy|HTTPS?_PROXY|all_proxy|ALL_PROXY|no_proxy|NO_PROXY"
    r"|SSL_CERT_FILE|SSL_CERT_DIR|GIT_SSL_CAINFO|GIT_SSL_CAPATH"
    r"|GIT_CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+)"
)

_MEMORY = 2 * 1024**3  # bytes: a tree of a few objects can claim thousands of millions of files
_END_GRACE = timedelta(seconds=2)  # from TERM, at which git removes its temporary files, until KILL
# In the last two git has lost the cause: it could open a file, and could not write to it.
_NO_SPACE = re.compile(
    r"No space left on device|Disk quota exceeded|Out of diskspace"
    r"|unknown write failure on standard output|^error: unable to write file [^:]+$",
    re.MULTILINE,
)
_USER_INFO = re.compile(r"(?<=://)[^/\s@]+@")


class GitFailed(WorkspaceError):
    """A git command ended with an error. `stderr` is what it said, without credentials."""

    def __init__(self, action: str, stderr: str) -> None:
        self.stderr = redact(stderr)
        super().__init__(f"{action}: {for_people(stderr)}")


class TookTooLong(WorkspaceError):
    """A git command was ended because its time was up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where git works. All three are named explicitly: git never looks for a repository by itself."""

    git_dir: Path
    work_tree: Path | None = None
    index: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a git command said. `out` is empty where it was sent to a file."""

    code: int
    out: bytes
    err: str


def git(
    *arguments: str,
    at: Place | None,
    action: str,
    timeout: timedelta,
    stdin: bytes = b"",
    stdout: IO[bytes] | None = None,
    forge: bool = False,
    held: int | None = None,
    success: Collection[int] = (0,),
) -> Answer:
    """Run one git command.

    `at` None: for a command that needs no repository. `action` begins the sentence of an error ("Fetching acme").
    `held` is a file descriptor that the command keeps open: with it a lock outlives a worker that is killed while the
    command still writes. `success`: exit codes that are no failure. Raises GitFailed, TookTooLong, DiskFull,
    Unwanted, and ProgramMissing where there is no git.
    """
    process = _start(arguments, at=at, timeout=timeout, stdout=stdout, forge=forge, held=held)
    try:
        out, err = _communicate(process, stdin, action=action, timeout=timeout)
    except subprocess.TimeoutExpired:
        _end(process)
        raise TookTooLong(f"{action}: git took longer than {_duration(timeout)}.") from None
    except BaseException:
        _end(process)
        raise
    answer = Answer(code=process.returncode, out=out or b"", err=err.decode(errors="replace"))
    if answer.code in success:
        return answer
    if _NO_SPACE.search(answer.err):
        raise DiskFull(f"{action}: there is no space left on the disk.")
    raise GitFailed(action, answer.err or f"git ended with {answer.code}")


def environment(*, forge: bool, variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The whole environment of a git command."""
    path = os.pathsep.join(
        entry
        for entry in variables.get("PATH", os.defpath).split(os.pathsep)
        if entry.startswith("/")  # git also runs inside of checkouts: nothing there is a program
    )
    ours = {
        "PATH": path,
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",  # present and empty: no askpass program, whatever the configuration says
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_LFS_SKIP_SMUDGE": "1",
    }
    if not forge:
        return ours | {
            "HOME": os.devnull,  # nor are there ignore rules or attributes of a user
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_ALLOW_PROTOCOL": "file",
            "GIT_ALLOC_LIMIT": "1g",  # an object that claims to be huge is an error, not the end of the worker
        }
    theirs = {name: value for name, value in variables.items() if _FORGE_VARIABLES.fullmatch(name)}
    return (
        theirs
        | ours
        | {
            "GIT_ALLOW_PROTOCOL": "file:https:ssh",
            "GIT_SSH_COMMAND": f"{variables.get('GIT_SSH_COMMAND') or 'ssh'} {_SSH_OPTIONS}",
        }
    )


def for_people(stderr: str, *, longest: int = 300) -> str:
    """What git said, as one sentence: without hints, prefixes and credentials, and not longer than `longest`."""
    lines = [re.sub(r"^(fatal|error|warning|remote): ", "", line.strip()) for line in stderr.splitlines()]
    kept = [line for line in lines if line and not line.startswith("hint:")]
    text = "".join(char if char.isprintable() else " " for char in redact("; ".join(kept)))
    if len(text) > longest:
        text = text[:longest].rstrip() + "…"
    return text or "git said nothing"


def redact(text: str) -> str:
    """The text without the user information of URLs."""
    return _USER_INFO.sub("…@", text)


@contextlib.contextmanager
def plain_errors(action: str) -> Iterator[None]:
    """Errors of the file system as errors of this package, so that no caller has to know both. Also a decorator."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"{action}: there is no space left on the disk.") from error
        raise WorkspaceError(f"{action}: {error.strerror or error}.") from error


def _start(
    arguments: tuple[str, ...],
    *,
    at: Place | None,
    timeout: timedelta,
    stdout: IO[bytes] | None,
    forge: bool,
    held: int | None,
) -> subprocess.Popen[bytes]:
    settings = _SETTINGS + (_FORGE_SETTINGS if forge else _LOCAL_SETTINGS)
    argv = ["git", *(part for setting in settings for part in ("-c", setting))]
    variables = environment(forge=forge)
    work_tree = at.work_tree if at else None
    if at is not None:
        argv.append(f"--git-dir={at.git_dir}")
        if at.index is not None:
            variables["GIT_INDEX_FILE"] = str(at.index)
    if work_tree is not None:
        argv.append(f"--work-tree={work_tree}")
    try:
        process = subprocess.Popen(
            [*_bound(timeout, forge=forge), *argv, *arguments],
            cwd=work_tree or "/",
            env=variables,
            stdin=subprocess.PIPE,
            stdout=stdout or subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=() if held is None else (held,),
        )
    except FileNotFoundError as error:
        if work_tree is not None and not work_tree.is_dir():
            raise WorkspaceError("The checkout is gone.") from error
        raise ProgramMissing("git is not installed on this machine, or not on PATH.") from error
    if not forge:
        _bound_memory(process.pid)
    return process


def _communicate(
    process: subprocess.Popen[bytes], stdin: bytes, *, action: str, timeout: timedelta
) -> tuple[bytes | None, bytes]:
    """Until it has ended, and as long as somebody wants that. Raises TimeoutExpired, Unwanted."""
    if stdin:  # Python can't interrupt that and go on; nor is it what takes long
        return process.communicate(stdin, timeout=timeout.total_seconds())
    until = time.monotonic() + timeout.total_seconds()
    while True:
        left = until - time.monotonic()
        try:
            return process.communicate(timeout=max(0.0, min(left, ASK_EVERY)))
        except subprocess.TimeoutExpired:
            if left <= ASK_EVERY:
                raise
        check_wanted(action)


def _bound_memory(pid: int) -> None:
    """What it maps of packs does not count: `RLIMIT_DATA` is what a process fills itself."""
    with contextlib.suppress(OSError):  # it has ended
        _, most = resource.prlimit(pid, resource.RLIMIT_DATA)
        bound = _MEMORY if most == resource.RLIM_INFINITY else min(_MEMORY, most)
        resource.prlimit(pid, resource.RLIMIT_DATA, (bound, bound))


def _bound(timeout: timedelta, *, forge: bool) -> list[str]:
    """What waits for a forge has a bound of its own: it must end, and free its lock, also when its worker is dead."""
    program = shutil.which("timeout") if forge else None
    if program is None:
        return []
    return [program, "-k", "5", f"{timeout.total_seconds() + 5:.0f}"]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command and whatever it started: the whole process group."""
    for number, grace in ((signal.SIGTERM, _END_GRACE), (signal.SIGKILL, _END_GRACE)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=grace.total_seconds())
            return


def _duration(span: timedelta) -> str:
    seconds = span.total_seconds()
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"
