"""From what the events of a session add up to, to a verdict. Pure: no clock, no files, no process.

`judge` says what the end of an agent's session amounts to, by what `runners.tallying` made of its events. An agent's
claim of success is not success, exit code 0 alone is nothing, and what is unknown is `failed`.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from runners import reckoning, structured
from runners.base import CostSource, Ending, Event, Outcome, SessionResult, Tally
from runners.model_names import same_model

SUMMARY_LENGTH: Final = 200

Finding = tuple[Outcome, str, str]  # outcome, reason code, sentence

# What an agent's words for a fault amount to. The first column is Claude Code's `error` of an assistant message, into
# which other agents' words are put.
REASON_OF_FAULT: Final[Mapping[str, str]] = {
    "authentication_failed": "auth",
    "oauth_org_not_allowed": "auth",
    "account_on_hold": "auth",
    "verification_required": "auth",
    "cloud_credential_error": "auth",
    "billing_error": "billing",
    "rate_limit": "rate_limited",
    "overloaded": "overloaded",
    "model_not_found": "model_unavailable",
    "server_error": "api_error",
    "unknown": "api_error",
}
REASON_OF_STATUS: Final[Mapping[int, str]] = {
    401: "auth",
    402: "billing",
    403: "auth",
    404: "model_unavailable",
    429: "rate_limited",
    529: "overloaded",
}
REASON_OF_STOP: Final[Mapping[str, str]] = {
    "max_turns": "max_turns",
    "error_max_turns": "max_turns",
    "budget_exhausted": "budget",
    "error_max_budget_usd": "budget",
    "blocking_limit": "prompt_too_long",
    "prompt_too_long": "prompt_too_long",
    "refusal": "refused",
    "error_max_structured_output_retries": "invalid_output",
}

# Who ended the process when no result had come, and what that makes of it.
_ENDED_BY: Final[Mapping[str, Finding]] = {
    "timed_out": ("timed_out", "timed_out", "It ran longer than its time limit and was ended."),
    "stalled": ("timed_out", "stalled", "It printed nothing for as long as its silence limit and was ended."),
    "max_turns": ("failed", "max_turns", "It went on beyond its cap on turns and was ended."),
    "budget": ("failed", "budget", "It went on beyond its money limit and was ended."),
    "out_of_memory": ("failed", "out_of_memory", "It took more memory than a session may and was ended."),
    "too_many_processes": ("failed", "too_many_processes", "It ran more processes than a session may and was ended."),
    "cancelled": ("cancelled", "cancelled", "It was cancelled."),
    "shutdown": ("cancelled", "shutdown", "It was ended because the worker's machine was shutting down."),
    "shim_died": ("lost", "worker_died", "The process that held the session is gone; what became of it is unknown."),
    "program_missing": ("failed", "program_missing", "The program could not be started."),
    "disk_full": ("failed", "disk_full", "The disk was full."),
    "lingered": ("failed", "no_result", "Its result line is not among what was kept."),
}

REASONS: Final = frozenset(
    {
        *("ok", "agent_error", "api_error", "crashed", "denied", "model_mismatch", "no_result", "truncated"),
        *("invalid_output", "unequipped"),
        *REASON_OF_FAULT.values(),
        *REASON_OF_STATUS.values(),
        *REASON_OF_STOP.values(),
        *(reason for _, reason, _ in _ENDED_BY.values()),
    }
)
"""All that `judge` can say."""


def judge(ending: Ending, tally: Tally, options: Mapping[str, Any], *, rehearse: bool = False) -> SessionResult:
    """The verdict of an agent's session.

    `options` are the schedule's: `model`, `fallback_model`, `max_turns`, `allow_empty_result`, `tolerate_denied`,
    `json_schema`, `mcp_servers`. A rehearsal costs nothing, whatever the program reckoned: no model was asked.
    """
    outcome, reason, message = _find(ending, tally, options)
    no_cost: tuple[float, CostSource] = (0.0, "")
    cost, source = no_cost if rehearse else reckoning.spent(tally)
    if not rehearse:
        message = f"{message} {reckoning.remark(tally)}".strip()
    finished = tally.result is not None and not tally.result.data.get("is_error")
    said = tally.result.text if tally.result and finished else tally.last_text
    limited = reason == "rate_limited"
    return SessionResult(
        outcome=outcome,
        reason=reason,
        message=message,
        result=said,
        summary=summary(said),
        model=tally.model,
        turns=tally.turns,
        input_tokens=tally.input_tokens,
        output_tokens=tally.output_tokens,
        cached_tokens=tally.cached_tokens,
        cost_usd=cost,
        cost_source=source,
        denied=tuple(tally.denied),
        structured=_kept(tally.result, options),
        resets_at=tally.rate_limit_resets_at if limited else None,
    )


def _find(ending: Ending, tally: Tally, options: Mapping[str, Any]) -> Finding:
    """A result that came is judged by itself, however its process ended after it."""
    if tally.result is None or ending.ended_by in ("program_missing", "disk_full"):
        return _without_result(ending, tally)
    finding = (
        _reported_fault(tally.result, tally)
        or _crash_after_result(ending)
        or _unequipped(tally, options)
        or _turns(tally, options)
        or _model(tally, options)
        or _denied(tally, options)
        or _empty(tally.result, options)
        or _not_as_asked(tally.result, options)
    )
    return finding or ("succeeded", "ok", _remarks(ending, tally, options))


def of_process(ending: Ending, tally: Tally) -> Finding | None:
    """What it amounts to, in any kind of session, that a process was ended or crashed. None: it exited by itself."""
    if finding := _ENDED_BY.get(ending.ended_by):
        outcome, reason, sentence = finding
        return outcome, reason, _joined(sentence, ending.message, _last_error(tally))
    if ending.signal:
        return "failed", "crashed", _joined(f"It was killed by {_signal(ending.signal)}.", _last_error(tally))
    return None


def _without_result(ending: Ending, tally: Tally) -> Finding:
    if ending.truncated and not ending.ended_by:
        sentence = "It printed more than is kept, and its result line was not among what was kept."
        return "failed", "truncated", sentence
    if finding := of_process(ending, tally):
        return finding
    sentence = f"It ended with exit code {ending.exit_code} and without a result line."
    return "failed", "no_result", _joined(sentence, _last_error(tally))


def _reported_fault(result: Event, tally: Tally) -> Finding | None:
    data = result.data
    subtype = data.get("subtype", "")
    if subtype == "success" and not data.get("is_error"):
        return None
    status = data.get("status")
    reason = (
        REASON_OF_STOP.get(subtype)
        or REASON_OF_STOP.get(str(data.get("stop", "")))
        or REASON_OF_STATUS.get(status if isinstance(status, int) else 0)
        or REASON_OF_FAULT.get(str(data.get("fault", "")) or tally.fault)
        or ("api_error" if status else "agent_error")
    )
    words = result.text or _last_error(tally) or f"It ended with {subtype or 'an unnamed result'}."
    return "failed", reason, _joined(_clipped(words, 1000), _lifted(reason, tally))


def _crash_after_result(ending: Ending) -> Finding | None:
    if ending.ended_by or not (ending.signal or ending.exit_code):
        return None
    how = f"killed by {_signal(ending.signal)}" if ending.signal else f"exit code {ending.exit_code}"
    return "failed", "crashed", f"It reported success and then crashed ({how})."


def _turns(tally: Tally, options: Mapping[str, Any]) -> Finding | None:
    cap = options.get("max_turns")
    if not cap or tally.turns <= int(cap):
        return None
    return "failed", "max_turns", f"It took {tally.turns} turns; its cap is {cap}."


def _model(tally: Tally, options: Mapping[str, Any]) -> Finding | None:
    if not tally.models and not tally.input_tokens + tally.output_tokens + tally.cached_tokens:
        return "failed", "no_result", "The agent program answered by itself; no model was asked."
    accepted = [str(options.get(name) or "") for name in ("model", "fallback_model")]
    if not accepted[0]:
        return None
    for ran in tally.models:
        if not any(asked and same_model(asked, ran) for asked in accepted):
            return "failed", "model_mismatch", f"{ran} answered; {accepted[0]} was asked for."
    return None


def _denied(tally: Tally, options: Mapping[str, Any]) -> Finding | None:
    if not tally.denied or options.get("tolerate_denied"):
        return None
    tools = "; ".join(dict.fromkeys(tally.denied))
    return "failed", "denied", f"It asked for tools that it may not use: {_clipped(tools, 1000)}"


def _empty(result: Event, options: Mapping[str, Any]) -> Finding | None:
    if result.text.strip() or options.get("allow_empty_result"):
        return None
    return "failed", "no_result", "It ended without an error and without a result text."


def _unequipped(tally: Tally, options: Mapping[str, Any]) -> Finding | None:
    """What the schedule gave it and it did not have: whatever it did instead is not what was asked for."""
    told = [] if not options.get("plugins") else [f"A plugin did not load: {fault}" for fault in tally.plugin_faults]
    if tally.mcp_servers is not None:
        states = {name: tally.mcp_servers.get(name, "not loaded") for name in options.get("mcp_servers") or ()}
        told += [f"The MCP server {name} did not start ({s})." for name, s in states.items() if s != "connected"]
    return ("failed", "unequipped", _joined(*told)) if told else None


def _not_as_asked(result: Event, options: Mapping[str, Any]) -> Finding | None:
    schema = options.get("json_schema")
    problem = structured.output_problem(result.data.get("structured"), schema) if schema else ""
    return ("failed", "invalid_output", problem) if problem else None


def _kept(result: Event | None, options: Mapping[str, Any]) -> Any:
    """What keeps to the schema: whoever reads it can rely on that."""
    asked = result is not None and options.get("json_schema") and not _not_as_asked(result, options)
    return result.data.get("structured") if result and asked else None


def _remarks(ending: Ending, tally: Tally, options: Mapping[str, Any]) -> str:
    """What is worth a sentence though all is well."""
    remarks = []
    asked = str(options.get("model") or "")
    if asked and (others := [ran for ran in tally.models if not same_model(asked, ran)]):
        remarks.append(f"{asked} was not available; it fell back to {', '.join(others)}.")
    if tally.denied:
        remarks.append(f"Denied: {_clipped('; '.join(dict.fromkeys(tally.denied)), 500)}")
    if ending.ended_by == "lingered":
        remarks.append("It went on after its result and was ended.")
    if ending.truncated:
        remarks.append("It printed more than is kept.")
    return " ".join(remarks)


def summary(text: str) -> str:
    """The first sentence or line of a Markdown text, without its marks, at most 200 characters."""
    for line in text.splitlines():
        line = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line)  # a link is its text
        line = re.sub(r"^[\s#>+-]+|\*+|__|`|\s+$", "", line)
        if not re.search(r"\w", line):
            continue
        sentence = re.match(r".+?[.!?](?=\s|$)", line)
        return _clipped(sentence[0] if sentence else line, SUMMARY_LENGTH)
    return ""


def _last_error(tally: Tally) -> str:
    return _clipped(tally.errors[-1], 1000) if tally.errors else ""


def _lifted(reason: str, tally: Tally) -> str:
    if reason != "rate_limited" or tally.rate_limit_resets_at is None:
        return ""
    return f"The limit is lifted at {datetime.fromtimestamp(tally.rate_limit_resets_at, UTC):%Y-%m-%d %H:%M} UTC."


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _joined(*sentences: str) -> str:
    whole = [s if s[-1] in ".!?:…" else f"{s}." for s in map(str.strip, sentences) if s]
    return " ".join(dict.fromkeys(whole))


def _clipped(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
