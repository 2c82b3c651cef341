"""Runs an agent program with a scripted model in place of a real one, for as long as the program runs.

    python -I -S rehearsal.py SCRIPT.json -- claude -p ...

So a rehearsal's model is part of the session's own process tree and needs no care when a worker is restarted. The
program gets the model's address and a made-up key, and nothing that leads to another model. Standard streams and
signals are handed on, and it ends as the program ends. Started by its path, with the standard library only, and it
imports little: while the program starts, which takes it longer, the model is loaded.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys

TYPE_CHECKING = False  # as `typing` has it, without importing it
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from types import FrameType

API_KEY = "rehearsal-made-up-key"

# Variables that lead a program to another server than the one on loopback, or hold the key to one.
_LEADS_ELSEWHERE = (
    *("ANTHROPIC_", "AWS_", "GOOGLE_", "VERTEX_"),
    *("CLAUDE_CODE_USE_", "CLAUDE_CODE_SKIP_", "CLAUDE_CODE_OAUTH_", "CLAUDE_CODE_API_"),
)


def without_models(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what leads a program to a real model, or has the key to one."""
    return {
        name: value
        for name, value in environment.items()
        if not name.upper().startswith(_LEADS_ELSEWHERE) and not name.upper().endswith("_PROXY")
    }


def main(arguments: Sequence[str]) -> int:
    """Run a program against the script's model. Returns its exit code, or what a shell makes of a signal."""
    if len(arguments) < 3 or arguments[1] != "--":
        print("Usage: rehearsal.py SCRIPT.json -- program [argument ...]", file=sys.stderr)
        return 2
    script, _, *command = arguments
    listening = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    here = {"ANTHROPIC_BASE_URL": address, "ANTHROPIC_API_KEY": API_KEY, "NO_PROXY": "127.0.0.1"}
    program = Program()
    try:
        program.start(command, without_models(os.environ) | here)
    except OSError as error:
        print(f"{command[0]} could not be started: {error.strerror}", file=sys.stderr)
        return 127
    try:
        model = _model(script, listening)
    except (OSError, ValueError) as error:
        print(f"The rehearsal script {script} can't be played: {error}", file=sys.stderr)
        program.hand_on(signal.SIGKILL)
        program.wait()
        return 2
    with model:
        return program.wait()


def _model(script: str, listening: socket.socket) -> AbstractContextManager[object]:
    """The scripted model, to answer on a socket. Raises OSError, ValueError."""
    import importlib.util
    import json
    from pathlib import Path

    data = json.loads(Path(script).read_bytes())
    # It stands beside this file, which is not on the path.
    spec = importlib.util.spec_from_file_location("scripted_model", Path(__file__).with_name("scripted_model.py"))
    if spec is None or spec.loader is None:
        raise FileNotFoundError("scripted_model.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model: AbstractContextManager[object] = module.ScriptedModel(
        data, workspace=str(Path.cwd()), keep_requests=False, listening=listening
    )
    return model


class Program:
    """The program, and the signals on their way to it."""

    def __init__(self) -> None:
        self._pid = 0
        self._early: list[int] = []

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        for asking in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(asking, self._asked)
        self._pid = os.posix_spawnp(command[0], list(command), environment)
        for number in self._early:
            self.hand_on(number)

    def hand_on(self, number: int) -> None:
        if self._pid:
            os.kill(self._pid, number)
        else:
            self._early.append(number)

    def wait(self) -> int:
        """The exit code; below 0 the signal that ended it."""
        os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        pid, self._pid = self._pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _asked(self, number: int, _: FrameType | None) -> None:
        self.hand_on(number)


def die_of(number: int) -> None:
    """End by a signal, so that who started us sees how the program ended. Leaves no core dump."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    if code < 0:
        die_of(-code)
    sys.exit(code)
