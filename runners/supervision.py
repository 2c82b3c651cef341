"""Start a session's shim, follow it, find it again, stop it. All state is in the folder and /proc.

So a worker that is restarted, or another thread, goes on where the last one was: it needs the
folder and an offset.

    start(folder, launch, cwd=workspace, limits=limits)
    while True:
        ended = ending_or_died(folder)
        lines, offset = read_lines(folder, offset)
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
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from runners import confinement, processes, recording
from runners.base import DiskFull, Ending, Launch, Limits, Line, ProcessIdentity, SupervisionError

START_SECONDS = 20.0  # a shim takes 0.03 s; a machine out of breath may take its time
KILL_SECONDS = 10.0
READ_BYTES = 1024 * 1024
LINE_BYTES = 16 * 1024 * 1024  # handed over of one line; the log keeps more

_SHIM = str(Path(__file__).with_name("shim.py"))
_STREAMS: dict[bytes, Literal["out", "err", "shim"]] = {
    recording.OUT: "out",
    recording.ERR: "err",
    recording.SHIM: "shim",
}


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
        pid = _spawn(folder)
    except OSError as error:
        (folder / "launch.json").unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("The session could not be started: the disk is full.") from error
        raise SupervisionError(f"The session could not be started: {error}") from error
    ticks = processes.start_ticks(pid) or 0  # not another's: we are its parent and reap it later
    _children.add(pid)
    deadline = time.monotonic() + START_SECONDS
    while not _any_of(folder, "process.json", "ending.json"):
        if pid not in _children.reap() or time.monotonic() > deadline:
            break
        time.sleep(0.005)
    if not _any_of(folder, "process.json", "ending.json"):
        kill(folder)
        raise SupervisionError(f"The shim gave no sign of life. {_last_words(folder)}".strip())
    return ProcessIdentity(pid=pid, start_ticks=ticks, boot_id=processes.boot_id())


def read_lines(
    folder: Path, offset: int, *, max_bytes: int = READ_BYTES, line_bytes: int = LINE_BYTES
) -> tuple[list[Line], int]:
    """The lines recorded from `offset` on, and the offset to go on from; none when nothing is new.

    Reads `max_bytes` at a time and only whole records, so no line comes twice or in parts. Of a
    line beyond `line_bytes` the beginning is handed over, with a remark at its end.
    """
    try:
        log = (folder / "output.log").open("rb")
    except FileNotFoundError:
        return [], offset
    with log:
        log.seek(offset)
        data = log.read(max_bytes)
        end = data.rfind(b"\n") + 1
        if end:
            return list(_lines(data[:end])), offset + end
        if len(data) < max_bytes:
            return [], offset
        size, beginning = len(data), bytearray(data[:line_bytes])
        while part := log.read(max_bytes):
            here, newline, _ = part.partition(b"\n")
            size += len(here)
            beginning += here[: max(0, line_bytes - len(beginning))]
            if newline:
                break
        else:
            return [], offset
    if size > line_bytes:
        beginning += b" [%d more bytes of this line]" % (size - line_bytes)
    return list(_lines(bytes(beginning) + b"\n")), offset + size + 1


def last_output(folder: Path, *, max_bytes: int) -> bytes:
    """The last whole lines on standard output, up to `max_bytes`, among the last of the log."""
    offset = max(0, _size(folder / "output.log") - READ_BYTES)
    if offset:
        with (folder / "output.log").open("rb") as log:
            log.seek(offset)
            offset += len(log.readline(READ_BYTES))
    lines, _ = read_lines(folder, offset)
    printed = b"\n".join(line.data for line in lines if line.stream == "out")
    if len(printed) > max_bytes:
        printed = printed[-max_bytes:].partition(b"\n")[2] or printed[-max_bytes:]
    return printed


def ending(folder: Path) -> Ending | None:
    """How the session ended; None while it goes on. SupervisionError when the file is damaged."""
    _children.reap()
    try:
        content = json.loads((folder / "ending.json").read_bytes())
        return Ending(**{field.name: content[field.name] for field in fields(Ending)})
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise SupervisionError(f"{folder / 'ending.json'} is damaged: {error!r}") from error


def ending_or_died(folder: Path) -> Ending | None:
    """How the session ended; `shim_died` when nobody is there any more who could say."""
    if (found := ending(folder)) or _shim_runs(folder):
        return found
    if found := ending(folder):  # written while we looked
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
    _children.reap()
    if process.boot_id != processes.boot_id():
        return False
    return processes.start_ticks(process.pid) == process.start_ticks


def current(folder: Path) -> list[ProcessIdentity]:
    """Every live process of the session: shim, program, what descends from them, who is marked."""
    boot = processes.boot_id()
    recorded = (_recorded(folder, name) for name in ("shim", "program"))
    roots = [process.pid for process in recorded if process is not None and is_alive(process)] + _shims(folder)
    found = processes.tree(roots, marker=str(folder.resolve()))
    return [ProcessIdentity(pid=pid, start_ticks=ticks, boot_id=boot) for pid, ticks in found]


def request_stop(folder: Path, reason: Literal["cancelled", "shutdown", "budget"]) -> None:
    """Ask the shim to end the session. Returns at once; the ending follows within the grace.

    The first reason stays. Asked before the start, the program is not started at all.
    """
    if not (folder / "stop").exists():
        _write(folder / "stop", reason)
    shim = identity(folder)
    if shim is not None and is_alive(shim):
        processes.send((shim.pid, shim.start_ticks), signal.SIGUSR1)


def kill(folder: Path) -> int:
    """KILL whatever is left of a session, its shim too, until nobody is; how many there were.

    For a session whose shim died, or that must not be waited for. When the shim is gone, a process
    can hide that has lost its parent *and* cleared its environment or made it private, as key agents
    do, or that is another user's.
    """
    if _is_over(folder):
        return 0
    killed = set()
    deadline = time.monotonic() + KILL_SECONDS
    while (left := current(folder)) and time.monotonic() < deadline:
        for process in left:
            if processes.send((process.pid, process.start_ticks), signal.SIGKILL):
                killed.add(process)
        time.sleep(0.01)
    confinement.clear_cgroup(str(_record(folder).get("cgroup", "")), str(folder.resolve()))
    (folder / "launch.json").unlink(missing_ok=True)  # it holds secrets; no shim will read it now
    _children.reap()
    return len(killed)


def _is_over(folder: Path) -> bool:
    """True when the shim has said that nobody is left: then nobody need be looked for."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return bool(json.loads((folder / "ending.json").read_bytes())["left"] == 0)
    return False


class _Children:
    """The shims that this process started: ours to reap, or they would stay as zombies."""

    def __init__(self) -> None:
        self._pids: set[int] = set()
        self._lock = threading.Lock()

    def add(self, pid: int) -> None:
        with self._lock:
            self._pids.add(pid)

    def reap(self) -> set[int]:
        """Reap those that ended; the pids of the others."""
        with self._lock:
            self._pids = {pid for pid in self._pids if not _reaped(pid)}
            return set(self._pids)


_children = _Children()


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _spawn(folder: Path) -> int:
    """Start the shim with nothing of ours: environment, descriptors, blocked or ignored signals."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", _SHIM, str(folder)],
        {processes.MARKER: str(folder)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, str(folder / "shim.log"), flags, 0o600),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGTERM),
    )


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
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    part.rename(path)


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


def _shim_runs(folder: Path) -> bool:
    """Also between its start and its first word, when only its command line tells."""
    if shim := identity(folder):
        return is_alive(shim)
    _children.reap()
    return bool(_shims(folder))


def _shims(folder: Path) -> list[int]:
    """Who is its shim by the command line. The marker is hidden in an environment that a shim keeps to itself."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _is_shim(int(entry.name), folder)]


def _is_shim(pid: int, folder: Path) -> bool:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return os.fsencode(_SHIM) in words and os.fsencode(folder.resolve()) in words
    return False


def _lines(records: bytes) -> Iterator[Line]:
    for record in records[:-1].split(b"\n"):
        at_ms, code, data = recording.parse(record) or (0, recording.OUT, record)
        yield Line(at_ms=at_ms, stream=_STREAMS[code], data=data)


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
