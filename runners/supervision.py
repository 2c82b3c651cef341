"""Start a session's shim, follow it, find it again, stop it. All state is in the folder and /proc.

So a worker that is restarted, or another thread, goes on where the last one was: it needs the
folder and an offset.

    start(folder, launch, cwd=workspace, limits=limits)
    while True:
        ended = ending_or_died(folder)
        lines, offset = following.read_lines(folder, offset)
        …
        if ended and not lines:
            break

Ask for the ending *before* reading: then all that was printed before it is in what you read. Only
`start`, which awaits the shim's first word, and `kill` take longer than a read of the disk.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import time
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from runners import confinement, processes, recording
from runners.base import DiskFull, Ending, Launch, Limits, ProcessIdentity, SupervisionError
from runners.killing import kill_all
from runners.shim import DISK_FULL
from runners.starting import SHIM, children, start_shim

KILL_SECONDS = 10.0

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_ROOM = "The session could not be started: the disk is full."


def start(folder: Path, launch: Launch, *, cwd: Path, limits: Limits) -> ProcessIdentity:
    """Start the session; return the identity of its shim once the program runs or has failed to.

    `folder` exists and held no session before. `cwd` is the workspace, below which
    `launch.working_directory` lies. Raises DiskFull, and SupervisionError when the shim gives no
    sign of life; then nothing of the session is left running, and no secret is left in the folder.
    """
    folder = folder.resolve()
    if _any_of(folder, "process.json", "ending.json"):
        raise SupervisionError(f"{folder} already held a session. Each session needs a new folder.")
    try:
        _write_files(launch)
        _write(folder / "launch.json", _instructions(launch, cwd, limits))
        word = start_shim(folder)
    except OSError as error:
        with suppress(OSError):  # where nothing can be opened any more, nothing can be looked for
            kill(folder)
        if error.errno in _FULL:
            raise DiskFull(_NO_ROOM) from error
        raise SupervisionError(f"The session could not be started: {error}") from error
    if not word or word == DISK_FULL:
        kill(folder)
        if word:
            raise DiskFull(_NO_ROOM)
        raise SupervisionError(f"The shim gave no sign of life. {_last_words(folder)}".strip())
    pid, ticks = map(int, word.split())
    return ProcessIdentity(pid=pid, start_ticks=ticks, boot_id=processes.boot_id())


def ending(folder: Path) -> Ending | None:
    """How the session ended; None while it goes on. SupervisionError when the file is damaged."""
    children.reap()
    try:
        content = json.loads((folder / "ending.json").read_bytes())
        return Ending(**{field.name: content[field.name] for field in fields(Ending)})
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise SupervisionError(f"{folder / 'ending.json'} is damaged: {error!r}") from error


def ending_or_died(folder: Path) -> Ending | None:
    """How the session ended; `shim_died` when nobody is there any more who could say.

    That stays true: a shim that is born later, for its worker died as it asked for it, finds no launch. So not to be
    asked while `start` is at work on this folder.
    """
    if (found := ending(folder)) or _shim_runs(folder):
        return found
    _take_launch_away(folder)
    if (found := ending(folder)) or _shim_runs(folder):  # written, or taken, while we looked
        return found
    now = recording.now_ms()
    return Ending(
        exit_code=None,
        signal=None,
        ended_by="shim_died",
        started_at_ms=int(_record(folder).get("started_at_ms", now)),
        ended_at_ms=now,
        output_bytes=_size(folder / "output.log"),
        message=f"Its shim died. {_last_words(folder)}".strip(),
    )


def identity(folder: Path) -> ProcessIdentity | None:
    """Who the shim is, by its own record; None when the program was never started."""
    return _recorded(folder, "shim")


def identify(pid: int) -> ProcessIdentity:
    """Who has this pid right now. Raises SupervisionError when nobody has."""
    ticks = processes.start_ticks(pid)
    if ticks is None:
        raise SupervisionError(f"There is no process {pid}.")
    return ProcessIdentity(pid=pid, start_ticks=ticks, boot_id=processes.boot_id())


def is_alive(process: ProcessIdentity) -> bool:
    """True when exactly this process runs. A reused pid, another boot or a zombie are not it."""
    children.reap()
    if process.boot_id != processes.boot_id():
        return False
    return processes.start_ticks(process.pid) == process.start_ticks


def current(folder: Path) -> list[ProcessIdentity]:
    """Every live process of the session: shim, program, what descends from them, who is marked."""
    boot = processes.boot_id()
    roots = [pid for pid, _ in _recorded_alive(folder)] + _shims(folder)
    found = processes.tree(roots, marker=str(folder.resolve()))
    return [ProcessIdentity(pid=pid, start_ticks=ticks, boot_id=boot) for pid, ticks in found]


def await_end(folder: Path, seconds: float) -> None:
    """Return at once when the shim has ended, else after so many seconds."""
    shim, pinned = identity(folder), -1
    if shim is not None:
        try:
            pinned = os.pidfd_open(shim.pid)
        except ProcessLookupError:
            return
        except OSError:  # an old kernel, a container that forbids it: then time alone has to do
            pinned = -1
    if shim is None or pinned < 0:
        time.sleep(seconds)
        return
    try:
        if is_alive(shim):
            ended = select.poll()
            ended.register(pinned, select.POLLIN)
            ended.poll(seconds * 1000)
    finally:
        os.close(pinned)


def request_stop(folder: Path, reason: Literal["cancelled", "shutdown", "budget"]) -> None:
    """Ask the shim to end the session. Returns at once; the ending follows within the grace.

    The first reason stays. Asked before the start, the program is not started at all. On a full disk, where no reason
    can be written, it ends as in a shutdown.
    """
    knock = signal.SIGUSR1
    try:
        if not (folder / "stop").exists():
            _write(folder / "stop", reason)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        knock = signal.SIGTERM
    shim = identity(folder)
    if shim is not None and is_alive(shim):
        processes.send((shim.pid, shim.start_ticks), knock)


def kill(folder: Path) -> int:
    """KILL whatever is left of a session, its shim too, until nobody is; how many there were.

    For a session whose shim died, or that must not be waited for. When the shim is gone, a process
    can hide that has lost its parent *and* cleared its environment or made it private, as key agents
    do, or that is another user's.
    """
    if _is_over(folder):
        return 0
    _take_launch_away(folder)
    path = os.fsencode(folder.resolve())
    marker = os.fsencode(f"{processes.MARKER}=") + path
    killed = kill_all(
        lambda pid: processes.carries(pid, marker) or _is_shim(pid, path),
        roots=_recorded_alive(folder),
        seconds=KILL_SECONDS,
    )
    confinement.clear_cgroup(str(_record(folder).get("cgroup", "")), str(folder.resolve()))
    children.reap()
    return killed


def _take_launch_away(folder: Path) -> None:
    """It holds secrets. And a shim takes it after it can be seen: one that can't be seen by now will find no work."""
    (folder / "launch.json").unlink(missing_ok=True)


def _is_over(folder: Path) -> bool:
    """True when the shim has said that nobody is left: then nobody need be looked for."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return bool(json.loads((folder / "ending.json").read_bytes())["left"] == 0)
    return False


def _instructions(launch: Launch, cwd: Path, limits: Limits) -> str:
    directory = (cwd / launch.working_directory).resolve()
    if not directory.is_relative_to(cwd.resolve()):
        raise SupervisionError(f"{launch.working_directory} lies outside of the workspace.")
    silence = limits.silence
    stdin = _below_home(launch, launch.stdin_file) if launch.stdin_file else os.devnull
    return json.dumps(
        {
            "argv": list(launch.argv),
            "environment": dict(launch.environment),
            "cwd": str(directory),
            "stdin": str(stdin),
            "result_prefix": launch.result_prefix,
            "result_type": launch.result_type,
            "answers": asdict(launch.answers) if launch.answers else None,
            "limits": {
                "timeout": limits.timeout.total_seconds(),
                "silence": None if silence is None else silence.total_seconds(),
                "output_bytes": limits.output_bytes,
                "result_grace": limits.result_grace.total_seconds(),
                "kill_grace": limits.kill_grace.total_seconds(),
                "turns": limits.turns,
                "memory_bytes": limits.memory_bytes,
                "tasks": limits.tasks,
                "nice": limits.nice,
                "cgroup": limits.cgroup,
            },
        }
    )


def _write_files(launch: Launch) -> None:
    """Make HOME and TMPDIR, and lay the files of the launch below HOME."""
    for name in ("HOME", "TMPDIR"):
        if name in launch.environment:
            Path(launch.environment[name]).mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in launch.files.items():
        path = _below_home(launch, name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, content)


def _below_home(launch: Launch, name: str) -> Path:
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "HOME" not in launch.environment:
        raise SupervisionError(f"The file {name} would lie outside of HOME.")
    return Path(launch.environment["HOME"]) / relative


def _write(path: Path, content: str | bytes) -> None:
    """Whole or not at all, and readable by nobody else."""
    part = path.with_name(path.name + ".part")
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    part.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        part.rename(path)
    except OSError:
        part.unlink(missing_ok=True)  # the half of a secret is one
        raise


def _record(folder: Path) -> dict[str, Any]:
    """What process.json says; empty when there is none, or when somebody has damaged it."""
    with suppress(FileNotFoundError, ValueError):
        content = json.loads((folder / "process.json").read_bytes())
        if isinstance(content, dict):
            return content
    return {}


def _recorded(folder: Path, name: str) -> ProcessIdentity | None:
    record = _record(folder)
    with suppress(KeyError, TypeError, ValueError):
        return ProcessIdentity(
            pid=int(record[name]["pid"]),
            start_ticks=int(record[name]["start_ticks"]),
            boot_id=str(record["boot_id"]),
        )
    return None


def _recorded_alive(folder: Path) -> list[processes.Process]:
    """Shim and program, by the shim's record."""
    recorded = (_recorded(folder, name) for name in ("shim", "program"))
    return [(process.pid, process.start_ticks) for process in recorded if process is not None and is_alive(process)]


def _shim_runs(folder: Path) -> bool:
    """Also between its start and its first word, when only its command line tells."""
    if shim := identity(folder):
        return is_alive(shim)
    children.reap()
    return bool(_shims(folder))


def _shims(folder: Path) -> list[int]:
    """Who is its shim by the command line. The marker is hidden in an environment that a shim keeps to itself."""
    path = os.fsencode(folder.resolve())
    return [pid for pid in processes.pids() if _is_shim(pid, path)]


def _is_shim(pid: int, path: bytes) -> bool:
    words = processes.command_line(pid)
    return path in words and os.fsencode(SHIM) in words


def _last_words(folder: Path) -> str:
    """The last line of the shim's own complaint, where it made one."""
    with suppress(OSError):
        text = (folder / "shim.log").read_text(encoding="utf-8", errors="replace")
        return text.rstrip().rpartition("\n")[2][:500]
    return ""


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _any_of(folder: Path, *names: str) -> bool:
    return any((folder / name).exists() for name in names)
