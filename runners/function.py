"""The function runner: a Python function out of an allow-list, in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from runners import one_shot, plain_lines, verdict
from runners.base import (
    Conversation,
    Ending,
    Event,
    Launch,
    Line,
    Option,
    OptionsInvalid,
    Program,
    SessionResult,
    SessionSpec,
    Tally,
)
from runners.environment import session_environment
from runners.options import not_taken

CALL_FILE = "function.json"  # below HOME

_HOST = str(Path(__file__).with_name("function_host.py"))
_RESULT_PREFIX = '{"type": "result", '


class FunctionRunner:
    """Options: `function`, its name; `function_path`, what the allow-list says of it; `arguments`.

    `function_path` comes from the caller and never from whoever edits the schedule.
    """

    name: ClassVar[str] = "function"
    options: ClassVar[Mapping[str, Option]] = dict.fromkeys(("function", "function_path", "arguments"), Option())
    is_agent: ClassVar[bool] = False
    provider: ClassVar[str] = ""
    credentials: ClassVar[tuple[str, ...]] = ()

    def problems(self, options: Mapping[str, Any]) -> dict[str, str]:
        found = not_taken(options, self.options, runner=self.name)
        if not options.get("function"):
            found["function"] = "Choose a function."
        elif "." not in (options.get("function_path") or "").strip("."):
            name = options["function"]
            found["function"] = f"“{name}” is not among the allowed functions, ROTA_FUNCTIONS."
        arguments = options.get("arguments") or {}
        if not isinstance(arguments, dict):
            found["arguments"] = 'Give a JSON object, such as {"limit": 50}.'
        elif unfit := [name for name in arguments if not str(name).isidentifier()]:
            found["arguments"] = f"“{unfit[0]}” can't be the name of an argument."
        return found

    def program(self, path: str = "") -> Program | None:
        return None

    def launch(self, spec: SessionSpec) -> Launch:
        if problems := self.problems(spec.options) | one_shot.conversation_problems(spec):
            raise OptionsInvalid(problems)
        call = {
            "function": spec.options["function"],
            "function_path": spec.options["function_path"],
            "arguments": spec.options.get("arguments") or {},
            "workspace": str(spec.workspace),
            "scheduled_for": spec.environment.get("ROTA_SCHEDULED_FOR", ""),
            "repository": spec.environment.get("ROTA_REPOSITORY", ""),
            "sys_path": [entry for entry in sys.path if entry],
        }
        return Launch(
            argv=[sys.executable, "-I", "-u", _HOST, str(spec.home / CALL_FILE)],
            environment=session_environment(home=spec.home, extra=spec.environment, path=spec.path),
            files={CALL_FILE: json.dumps(call).encode()},
            result_prefix=_RESULT_PREFIX,
            reads=_code(spec.options["function_path"]),
        )

    def read(self, line: Line) -> list[Event]:
        return [_result(line) or plain_lines.read(line)]

    def judge(self, ending: Ending, tally: Tally, spec: SessionSpec) -> SessionResult:
        """A result that came is judged by itself, however its process ended after it, unless the disk was full."""
        result = tally.result
        if result is None or ending.ended_by == "disk_full":
            outcome, reason, message = _without_result(ending, tally)
            return SessionResult(outcome=outcome, reason=reason, message=message)
        if result.data.get("is_error"):
            reason = str(result.data.get("reason"))
            return SessionResult(outcome="failed", reason=reason, message=result.text)
        summary = str(result.data.get("summary", "")) or verdict.summary(result.text)
        if not ending.ended_by and ending.exit_code != 0:
            outcome, reason, message = "failed", "crashed", "It gave its result and then crashed."
        else:
            outcome, reason, message = "succeeded", "ok", one_shot.remarks(ending)
        return SessionResult(
            outcome=outcome,
            reason=reason,
            message=message,
            result=result.text,
            summary=summary[: verdict.SUMMARY_LENGTH],
        )

    def conversation(self, spec: SessionSpec) -> Conversation | None:
        return None


def _code(function_path: str) -> Sequence[str]:
    """Where the function's module or package lies, without importing it. What is not to be found fails in its process.

    Of a package all of it; of what else it imports, only what is installed where Rota's Python is.
    """
    try:
        found = importlib.util.find_spec(function_path.partition(".")[0])
    except (ImportError, ValueError):
        return ()
    if found is None:
        return ()
    return tuple(found.submodule_search_locations or ([found.origin] if found.has_location and found.origin else []))


def _result(line: Line) -> Event | None:
    if line.stream != "out" or not line.data.startswith(_RESULT_PREFIX.encode()):
        return None
    try:
        content = json.loads(line.data)
        text = str(content.pop("text"))
    except (ValueError, KeyError, RecursionError):
        return None
    return Event(kind="result", at_ms=line.at_ms, text=text, data=content)


def _without_result(ending: Ending, tally: Tally) -> verdict.Finding:
    if finding := verdict.of_process(ending, tally):
        return finding
    last_error = tally.errors[-1] if tally.errors else ""
    message = f"It ended with exit code {ending.exit_code} and gave no result. {last_error}".strip()
    return "failed", "no_result", message
