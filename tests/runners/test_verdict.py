import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runners import tallying, verdict
from runners.base import Event, EventKind, FetchFailed, Line, RunnerError, SessionResult, Tally
from runners.claude_stream import read
from runners.model_names import same_model
from tests.runners.claude_sessions import OPTIONS, RECORDED, STREAMS, make_ending
from tests.runners.held import hold


def recorded(name: str) -> tuple[dict[str, Any], list[Line]]:
    """How a recorded session ended, and its lines."""
    head, *rest = (STREAMS / f"{name}.jsonl").read_text().splitlines()
    return json.loads(head), [Line(at_ms=1, stream="out", data=text.encode()) for text in rest]


def tally_of(lines: list[Line]) -> Tally:
    tally = Tally()
    for line in lines:
        for event in read(line):
            tallying.add(tally, event)
    return tally


def judge(name: str, *, lines: slice = slice(None), rehearse: bool = False, **changes: Any) -> SessionResult:
    """The verdict on a recorded session; `changes` are to its options or, where it has such a field, its ending."""
    head, all_lines = recorded(name)
    head |= {key: changes.pop(key) for key in (*head, "truncated", "message") if key in changes}
    ending = make_ending(0, **head)
    options = {**OPTIONS, **RECORDED[name][1].get("options", {}), **changes}
    return verdict.judge(ending, tally_of(all_lines[lines]), options, rehearse=rehearse)


@pytest.mark.parametrize(
    ("name", "outcome", "reason", "words"),
    [
        ("success", "succeeded", "ok", ""),
        ("writes-a-file", "succeeded", "ok", ""),
        ("many-tools-at-once", "succeeded", "ok", ""),
        ("fell-back", "succeeded", "ok", "it fell back to claude-sonnet"),
        ("denied", "failed", "denied", "Bash: touch not-allowed"),
        ("max-turns", "failed", "max_turns", "maximum number of turns (2)"),
        ("budget", "failed", "budget", "maximum budget"),
        ("says-nothing", "failed", "no_result", "without a result text"),
        ("another-model", "failed", "model_mismatch", "claude-other-1-0 answered; haiku was asked for"),
        ("refused", "failed", "refused", "can't help with this"),
        ("wrong-key", "failed", "auth", "Invalid API key"),
        ("not-logged-in", "failed", "auth", "Not logged in"),
        ("rate-limited", "failed", "rate_limited", "429"),
        ("usage-limit", "failed", "rate_limited", "lifted at 2026-11-20 18:40 UTC"),
        ("overloaded", "failed", "overloaded", "529"),
        ("no-such-model", "failed", "model_unavailable", "may not exist"),
        ("server-error", "failed", "api_error", "500"),
        ("connection-refused", "failed", "api_error", "ECONNREFUSED"),
        ("cut-off", "failed", "api_error", "ECONNRESET"),
        ("hangs", "timed_out", "timed_out", "longer than its time limit"),
    ],
)
def test_recorded_sessions_of_the_real_program(name: str, outcome: str, reason: str, words: str) -> None:
    result = judge(name)

    assert (result.outcome, result.reason) == (outcome, reason)
    assert words in result.message
    assert reason in verdict.REASONS


def test_every_recording_is_judged_above() -> None:
    of_codex = set(STREAMS.glob("codex-*.jsonl"))  # test_codex_stream.py judges them
    assert {file.stem for file in set(STREAMS.glob("*.jsonl")) - of_codex} == set(RECORDED)


def test_what_a_session_produced_is_told() -> None:
    result = judge("writes-a-file")

    assert result.result == "I wrote notes.md. It has one line."
    assert result.summary == "I wrote notes.md."
    assert result.model.startswith("claude-haiku")
    assert result.turns == 3
    assert min(result.input_tokens, result.output_tokens, result.cached_tokens) > 0
    assert 0 < result.cost_usd < 1


def test_a_rehearsal_costs_nothing() -> None:
    assert judge("success").cost_usd > 0
    assert judge("success", rehearse=True).cost_usd == 0


@pytest.mark.parametrize(
    ("ended_by", "outcome", "reason"),
    [
        ("timed_out", "timed_out", "timed_out"),
        ("stalled", "timed_out", "stalled"),
        ("cancelled", "cancelled", "cancelled"),
        ("shutdown", "cancelled", "shutdown"),
        ("shim_died", "lost", "worker_died"),
        ("program_missing", "failed", "program_missing"),
        ("disk_full", "failed", "disk_full"),
        ("lingered", "failed", "no_result"),
    ],
)
def test_a_session_that_was_ended_before_its_result(ended_by: str, outcome: str, reason: str) -> None:
    result = judge("hangs", ended_by=ended_by, message="So it was.")

    assert (result.outcome, result.reason) == (outcome, reason)
    assert result.message.endswith("So it was.")


@pytest.mark.parametrize("ended_by", ["timed_out", "stalled", "cancelled", "shutdown", "shim_died", "lingered"])
def test_a_result_that_came_stays_the_verdict(ended_by: str) -> None:
    assert judge("success", ended_by=ended_by, exit_code=None, signal=15).reason == "ok"


def test_a_full_disk_fails_a_session_that_reported_success() -> None:
    assert judge("success", ended_by="disk_full").reason == "disk_full"


@pytest.mark.parametrize(("how", "words"), [({"signal": 11}, "killed by SIGSEGV"), ({"exit_code": 3}, "exit code 3")])
def test_a_crash_after_a_result_is_no_success(how: dict[str, Any], words: str) -> None:
    result = judge("success", **how)

    assert (result.outcome, result.reason) == ("failed", "crashed")
    assert words in result.message


def test_exit_code_0_alone_is_nothing() -> None:
    result = judge("success", lines=slice(0, 2))

    assert (result.outcome, result.reason) == ("failed", "no_result")
    assert result.result == "All is well. Nothing to do."


def test_a_program_that_is_killed_crashed() -> None:
    result = judge("hangs", ended_by="", exit_code=None, signal=9)

    assert (result.outcome, result.reason) == ("failed", "crashed")
    assert "SIGKILL" in result.message


def test_a_result_line_that_was_not_kept_is_not_guessed() -> None:
    assert judge("success", lines=slice(0, 2), truncated=True).reason == "truncated"
    assert judge("success", truncated=True).reason == "ok"


def test_turns_are_what_the_cap_counts_and_not_what_the_program_reports() -> None:
    """Three tools at once make the program report 4 turns under a cap of 2, which it held."""
    reported = next(e for line in recorded("many-tools-at-once")[1] for e in read(line) if e.kind == "result")

    assert reported.data["turns"] == 4
    assert judge("many-tools-at-once").turns == 2
    assert judge("many-tools-at-once", max_turns=1).reason == "max_turns"


def test_denied_tools_and_empty_results_can_be_tolerated() -> None:
    tolerated = judge("denied", tolerate_denied=True)

    assert (tolerated.reason, tolerated.denied) == ("ok", ("Bash: touch not-allowed",))
    assert "Bash: touch not-allowed" in tolerated.message
    assert judge("says-nothing", allow_empty_result=True).reason == "ok"


def test_a_fallback_that_was_not_named_is_a_mismatch() -> None:
    assert judge("fell-back", fallback_model="").reason == "model_mismatch"


def test_a_rate_limit_says_when_to_come_back() -> None:
    assert judge("usage-limit").resets_at == 1795200000
    assert judge("success").resets_at is None


def test_a_note_can_tell_that_another_model_answered() -> None:
    tally = Tally()
    tallying.add(tally, event("note", text="Mind this."))
    tallying.add(tally, event("note", ran="gpt-other"))
    tallying.add(tally, event("result", text="Done.", subtype="success"))

    assert (tally.model, tally.models) == ("gpt-other", ["gpt-other"])
    assert verdict.judge(make_ending(0), tally, {"model": "gpt-5.5"}).reason == "model_mismatch"


def test_an_answer_that_no_model_gave_is_no_result() -> None:
    """Claude Code answers `/cost` by itself and reports success."""
    tally = Tally()
    tallying.add(tally, event("result", text="Total cost: $0", subtype="success"))

    assert verdict.judge(make_ending(0), tally, OPTIONS).reason == "no_result"


def test_an_error_nobody_knows_fails() -> None:
    tally = Tally()
    tallying.add(tally, event("result", subtype="error_of_tomorrow", is_error=True))
    result = verdict.judge(make_ending(0), tally, OPTIONS)

    assert (result.outcome, result.reason) == ("failed", "agent_error")
    assert "error_of_tomorrow" in result.message


def test_standard_error_tells_why_there_is_no_result() -> None:
    tally = Tally()
    tallying.add(tally, event("stderr", text="error: unknown option '--fast'"))

    assert "unknown option '--fast'" in verdict.judge(make_ending(1), tally, OPTIONS).message


@pytest.mark.parametrize(
    ("asked", "ran"),
    [
        ("haiku", "claude-haiku-5-5"),
        ("sonnet[1m]", "claude-sonnet-5-5"),
        ("claude-sonnet-5-5", "claude-sonnet-5-5-20260901"),
        ("claude-sonnet-5-5-20260901", "claude-sonnet-5-5"),
        ("claude-3-5-haiku-latest", "claude-3-5-haiku-20241022"),
        ("us.anthropic.claude-sonnet-5-5-20260901-v1:0", "claude-sonnet-5-5"),
        ("claude-opus-5-5@20260901", "claude-opus-5-5"),
        ("anthropic/claude-opus-5-5", "claude-opus-5-5"),
        ("gpt-5.5", "gpt-5.5-2026-04-23"),
        ("opusplan", "claude-sonnet-5-5"),
    ],
)
def test_the_model_that_ran_is_the_one_that_was_asked_for(asked: str, ran: str) -> None:
    assert same_model(asked, ran)


@pytest.mark.parametrize(
    ("asked", "ran"),
    [
        ("haiku", "claude-sonnet-5-5"),
        ("claude-opus-4-1", "claude-opus-5-5"),
        ("claude-opus-5", "claude-opus-5-5"),
        ("claude", "claude-opus-5-5"),
        ("5", "claude-opus-5-5"),
        ("opusplan", "claude-haiku-5-5"),
    ],
)
def test_another_model_is_another_model(asked: str, ran: str) -> None:
    assert not same_model(asked, ran)


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("", ""),
        ("\n\n---\n# Daily *briefing*\n\nText.", "Daily briefing"),
        ("**All is well.** Nothing to do.", "All is well."),
        ("- See [the report](https://example.com/a_b) in `docs`", "See the report in docs"),
        ("Version 1.2 is out. More follows.", "Version 1.2 is out."),
        ("no end " * 60, ("no end " * 60)[:199].rstrip() + "…"),
    ],
)
def test_the_summary_is_the_first_sentence(text: str, summary: str) -> None:
    assert verdict.summary(text) == summary


def event(kind: EventKind, text: str = "", **data: Any) -> Event:
    return Event(kind=kind, at_ms=1, text=text, data=data)


def test_what_is_printed_after_a_crash_makes_no_success(tmp_path: Path) -> None:
    """What the program left behind may still print, and print what looks like its result."""
    line = json.dumps({"type": "result", "subtype": "success", "result": "All is well."})
    program = f"(sleep 0.2; echo '{line}') & kill -SEGV $$"
    held = hold(tmp_path, "sh", "-c", program, launch={"result_type": "result"}, result_grace=1, kill_grace=1)
    ending = held.end(within=60)
    result = verdict.judge(ending, tally_of(held.read()), {})

    assert line.encode() in held.texts()
    assert (result.outcome, result.reason) == ("failed", "crashed")


REASONS: dict[str, Callable[[], SessionResult | type[RunnerError]]] = {
    "max_turns": lambda: judge("max-turns"),
    "budget": lambda: judge("budget"),
    "rate_limited": lambda: judge("usage-limit"),
    "overloaded": lambda: judge("overloaded"),
    "auth": lambda: judge("wrong-key"),
    "denied": lambda: judge("denied"),
    "no_result": lambda: judge("says-nothing"),
    "stalled": lambda: judge("hangs", ended_by="stalled"),
    "timed_out": lambda: judge("hangs"),
    "truncated": lambda: judge("success", lines=slice(0, 2), truncated=True),
    "model_mismatch": lambda: judge("another-model"),
    "crashed": lambda: judge("hangs", ended_by="", exit_code=None, signal=9),
    "program_missing": lambda: judge("hangs", ended_by="program_missing"),
    "disk_full": lambda: judge("hangs", ended_by="disk_full"),
    "cancelled": lambda: judge("hangs", ended_by="cancelled"),
    "worker_died": lambda: judge("hangs", ended_by="shim_died"),
    "fetch_failed": lambda: FetchFailed,
}


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_is_its_own(reason: str) -> None:
    """`check_failed` is in test_postconditions.py."""
    assert REASONS[reason]().reason == reason
