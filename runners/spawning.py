"""How the shim starts its program: in a process session of its own, and not to outlive the shim.

Imports little on purpose: each session pays for a shim's memory.
"""

from __future__ import annotations

import errno
import os

from runners.light import signal
from runners.privacy import PR_SET_DUMPABLE, prctl

TYPE_CHECKING = False  # as `typing` has it, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

# What a shim or a Python ignores or catches: a program must find these as it would in a shell.
RESET = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGTERM,
    signal.SIGCHLD,
    signal.SIGUSR1,
)


class StartError(Exception):
    """The program was not started; the text says why."""


def become_subreaper() -> None:
    """From now on every process below us that loses its parent becomes our child.

    Where the kernel can't be asked for that, the marker alone has to find them.
    """
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def spawn(
    argv: list[str],
    environment: dict[str, str],
    *,
    cwd: str,
    stdin: str,
    out: int,
    err: int,
    enter: Callable[[], None] = lambda: None,
) -> int:
    """Start the program and return its pid. Raises StartError.

    `environment` is all it gets; its PATH finds the program. `stdin` is a path, `out` and `err` are
    descriptors. `enter` is called in the process that becomes the program.
    """
    complaint, complain = os.pipe2(os.O_CLOEXEC)
    shim = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _part_from(shim)
            enter()
            os.dup2(os.open(stdin, os.O_RDONLY | os.O_CLOEXEC), 0)
            os.dup2(out, 1)
            os.dup2(err, 2)
            os.chdir(cwd)
            _execute(argv, environment)
        except BaseException as error:  # noqa: BLE001 - or there would be two shims
            os.write(complain, _why(error, argv[0], cwd).encode("utf-8", "replace"))
        finally:
            os._exit(127)
    os.close(complain)
    why = b""
    while part := os.read(complaint, 4096):
        why += part
    os.close(complaint)
    if why:
        os.waitpid(pid, 0)
        raise StartError(why.decode())
    return pid


def _part_from(shim: int) -> None:
    """In a process session of its own, with signals as in a shell, and ended with its shim."""
    signal.set_wakeup_fd(-1)
    os.setsid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # without its shim nobody holds its limits
    prctl(PR_SET_DUMPABLE, 1)  # as the program will be: what is in /proc/self can be written again
    if os.getppid() != shim:
        os._exit(127)
    for number in RESET:
        signal.signal(number, signal.SIG_DFL)


def _execute(argv: list[str], environment: dict[str, str]) -> None:
    """As `os.execvpe` does it, which imports `warnings` first. Raises OSError."""
    program = argv[0]
    if "/" in program:
        os.execve(program, argv, environment)
    found: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for folder in environment.get("PATH", os.defpath).split(os.pathsep):
        try:
            os.execve(os.path.join(folder, program), argv, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:  # it is there, and unfit: there may be another one
            found = found if not isinstance(found, FileNotFoundError) else error
    raise found


def _why(error: BaseException, program: str, cwd: str) -> str:
    if not isinstance(error, OSError):
        return f"{program}: {error}."
    if error.filename == cwd:
        return f"The working directory {cwd} could not be entered: {error.strerror}."
    reason = error.strerror
    if error.errno == errno.ENOENT and "/" not in program:
        reason = "it is not on the PATH"
    elif error.errno == errno.ENOENT and os.path.exists(program):
        reason = "its first line names an interpreter that is not here"
    elif error.errno == errno.ENOEXEC:
        reason = "it is neither a program nor has it a first line that begins with #!"
    elif error.errno == errno.EACCES and os.path.isfile(program):
        reason = "it is not executable"
    return f"{program}: {reason}."
