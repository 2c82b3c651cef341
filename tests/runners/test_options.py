import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runners.base import Option, Runner
from runners.claude import ClaudeRunner
from runners.codex import CodexRunner
from runners.function import FunctionRunner
from runners.options import not_chosen, not_taken
from runners.script import ScriptRunner

DOCUMENT = Path(__file__).parents[2] / "docs" / "runners.md"
RUNNERS: tuple[Runner, ...] = (ClaudeRunner(), CodexRunner(), ScriptRunner(), FunctionRunner())
# One value of each option that any of them takes.
SAID: Mapping[str, Any] = {
    "model": "haiku",
    "fallback_model": "sonnet",
    "effort": "high",
    "permission_mode": "plan",
    "allowed_tools": ["Read"],
    "disallowed_tools": ["Bash"],
    "max_turns": 5,
    "max_budget_usd": "0.50",
    "append_system_prompt": "Be brief.",
    "agents": {"reviewer": {"description": "Reviews code", "prompt": "You review code."}},
    "setting_sources": ["project"],
    "plugins": ["tools/reviewer"],
    "plugin_folders": ["/opt/plugins"],
    "mcp_servers": {"forge": {"command": "forge-mcp"}},
    "json_schema": {"type": "object"},
    "allow_empty_result": True,
    "tolerate_denied": True,
    "rehearsal_script": [[{"type": "text", "text": "Hello."}]],
    "argv": ["make"],
    "working_directory": "docs",
    "function": "todo-report",
    "function_path": "runners.functions.todo_report.report",
    "arguments": {"limit": 5},
}


def test_each_option_is_tried() -> None:
    assert {name for runner in RUNNERS for name in runner.options} == set(SAID)


@pytest.mark.parametrize("runner", RUNNERS, ids=lambda runner: runner.name)
@pytest.mark.parametrize("name", SAID)
def test_an_option_is_taken_or_refused_with_what_to_do(runner: Runner, name: str) -> None:
    problem = runner.problems({**SAID, name: SAID[name]}).get(name, "")

    assert (name in runner.options) == ("Leave" not in problem)


def test_the_document_says_who_takes_what() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \|(.+)\|$", DOCUMENT.read_text().partition("## What a schedule can choose")[2], re.MULTILINE
    )
    told = {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}

    assert told == {
        name: [
            (", ".join(runner.options[name].choices) or "yes") if name in runner.options else "–" for runner in RUNNERS
        ]
        for name in SAID
    }


def test_what_says_nothing_is_not_refused() -> None:
    nothing: dict[str, Any] = {
        "model": "",
        "max_turns": None,
        "plugins": [],
        "tolerate_denied": False,
        "permission_mode": "dontAsk",
    }

    assert not_taken(nothing, {}, runner="script") == {}


def test_choices_are_of_a_value_or_of_the_entries_of_a_list() -> None:
    taken = {"effort": Option(choices=("low", "high")), "sources": Option(choices=("project",)), "model": Option()}

    assert not_chosen({"effort": "low", "sources": ["project"], "model": "any"}, taken) == {}
    assert not_chosen({"effort": "", "sources": []}, taken) == {}
    found = not_chosen({"effort": "mad", "sources": ["user", "project", "local"]}, taken)
    assert found == {
        "effort": "mad: is none of low, high.",
        "sources": "user, local: is none of project.",
    }
