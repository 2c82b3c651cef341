"""What a session's process sees of its surroundings."""

from __future__ import annotations

from pathlib import Path

import pytest

from runners.base import OptionsInvalid
from runners.environment import PATH, environment_problems, session_environment


class TestSessionEnvironment:
    def test_is_the_same_whatever_the_worker_has(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = session_environment(home=Path("/s/home"), extra={})
        monkeypatch.setenv("CANARY", "of the worker")
        monkeypatch.setenv("PATH", "/of/the/worker")
        monkeypatch.setenv("LANG", "tlh_KX")
        assert session_environment(home=Path("/s/home"), extra={}) == before
        assert before["PATH"] == PATH
        assert before["HOME"] == "/s/home"
        assert before["TMPDIR"] == "/s/home/tmp"
        assert before["CI"] == "1"

    def test_takes_what_the_schedule_names_also_in_place_of_ours(self) -> None:
        made = session_environment(home=Path("/h"), extra={"TZ": "Europe/Paris", "TOKEN": "x"}, path="/opt/bin")
        assert (made["TZ"], made["TOKEN"], made["PATH"]) == ("Europe/Paris", "x", "/opt/bin")

    @pytest.mark.parametrize("name", ["HOME", "PATH", "TMPDIR", "ROTA_SESSION", "LD_PRELOAD", "LD_LIBRARY_PATH"])
    def test_refuses_what_would_undo_the_isolation_and_says_why(self, name: str) -> None:
        with pytest.raises(OptionsInvalid, match=f"{name} can't be set: ") as refusal:
            session_environment(home=Path("/h"), extra={"FINE": "x", name: "x"})
        assert set(refusal.value.problems) == {"environment"}


class TestEnvironmentProblems:
    def test_none_with_ordinary_variables(self) -> None:
        assert environment_problems({"A": "", "_b1": "ü", "ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}) == {}

    @pytest.mark.parametrize("name", ["", "1A", "A-B", "A=B", "Ä", "A\n", "A B"])
    def test_a_name_that_is_none(self, name: str) -> None:
        assert set(environment_problems({name: "x"})) == {name}

    @pytest.mark.parametrize(("value", "why"), [("a\0b", "NUL"), ("x" * 131_072, "128 KiB")])
    def test_a_value_that_no_program_can_be_given(self, value: str, why: str) -> None:
        assert why in environment_problems({"A": value})["A"]
