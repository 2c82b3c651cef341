"""The function runner: real functions in a process of their own, from their options to their verdict."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from runners.base import Ending, Event, Line, OptionsInvalid, SessionSpec, Tally
from runners.function import FunctionRunner
from tests.runners.held import make_spec, see_through

RUNNER = FunctionRunner()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the operator's, which the worker can import."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder / "operators_own.py"


def spec(tmp_path: Path, path: str, **changes: Any) -> SessionSpec:
    options = {"function": "it", "function_path": path, "arguments": changes.pop("arguments", {})}
    return make_spec(tmp_path, options=options, **changes)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "field", "what"),
        [
            ({}, "function", "Choose a function"),
            ({"function": "x"}, "function", "not among the allowed functions"),
            ({"function": "x", "function_path": "sys"}, "function", "not among the allowed functions"),
            ({"function": "x", "function_path": "a.b", "arguments": [1]}, "arguments", "a JSON object"),
            ({"function": "x", "function_path": "a.b", "arguments": {"a b": 1}}, "arguments", "“a b”"),
        ],
    )
    def test_that_can_not_be_run_are_refused_at_their_field(
        self, options: dict[str, Any], field: str, what: str
    ) -> None:
        problems = RUNNER.problems(options)
        assert set(problems) == {field}
        assert what in problems[field]

    def test_that_are_fine(self) -> None:
        assert RUNNER.problems({"function": "x", "function_path": "a.b", "arguments": {}}) == {}

    def test_are_looked_at_before_the_launch(self, tmp_path: Path) -> None:
        with pytest.raises(OptionsInvalid):
            RUNNER.launch(spec(tmp_path, ""))


class TestSuccess:
    def test_has_the_text_that_was_returned_and_shows_what_was_printed(self, tmp_path: Path, module: Path) -> None:
        module.write_text(
            textwrap.dedent("""
            import sys
            def report(context, *, greeting):
                context.log("half way")
                print("caf\\udce9 printed")
                print("told", file=sys.stderr)
                return f"{greeting}, {context.repository} of {context.scheduled_for:%d.%m.%Y} in {context.workspace}."
            """)
        )
        environment = {"ROTA_REPOSITORY": "acme", "ROTA_SCHEDULED_FOR": "2026-11-20T06:15:00+00:00"}
        asked = spec(tmp_path, "operators_own.report", arguments={"greeting": "Grüß Gott"}, environment=environment)
        result, lines = see_through(RUNNER, asked)
        assert (result.outcome, result.reason, result.message) == ("succeeded", "ok", "")
        assert result.result == f"Grüß Gott, acme of 20.11.2026 in {asked.workspace}."
        assert result.summary == result.result
        events = [event for line in lines for event in RUNNER.read(line)]
        assert {(event.kind, event.text) for event in events if event.kind != "result"} == {
            ("output", "half way"),
            ("output", "caf\\udce9 printed"),
            ("stderr", "told"),
        }

    def test_may_have_a_summary_of_its_own(self, tmp_path: Path, module: Path) -> None:
        module.write_text(
            "from runners.functions import FunctionResult\n"
            "def report(context): return FunctionResult(text='# A\\n\\nLong.', summary='In short.')\n"
        )
        result, _ = see_through(RUNNER, spec(tmp_path, "operators_own.report"))
        assert (result.result, result.summary) == ("# A\n\nLong.", "In short.")

    def test_has_a_text_of_bounded_length(self, tmp_path: Path, module: Path) -> None:
        module.write_text("def report(context): return 'x' * 1_000_000\n")
        result, _ = see_through(RUNNER, spec(tmp_path, "operators_own.report"))
        assert len(result.result) == len("x" * 200_000 + "\n\n… the rest is cut.")

    def test_stays_one_when_the_process_does_not_end(self, tmp_path: Path, module: Path) -> None:
        module.write_text(
            "import threading, time\n"
            "def report(context):\n"
            "    threading.Thread(target=time.sleep, args=(60,)).start()\n"
            "    return 'done'\n"
        )
        result, _ = see_through(RUNNER, spec(tmp_path, "operators_own.report"), result_grace=0.2)
        assert (result.outcome, result.result) == ("succeeded", "done")

    def test_works_without_django_and_away_from_what_lies_in_the_checkout(self, tmp_path: Path, module: Path) -> None:
        module.write_text(
            "import json, sys\n"
            "from pathlib import Path\n"
            "def report(context):\n"
            "    return f\"{'django' in sys.modules} {Path(json.__file__).is_relative_to(context.workspace)}\"\n"
        )
        asked = spec(tmp_path, "operators_own.report")
        (asked.workspace / "json.py").write_text("raise SystemExit('of the checkout')\n")
        result, _ = see_through(RUNNER, asked)
        assert result.result == "False False"


class TestFailure:
    def test_of_an_exception_has_a_sentence_and_a_traceback(self, tmp_path: Path, module: Path) -> None:
        module.write_text("def report(context): return 1 / 0\n")
        result, lines = see_through(RUNNER, spec(tmp_path, "operators_own.report"))
        assert (result.outcome, result.reason) == ("failed", "exception")
        assert result.message == "it: ZeroDivisionError: division by zero"
        assert any(b"operators_own.py" in line.data for line in lines if line.stream == "err")

    def test_of_our_own_errors_has_just_their_sentence(self, tmp_path: Path) -> None:
        result, lines = see_through(RUNNER, spec(tmp_path, "runners.functions.todo_report.report"))
        assert (result.outcome, result.reason) == ("failed", "repository_invalid")
        assert result.message == "it: This needs a repository, and its schedule has none."
        assert [line for line in lines if line.stream == "err"] == []

    def test_of_wrong_arguments_says_which_there_are(self, tmp_path: Path, module: Path) -> None:
        module.write_text("def report(context, *, limit=1, words=()): return ''\n")
        result, _ = see_through(RUNNER, spec(tmp_path, "operators_own.report", arguments={"most": 3}))
        assert (result.outcome, result.reason) == ("failed", "invalid_options")
        assert "unexpected keyword argument 'most'" in result.message
        assert result.message.endswith("It takes: limit, words.")

    @pytest.mark.parametrize("path", ["operators_own.missing", "no_such_module.report"])
    def test_of_a_function_that_is_not_there(self, tmp_path: Path, module: Path, path: str) -> None:
        module.write_text("")
        result, _ = see_through(RUNNER, spec(tmp_path, path))
        assert (result.outcome, result.reason) == ("failed", "invalid_options")
        assert f"{path} can't be imported" in result.message

    def test_of_an_answer_that_is_no_text(self, tmp_path: Path, module: Path) -> None:
        module.write_text("def report(context): return 7\n")
        result, _ = see_through(RUNNER, spec(tmp_path, "operators_own.report"))
        assert (result.outcome, result.reason) == ("failed", "exception")
        assert "returned int" in result.message

    @pytest.mark.parametrize(
        ("program", "reason", "message"),
        [
            ("import sys; sys.exit('leaving')", "no_result", "exit code 1 and gave no result. leaving"),
            ("import os; os.abort()", "crashed", "SIGABRT"),
        ],
    )
    def test_of_a_process_that_gave_no_result(
        self, tmp_path: Path, module: Path, program: str, reason: str, message: str
    ) -> None:
        module.write_text(f"def report(context):\n    {program}\n")
        result, _ = see_through(RUNNER, spec(tmp_path, "operators_own.report"))
        assert result.reason == reason
        assert message in result.message

    def test_of_a_crash_after_the_result(self, tmp_path: Path, module: Path) -> None:
        module.write_text(
            "import atexit, os\ndef report(context):\n    atexit.register(lambda: os._exit(9))\n    return 'done'\n"
        )
        result, _ = see_through(RUNNER, spec(tmp_path, "operators_own.report"))
        assert (result.outcome, result.reason, result.result) == ("failed", "crashed", "done")

    def test_of_a_full_disk_comes_before_a_result(self, tmp_path: Path) -> None:
        """As with agents: nobody knows what else could not be written."""
        tally = Tally(result=Event(kind="result", at_ms=1, text="done", data={"is_error": False}))
        ending = Ending(exit_code=None, signal=15, ended_by="disk_full", started_at_ms=0, ended_at_ms=1, output_bytes=9)
        result = RUNNER.judge(ending, tally, spec(tmp_path, "a.b"))
        assert (result.outcome, result.reason) == ("failed", "disk_full")


@pytest.mark.parametrize("data", [b'{"type": "result", ', b'{"type": "result", "a": 1}', b'{"type": "result"}'])
def test_a_line_that_only_begins_like_a_result_is_output(data: bytes) -> None:
    assert [event.kind for event in RUNNER.read(Line(at_ms=1, stream="out", data=data))] == ["output"]


def test_is_no_agent_and_has_nothing_to_find_or_to_go_on_with(tmp_path: Path) -> None:
    assert not RUNNER.is_agent
    assert RUNNER.credentials == ()
    assert RUNNER.program() is None
    assert RUNNER.conversation(spec(tmp_path, "a.b")) is None
