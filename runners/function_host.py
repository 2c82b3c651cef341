"""What runs inside a function session's process: import the function, call it, say how it went.

    python -I -u runners/function_host.py CALL_FILE

CALL_FILE is what `runners.function` wrote. The last line printed is the result, a JSON object with
`type`, `is_error`, `reason`, `text` and `summary`.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # -I keeps the checkout, in which this works, out of the imports. Our own package comes first.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runners.base import RunnerError
from runners.functions import FunctionContext, FunctionResult

RESULT_CHARACTERS = 200_000


class CallError(Exception):
    """The function gave no result. `reason` is the reason code to record."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


def main(call_file: Path) -> int:
    call = json.loads(call_file.read_bytes())
    sys.path += [entry for entry in call["sys_path"] if entry not in sys.path]
    try:
        result = call_function(call)
    except CallError as error:
        if error.__cause__:
            traceback.print_exception(error.__cause__)
        _print_result(is_error=True, reason=error.reason, text=str(error), summary="")
        return 1
    text = result.text
    if len(text) > RESULT_CHARACTERS:
        text = f"{text[:RESULT_CHARACTERS]}\n\n… the rest is cut."
    _print_result(is_error=False, reason="ok", text=text, summary=result.summary)
    return 0


def call_function(call: Mapping[str, Any]) -> FunctionResult:
    """Call the function. Raises CallError."""
    name = call["function"]
    function = _found(call["function_path"], name)
    context = FunctionContext(
        workspace=Path(call["workspace"]),
        scheduled_for=_instant(call["scheduled_for"]),
        repository=call["repository"],
    )
    try:
        inspect.signature(function).bind(context, **call["arguments"])
    except TypeError as error:
        known = list(inspect.signature(function).parameters)[1:]
        takes = f"It takes: {', '.join(known)}." if known else "It takes none."
        raise CallError("invalid_options", f"{name}: wrong arguments, {error}. {takes}") from None
    try:
        result = function(context, **call["arguments"])
    except RunnerError as error:
        raise CallError(error.reason, f"{name}: {error}") from None
    except Exception as error:  # whatever it raises is its failure, and told
        raise CallError("exception", f"{name}: {type(error).__name__}: {error}") from error
    if isinstance(result, str):
        return FunctionResult(text=result)
    if isinstance(result, FunctionResult):
        return result
    kind = type(result).__name__
    raise CallError("exception", f"{name} returned {kind}; it must return text or FunctionResult.")


def _found(dotted_path: str, name: str) -> Any:
    module, _, attribute = dotted_path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module may raise anything while it is imported
        message = f"{name}: {dotted_path} can't be imported: {type(error).__name__}: {error}"
        raise CallError("invalid_options", message) from error


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text) if text else datetime.now(UTC)


def _print_result(**fields: object) -> None:
    print(json.dumps({"type": "result", **fields}), flush=True)


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may be no UTF-8
    sys.exit(main(Path(sys.argv[1])))
