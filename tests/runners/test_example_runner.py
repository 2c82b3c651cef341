"""The runner that docs/runners.md shows is run as it stands there."""

from pathlib import Path
from typing import Any

import pytest

from runners.base import OptionsInvalid, ProgramMissing
from tests.runners import tinker
from tests.runners.held import make_spec, see_through


@pytest.fixture(scope="module")
def runner() -> Any:
    return tinker.documented_runner()


def program(folder: Path, *lines: object, code: int = 0) -> str:
    """Prints these lines, and then its prompt on standard error."""
    return tinker.program(folder, "\n".join([*map(tinker.tells, lines), 'echo "$prompt" >&2', f"exit {code}"]))


def test_a_session_of_the_example(tmp_path: Path, runner: Any) -> None:
    given = program(tmp_path, {"say": "I look."}, {"done": "All is well. Indeed.", "tokens": 12})
    spec = make_spec(tmp_path, options={"model": "tinker-2"}, program=given, prompt="Do it.\n")
    result, lines = see_through(runner, spec)

    assert (result.outcome, result.reason, result.summary) == ("succeeded", "ok", "All is well.")
    assert result.output_tokens == 12
    assert [line.data for line in lines if line.stream == "err"] == [b"Do it."]


def test_a_session_of_the_example_that_ends_early(tmp_path: Path, runner: Any) -> None:
    given = program(tmp_path, {"say": "I look."}, code=3)
    result, _ = see_through(runner, make_spec(tmp_path, options={"model": "tinker-2"}, program=given))

    assert (result.outcome, result.reason, result.result) == ("failed", "no_result", "I look.")


def test_what_the_example_refuses(tmp_path: Path, runner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for spec in (make_spec(tmp_path, options={}), make_spec(tmp_path, options={"model": "t"}, rehearse=True)):
        with pytest.raises(OptionsInvalid):
            runner.launch(spec)
    with pytest.raises(ProgramMissing, match="There is no Tinker"):
        runner.launch(make_spec(tmp_path, options={"model": "t"}))
