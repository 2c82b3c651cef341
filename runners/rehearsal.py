"""Runs an agent program with a scripted model in place of a real one, for as long as the program runs.

    python -I -S rehearsal.py SCRIPT.json -- claude -p ...

So a rehearsal's model is part of the session's own process tree and needs no care when a worker is restarted. The
program gets the model's address, in its environment and wherever `{{ model_url }}` stands in an argument, and a made-up
key, and nothing that leads to another model. Standard streams and signals are handed on, and it ends as the program
ends. Started by its path, with the standard library only, and it imports little: while the program starts, which takes
it longer, the model is loaded.
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
MODEL_URL = "{{ model_url }}"  # in an argument, for a program that is told there and not in its environment

# Variables that lead a program to another server than the one on loopback, or hold the key to one.
_LEADS_ELSEWHERE = (
    *("ANTHROPIC_", "AWS_", "AZURE_", "GOOGLE_", "OPENAI_", "VERTEX_"),
    *("CLAUDE_CODE_USE_", "CLAUDE_CODE_SKIP_", "CLAUDE_CODE_OAUTH_", "CLAUDE_CODE_API_"),
    *("CODEX_API_", "CODEX_ACCESS_"),
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
    keys = {"ANTHROPIC_API_KEY": API_KEY, "OPENAI_API_KEY": API_KEY}
    here = {"ANTHROPIC_BASE_URL": address, **keys, "NO_PROXY": "127.0.0.1"}
    program = Program()
    try:
        program.start([word.replace(MODEL_URL, address) for word in command], without_models(os.environ) | here)
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
    import json
    from pathlib import Path
    from types import ModuleType

    data = json.loads(Path(script).read_bytes())
    if "runners" not in sys.modules:  # the package without its door, which would import all of it
        package = sys.modules["runners"] = ModuleType("runners")
        package.__path__ = [str(Path(__file__).parent)]
    from runners.scripted_model import ScriptedModel

    return ScriptedModel(data, workspace=str(Path.cwd()), keep_requests=False, listening=listening)


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
