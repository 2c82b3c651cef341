"""The runner that docs/runners.md shows is run as it stands there."""

import json
import re
import types
from pathlib import Path
from typing import Any

import pytest

from runners.base import OptionsInvalid, ProgramMissing
from tests.runners.held import make_spec, see_through

DOCUMENT = Path(__file__).parents[2] / "docs" / "runners.md"


@pytest.fixture(scope="module")
def runner() -> Any:
    code = next(
        code for code in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if "class " in code
    )
    module = types.ModuleType("tinker")
    exec(compile(code, str(DOCUMENT), "exec"), module.__dict__)
    return module.__dict__["TinkerRunner"]()


def tinker(folder: Path, *lines: object, code: int = 0) -> str:
    """A program that reads its prompt and prints these lines."""
    file = folder / "tinker"
    printed = "".join(f"echo '{json.dumps(line)}'\n" for line in lines)
    file.write_text(f'#!/bin/sh\nread prompt\n{printed}echo "$prompt" >&2\nexit {code}\n')
    file.chmod(0o755)
    return str(file)


def test_a_session_of_the_example(tmp_path: Path, runner: Any) -> None:
    program = tinker(tmp_path, {"say": "I look."}, {"done": "All is well. Indeed.", "tokens": 12})
    spec = make_spec(tmp_path, options={"model": "tinker-2"}, program=program, prompt="Do it.\n")
    result, lines = see_through(runner, spec)

    assert (result.outcome, result.reason, result.summary) == ("succeeded", "ok", "All is well.")
    assert result.output_tokens == 12
    assert [line.data for line in lines if line.stream == "err"] == [b"Do it."]


def test_a_session_of_the_example_that_ends_early(tmp_path: Path, runner: Any) -> None:
    program = tinker(tmp_path, {"say": "I look."}, code=3)
    result, _ = see_through(runner, make_spec(tmp_path, options={"model": "tinker-2"}, program=program))

    assert (result.outcome, result.reason, result.result) == ("failed", "no_result", "I look.")


def test_what_the_example_refuses(tmp_path: Path, runner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for spec in (make_spec(tmp_path, options={}), make_spec(tmp_path, options={"model": "t"}, rehearse=True)):
        with pytest.raises(OptionsInvalid):
            runner.launch(spec)
    with pytest.raises(ProgramMissing, match="There is no Tinker"):
        runner.launch(make_spec(tmp_path, options={"model": "t"}))
