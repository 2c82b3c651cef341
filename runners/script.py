"""The script runner: a program of the repository or of the machine, with its arguments.

What it writes to the file that ROTA_RESULT_FILE names is the session's result, in Markdown; when it
writes nothing there, the end of what it printed. Exit code 0 is success.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from runners import following, one_shot, plain_lines, verdict
from runners.base import (
    Conversation,
    Ending,
    Event,
    Launch,
    Line,
    Option,
    OptionsInvalid,
    Program,
    ProgramMissing,
    SessionResult,
    SessionSpec,
    Tally,
)
from runners.environment import session_environment
from runners.options import not_taken

RESULT_FILE = "result.md"  # in HOME: all of the session's folder that a sandbox shows
RESULT_BYTES = 200_000
TAIL_BYTES = 20_000  # of the output, where it is the result


class ScriptRunner:
    """Options: `argv`, a list of texts; `working_directory`, below the workspace."""

    name: ClassVar[str] = "script"
    options: ClassVar[Mapping[str, Option]] = dict.fromkeys(("argv", "working_directory"), Option())
    is_agent: ClassVar[bool] = False
    provider: ClassVar[str] = ""
    credentials: ClassVar[tuple[str, ...]] = ()

    def problems(self, options: Mapping[str, Any]) -> dict[str, str]:
        found = not_taken(options, self.options, runner=self.name)
        argv = options.get("argv")
        if not isinstance(argv, list) or not all(isinstance(word, str) for word in argv):
            found["argv"] = 'Give a list of texts, such as ["make", "report"].'
        elif not argv or not argv[0].strip():
            found["argv"] = "Give at least the program to run."
        elif any("\0" in word for word in argv):
            found["argv"] = "An argument has a NUL character, which no program can be given."
        directory = PurePosixPath(options.get("working_directory") or ".")
        if directory.is_absolute() or ".." in directory.parts:
            found["working_directory"] = "Give a directory inside the repository, such as docs."
        return found

    def program(self, path: str = "") -> Program | None:
        return None

    def launch(self, spec: SessionSpec) -> Launch:
        if problems := self.problems(spec.options) | one_shot.conversation_problems(spec):
            raise OptionsInvalid(problems)
        ours = {
            "ROTA_WORKSPACE": str(spec.workspace),
            "ROTA_RESULT_FILE": str(spec.home / RESULT_FILE),
        }
        environment = session_environment(home=spec.home, extra={**spec.environment, **ours}, path=spec.path)
        name = spec.options.get("working_directory") or "."
        directory = (spec.workspace / name).resolve()
        if not directory.is_relative_to(spec.workspace.resolve()) or not directory.is_dir():
            raise OptionsInvalid({"working_directory": f"{name} is no directory of the checkout."})
        argv = list(spec.options["argv"])
        _check_program(argv[0], directory=directory, path=environment["PATH"])
        return Launch(argv=argv, environment=environment, working_directory=name)

    def read(self, line: Line) -> list[Event]:
        return [plain_lines.read(line)]

    def judge(self, ending: Ending, tally: Tally, spec: SessionSpec) -> SessionResult:
        outcome, reason, message = _find(ending, tally)
        result, summary = _result(spec)
        return SessionResult(outcome=outcome, reason=reason, message=message, result=result, summary=summary)

    def conversation(self, spec: SessionSpec) -> Conversation | None:
        return None


def _check_program(program: str, *, directory: Path, path: str) -> None:
    """Raise ProgramMissing, with a sentence that helps, before anything is started."""
    if "/" not in program:
        if shutil.which(program, path=path) is None:
            raise ProgramMissing(f"{program} is not on the PATH of sessions: {path}")
        return
    file = directory / program
    if not file.is_file():
        where = "on this machine" if file == Path(program) else "in the checkout"
        raise ProgramMissing(f"There is no {program} {where}.")
    if not os.access(file, os.X_OK):
        raise ProgramMissing(f"{program} is not executable. Set its mode with chmod +x.")


def _find(ending: Ending, tally: Tally) -> verdict.Finding:
    if finding := verdict.of_process(ending, tally):
        return finding
    if ending.exit_code != 0:
        last_error = tally.errors[-1] if tally.errors else ""
        message = f"It ended with exit code {ending.exit_code}. {last_error}".strip()
        return "failed", "exit_code", message
    return "succeeded", "ok", one_shot.remarks(ending)


def _result(spec: SessionSpec) -> tuple[str, str]:
    """The result and its summary: the file that was written, or the end of what was printed.

    Without secrets from the start: of one that a summary cuts, the rest would not be known.
    """
    if written := spec.redactor.text(_read_result(spec.home / RESULT_FILE)).strip():
        return written, verdict.summary(written)
    lines = following.last_output(spec.folder, max_bytes=TAIL_BYTES).split(b"\n")
    text = "\n".join(plain_lines.printable(line, length=TAIL_BYTES) for line in lines)
    printed = spec.redactor.text(text).strip()
    return printed, verdict.summary(printed.rpartition("\n")[2])


def _read_result(path: Path) -> str:
    """What the script wrote. It may have put anything there: only a regular file is opened."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return ""
        with path.open("rb") as file:
            data = file.read(RESULT_BYTES + 1)
    except OSError:
        return ""
    text = data[:RESULT_BYTES].decode("utf-8", "replace")
    return text if len(data) <= RESULT_BYTES else f"{text}\n\n… the rest is cut."
