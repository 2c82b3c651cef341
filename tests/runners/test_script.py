"""The script runner: real scripts, from their options to their verdict."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from runners.base import Ending, OptionsInvalid, ProgramMissing, SessionSpec, Tally
from runners.script import ScriptRunner
from tests.runners.held import make_spec, see_through

RUNNER = ScriptRunner()


def spec(tmp_path: Path, *argv: str, **changes: Any) -> SessionSpec:
    options = {"argv": list(argv), **changes.pop("options", {})}
    return make_spec(tmp_path, options=options, **changes)


def shell(tmp_path: Path, program: str, **changes: Any) -> SessionSpec:
    return spec(tmp_path, "sh", "-c", program, **changes)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "field", "what"),
        [
            ({}, "argv", "a list of texts"),
            ({"argv": "make report"}, "argv", "a list of texts"),
            ({"argv": ["make", 1]}, "argv", "a list of texts"),
            ({"argv": []}, "argv", "at least the program"),
            ({"argv": ["  "]}, "argv", "at least the program"),
            ({"argv": ["make", "a\0b"]}, "argv", "NUL"),
            ({"argv": ["make"], "working_directory": "/etc"}, "working_directory", "inside the repository"),
            ({"argv": ["make"], "working_directory": "a/../.."}, "working_directory", "inside the repository"),
        ],
    )
    def test_that_can_not_be_run_are_refused_at_their_field(
        self, options: dict[str, Any], field: str, what: str
    ) -> None:
        problems = RUNNER.problems(options)
        assert set(problems) == {field}
        assert what in problems[field]

    @pytest.mark.parametrize("directory", [None, "", ".", "docs", "a/b"])
    def test_that_are_fine(self, directory: str | None) -> None:
        assert RUNNER.problems({"argv": ["make"], "working_directory": directory, "model": ""}) == {}


class TestLaunch:
    def test_refuses_options_that_are_wrong(self, tmp_path: Path) -> None:
        with pytest.raises(OptionsInvalid):
            RUNNER.launch(spec(tmp_path))

    def test_refuses_a_directory_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(OptionsInvalid, match="docs is no directory"):
            RUNNER.launch(spec(tmp_path, "true", options={"working_directory": "docs"}))

    def test_refuses_a_directory_that_leads_out_of_the_checkout(self, tmp_path: Path) -> None:
        asked = spec(tmp_path, "true", options={"working_directory": "out"})
        (asked.workspace / "out").symlink_to(tmp_path)
        with pytest.raises(OptionsInvalid, match="out is no directory"):
            RUNNER.launch(asked)

    @pytest.mark.parametrize(
        ("program", "why"),
        [
            ("no-such-program", "no-such-program is not on the PATH of sessions"),
            ("./report", "no ./report in the checkout"),
            ("/no/such/program", "no /no/such/program on this machine"),
            ("./notes.txt", "not executable"),
        ],
    )
    def test_knows_what_program_is_missing(self, tmp_path: Path, program: str, why: str) -> None:
        asked = spec(tmp_path, program)
        (asked.workspace / "notes.txt").write_text("hello")
        with pytest.raises(ProgramMissing, match=why):
            RUNNER.launch(asked)

    def test_finds_programs_on_the_path_of_the_session(self, tmp_path: Path) -> None:
        program = tmp_path / "tools" / "report"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\necho reported\n")
        program.chmod(0o755)
        asked = spec(tmp_path, "report", path=f"{program.parent}:/usr/bin:/bin")
        result, _ = see_through(RUNNER, asked)
        assert (result.outcome, result.result) == ("succeeded", "reported")


class TestSuccess:
    def test_has_what_was_written_to_the_result_file(self, tmp_path: Path) -> None:
        program = "echo working; printf '# Report\\n\\nAll is *well*. More.\\n' > \"$ROTA_RESULT_FILE\""
        result, lines = see_through(RUNNER, shell(tmp_path, program))
        assert (result.outcome, result.reason, result.message) == ("succeeded", "ok", "")
        assert result.result == "# Report\n\nAll is *well*. More."
        assert result.summary == "Report"
        assert [line.data for line in lines] == [b"working"]

    def test_has_else_the_end_of_what_was_printed(self, tmp_path: Path) -> None:
        result, _ = see_through(RUNNER, shell(tmp_path, "echo one; echo oops >&2; printf '\\033[1mtwo\\033[0m.\\n'"))
        assert (result.outcome, result.result, result.summary) == ("succeeded", "one\ntwo.", "two.")

    def test_needs_no_output(self, tmp_path: Path) -> None:
        result, _ = see_through(RUNNER, shell(tmp_path, "true"))
        assert (result.outcome, result.reason, result.result) == ("succeeded", "ok", "")

    def test_knows_where_it_works_and_what_it_is_told(self, tmp_path: Path) -> None:
        asked = shell(
            tmp_path,
            'echo "$(pwd) $ROTA_WORKSPACE $ROTA_REPOSITORY"',
            options={"working_directory": "docs"},
            environment={"ROTA_REPOSITORY": "acme"},
        )
        (asked.workspace / "docs").mkdir()
        result, _ = see_through(RUNNER, asked)
        assert result.result == f"{asked.workspace}/docs {asked.workspace} acme"

    def test_runs_a_script_of_the_repository(self, tmp_path: Path) -> None:
        asked = spec(tmp_path, "./bin/report", "-x")
        (asked.workspace / "bin").mkdir()
        (asked.workspace / "bin/report").write_text('#!/bin/sh\necho "$0 $1"\n')
        (asked.workspace / "bin/report").chmod(0o755)
        result, _ = see_through(RUNNER, asked)
        assert result.result == "./bin/report -x"

    def test_cuts_a_result_that_is_too_long(self, tmp_path: Path) -> None:
        result, _ = see_through(RUNNER, shell(tmp_path, 'head -c 300000 /dev/zero | tr "\\0" x > "$ROTA_RESULT_FILE"'))
        assert result.result == "x" * 200_000 + "\n\n… the rest is cut."

    @pytest.mark.parametrize("trick", ['ln -s /etc/hostname "$f"', 'mkfifo "$f"', 'mkdir "$f"'])
    def test_is_not_fooled_by_what_is_no_file(self, tmp_path: Path, trick: str) -> None:
        result, _ = see_through(RUNNER, shell(tmp_path, f'f="$ROTA_RESULT_FILE"; {trick}; echo done'))
        assert (result.outcome, result.result) == ("succeeded", "done")


class TestFailure:
    def test_of_an_exit_code_has_the_last_error(self, tmp_path: Path) -> None:
        result, _ = see_through(RUNNER, shell(tmp_path, "echo so far; echo 'no such table' >&2; exit 3"))
        assert (result.outcome, result.reason) == ("failed", "exit_code")
        assert result.message == "It ended with exit code 3. no such table"
        assert result.result == "so far"

    def test_of_a_signal_is_a_crash(self, tmp_path: Path) -> None:
        result, _ = see_through(RUNNER, shell(tmp_path, "kill -ABRT $$"))
        assert (result.outcome, result.reason) == ("failed", "crashed")
        assert "SIGABRT" in result.message

    def test_of_a_program_without_a_first_line(self, tmp_path: Path) -> None:
        asked = spec(tmp_path, "./report")
        (asked.workspace / "report").write_text("echo hello\n")
        (asked.workspace / "report").chmod(0o755)
        result, _ = see_through(RUNNER, asked)
        assert (result.outcome, result.reason) == ("failed", "program_missing")
        assert "begins with #!" in result.message

    @pytest.mark.parametrize(
        ("ended_by", "outcome", "reason"),
        [
            ("timed_out", "timed_out", "timed_out"),
            ("stalled", "timed_out", "stalled"),
            ("cancelled", "cancelled", "cancelled"),
            ("shutdown", "cancelled", "shutdown"),
            ("program_missing", "failed", "program_missing"),
            ("disk_full", "failed", "disk_full"),
            ("shim_died", "lost", "worker_died"),
        ],
    )
    def test_of_being_ended_is_told_by_its_reason(
        self, tmp_path: Path, ended_by: Any, outcome: str, reason: str
    ) -> None:
        ending = Ending(
            exit_code=None,
            signal=signal.SIGKILL,
            ended_by=ended_by,
            started_at_ms=0,
            ended_at_ms=1,
            output_bytes=0,
        )
        result = RUNNER.judge(ending, Tally(), spec(tmp_path, "true"))
        assert (result.outcome, result.reason) == (outcome, reason)
        assert result.message


def test_is_no_agent_and_has_nothing_to_find_or_to_go_on_with(tmp_path: Path) -> None:
    assert not RUNNER.is_agent
    assert RUNNER.credentials == ()
    assert RUNNER.program() is None
    assert RUNNER.conversation(spec(tmp_path, "true")) is None
