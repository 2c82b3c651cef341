"""What a rehearsal showed: pure cases, and rehearsals of the real program."""

from pathlib import Path
from typing import Any

import pytest

from runners.base import Event, EventKind
from runners.rehearsal_report import Asked, Gap, Rehearsed, Report, report_on
from runners.rehearsals import exercise
from tests.runners.claude_sessions import make_spec, run

LIMITED = {"model": "haiku", "max_turns": 9, "max_budget_usd": "1"}


def report(*events: Event, outcome: str = "succeeded", reason: str = "ok", **given: Any) -> Report:
    options = {**LIMITED, **given.pop("options", {})}
    return report_on(Rehearsed(options=options, events=events, outcome=outcome, reason=reason, **given))


def event(kind: EventKind, text: str = "", at_ms: int = 0, **data: Any) -> Event:
    return Event(kind=kind, at_ms=at_ms, text=text, data=data)


def use(name: str, id: str = "1", **given: Any) -> Event:
    words = " ".join(str(value) for value in given.values())
    return event("tool_use", f"{name}: {words}" if words else name, id=id, name=name, input=given)


INIT = event("init", model="claude-haiku-5-5", tools=["Bash", "Read", "mcp__shop__find"])
LOG = use("Bash", command="git log -5")


def test_a_rehearsal_in_which_all_went_well_is_ready() -> None:
    told = report(
        INIT, LOG, event("tool_result", id="1", is_error=False), options={"allowed_tools": ["Bash(git log *)"]}
    )

    assert (told.is_ready, told.conclusion, told.gaps, told.remarks) == (True, "Ready.", (), ())
    assert told.asked == (Asked(tool="Bash: git log -5", outcome="allowed"),)
    assert told.model == "claude-haiku-5-5"


def test_a_denied_tool_is_a_gap_with_its_mend() -> None:
    told = report(LOG, event("error", "Denied: Bash", denied="Bash", id="1"), outcome="failed", reason="denied")

    assert told.asked == (Asked(tool="Bash: git log -5", outcome="denied"),)
    assert told.conclusion == "Not ready: 1 gap to mend."
    assert told.gaps == (
        Gap(
            "It asked for a tool that it may not use. Bash: git log -5",
            "Add Bash(git *), say, to the allowed tools if it may be used; else tell it in the prompt to do without.",
        ),
    )


def test_a_denied_tool_that_is_tolerated_is_a_remark() -> None:
    told = report(LOG, event("result", denied=["Bash: git log -5"]), options={"tolerate_denied": True})

    assert told.is_ready
    assert told.remarks == ("It asked for tools that it may not use; the schedule tolerates that.",)


def test_a_denial_without_a_tool_use_is_told_too() -> None:
    assert report(event("error", denied="command: rm -r x")).asked == (
        Asked(tool="command: rm -r x", outcome="denied"),
    )


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("git: command not found", "A tool did not work. Bash: git log -5: git: command not found"),
        ("No such tool available: Bash", "The agent program has no such tool. Bash: git log -5"),
    ],
)
def test_a_tool_that_did_not_work_is_a_gap(said: str, what: str) -> None:
    told = report(LOG, event("tool_result", said, id="1", is_error=True))

    assert [gap.what for gap in told.gaps] == [what]
    assert told.gaps[0].mend


def test_an_allowed_tool_that_the_program_does_not_have_is_a_gap() -> None:
    rules = ["Read(./**)", "Raed", "Grep", "mcp__shop__*", "mcp__gone__*"]
    told = report(INIT, use("Read"), use("mcp__shop__find"), options={"allowed_tools": rules})

    assert [gap.what.split()[0] for gap in told.gaps] == ["Raed", "mcp__gone__*"]


def test_what_it_was_allowed_and_did_not_ask_for_is_said() -> None:
    rules = ["Bash(git log *)", "Bash(npm publish)", "Read"]
    told = report(INIT, LOG, options={"allowed_tools": rules})

    assert told.not_rehearsed == ("Bash(npm publish)", "Read")
    assert "Bash(npm publish), Read" in told.remarks[0]
    assert told.is_ready


def test_what_the_worker_found_missing_is_told_with_its_mend() -> None:
    told = report(event("note", programs=["npm"], credentials=["A_KEY", "A_TOKEN"]))

    assert "npm is allowed as a command" in told.gaps[0].what
    assert told.gaps[1].mend == "Set A_KEY or A_TOKEN where the workers run."


def test_a_secret_that_nobody_has_set_is_a_gap() -> None:
    [gap] = report(event("note", secrets=["DEPLOY_TOKEN"])).gaps

    assert "no secret “DEPLOY_TOKEN”" in gap.what
    assert "bin/manage secret set DEPLOY_TOKEN" in gap.mend


def test_a_model_that_is_out_of_reach_is_a_gap() -> None:
    [gap] = report(event("note", unreachable="Add api.example.com.")).gaps

    assert gap.what == "In its sandbox a session that is not rehearsed could not reach its model."
    assert gap.mend == "Add api.example.com."


def test_a_rehearsal_that_failed_says_why_and_what_to_do() -> None:
    missing = "secrets: NPM_TOKEN: not set where this worker runs."
    told = report(outcome="failed", reason="invalid_options", message=missing)

    assert told.gaps[0].what == missing
    assert told.gaps[0].mend
    assert report(outcome="failed", reason="internal").gaps[0].what == "The rehearsal ended as failed."


def test_how_long_the_preparation_took_is_told() -> None:
    prepared = event("note", prepared={"fetch": 1.25, "checkout": 0.5})
    told = report(prepared, event("init", at_ms=1_700), started_at_ms=1_000)

    assert told.preparation == {"fetch": 1.25, "checkout": 0.5, "start": 0.7}


def test_what_bounds_nothing_is_remarked() -> None:
    told = report(options={"max_turns": None, "max_budget_usd": None, "model": "my-own-model"})

    assert told.remarks[:2] == ("There is no cap on turns.", "There is no money limit.")
    assert "no price of my-own-model" in told.remarks[2]


def rehearse(folder: Path, **options: Any) -> tuple[Report, dict[str, Any]]:
    session = run(make_spec(folder, rehearse=True, options=options), seconds=50)
    result = session.result
    told = report(
        *session.events, outcome=result.outcome, reason=result.reason, message=result.message, options=options
    )
    return told, {use.tool.partition(":")[0]: use.outcome for use in told.asked}


def test_the_real_program_asks_for_each_allowed_tool_once(tmp_path: Path) -> None:
    told, asked = rehearse(tmp_path, allowed_tools=["Read", "Bash(ls *)", "Bash(wc:*)", "Write", "Edit"])

    assert asked == {"Bash": "allowed", "Read": "allowed", "Write": "allowed", "Edit": "allowed"}
    assert (told.not_rehearsed, told.gaps) == ((), ())
    assert "edited this file" in (tmp_path / "workspace" / exercise.WRITTEN_FILE).read_text()


def test_the_real_program_asks_for_all_within_a_cap_on_turns(tmp_path: Path) -> None:
    told, asked = rehearse(tmp_path, allowed_tools=["Read", "Bash(ls *)", "Write", "Edit"], max_turns=2)

    assert set(asked) == {"Bash", "Read", "Write", "Edit"}
    assert told.is_ready, told.gaps


def test_the_real_program_is_not_ready_when_its_script_needs_more(tmp_path: Path) -> None:
    told, asked = rehearse(tmp_path, rehearsal_script="asks-for-what-is-denied")

    assert asked == {"Bash": "denied"}
    assert told.gaps[0].mend.startswith("Add Bash(touch *), say,")


class TestUses:
    def commands(self, folder: Path, *allowed: str, refused: tuple[str, ...] = ()) -> list[str]:
        asked = exercise.uses(allowed=allowed, refused=refused, edits=False, workspace=folder)
        return [one["input"].get("command", one["name"]) for one in asked]

    @pytest.mark.parametrize(
        ("rule", "command"),
        [
            ("Bash", "git log -5 --oneline"),
            ("Bash(*)", "git log -5 --oneline"),
            ("Bash(git *)", "git log -5 --oneline"),
            ("Bash(git diff:*)", "git diff --stat"),
            ("Bash(ls)", "ls"),
            ("Bash(head *)", "head -n 5 README.md"),
        ],
    )
    def test_a_rule_gets_a_harmless_command_that_it_covers(self, rule: str, command: str, tmp_path: Path) -> None:
        (tmp_path / ".git").mkdir()
        (tmp_path / "README.md").touch()
        assert self.commands(tmp_path, rule) == [command]

    @pytest.mark.parametrize(
        "rule", ["Bash(npm publish)", "Bash(git push *)", "Bash(rm *)", "Bash(gi *)", "WebFetch", "mcp__shop__buy"]
    )
    def test_what_may_have_an_effect_is_not_asked_for(self, rule: str, tmp_path: Path) -> None:
        (tmp_path / ".git").mkdir()
        assert self.commands(tmp_path, rule) == []

    def test_what_is_refused_is_not_asked_for(self, tmp_path: Path) -> None:
        (tmp_path / "README.md").touch()
        assert self.commands(tmp_path, "Bash(ls *)", "Write", refused=("Bash", "Edit", "Read")) == []

    def test_without_a_repository_git_is_left_alone(self, tmp_path: Path) -> None:
        assert self.commands(tmp_path, "Bash(git log *)") == []
        assert self.commands(tmp_path, "Bash") == ["ls"]


def test_programs_that_are_not_on_the_path_are_found(tmp_path: Path) -> None:
    (tmp_path / "here").touch(mode=0o700)
    rules = ["Bash(here *)", "Bash(gone --x)", "Bash(gone:*)", "Bash(cd *)", "Bash", "Bash(*)", "Read(./gone *)"]

    assert exercise.missing_programs(rules, path=str(tmp_path)) == ["gone"]
    assert exercise.missing_programs(["Bash(ls *)"], path="") == []
