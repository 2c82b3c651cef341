"""What a check that is over makes of a session, and how one is started."""

from pathlib import Path
from typing import Any

import pytest

from runners import supervision
from runners.base import Launch
from runners.postconditions import check_finding, check_folder, check_launch, end_checks, is_begun
from tests.processes import until
from tests.runners.claude_sessions import make_ending
from tests.runners.held import limits_of, make_spec


def test_one_that_succeeds_makes_nothing_of_it() -> None:
    assert check_finding(make_ending(0), "make test", last="3 passed") is None


@pytest.mark.parametrize(
    ("ending", "outcome", "reason", "words"),
    [
        ({"exit_code": 3}, "failed", "check_failed", "“make test” failed (exit code 3). 1 failed"),
        ({"exit_code": None, "signal": 11}, "failed", "check_failed", "(killed by SIGSEGV)"),
        ({"exit_code": None, "signal": 9, "ended_by": "timed_out"}, "failed", "check_failed", "(timed out)"),
        ({"exit_code": None, "ended_by": "shim_died"}, "failed", "check_failed", "(shim died)"),
        ({"exit_code": 0, "ended_by": "out_of_memory"}, "failed", "check_failed", "(out of memory)"),
        ({"exit_code": None, "signal": 15, "ended_by": "cancelled"}, "cancelled", "cancelled", "while its check"),
        ({"exit_code": None, "signal": 15, "ended_by": "shutdown"}, "cancelled", "shutdown", "while its check"),
    ],
)
def test_one_that_does_not_fails_the_session(ending: dict[str, Any], outcome: str, reason: str, words: str) -> None:
    found = check_finding(make_ending(0, **ending), "make\n  test", last="1 failed")
    assert found is not None
    assert found[:2] == (outcome, reason)
    assert words in found[2]


def test_long_commands_and_words_are_cut() -> None:
    found = check_finding(make_ending(1), "x" * 500, last="y" * 500)
    assert found is not None
    assert len(found[2]) < 500


def test_it_is_a_line_of_shell_without_the_keys(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, options={}, environment={"MINE": "a", "KEY": "b"})
    launch = check_launch(spec, "make test && echo $MINE", without=("KEY",))
    assert list(launch.argv) == ["sh", "-c", "make test && echo $MINE"]
    assert launch.environment["MINE"] == "a"
    assert "KEY" not in launch.environment


def test_what_runs_is_ended(tmp_path: Path) -> None:
    assert end_checks(tmp_path) == 0
    folder = check_folder(tmp_path, 1)
    assert not is_begun(folder)
    launch = Launch(argv=["sleep", "300"], environment={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home")})
    supervision.start(folder, launch, cwd=tmp_path, limits=limits_of(timeout=300))
    assert is_begun(folder)
    assert end_checks(tmp_path) >= 2
    until(lambda: not supervision.current(folder), within=15, what="nobody is left")
