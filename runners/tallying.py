"""From an agent's events to what they add up to: the live counters, and what the verdict is made from. Pure.

Every agent's `read` fills the events' data with the same names, so that this is written once:

    init        model, agent_session_id, version, mcp_servers (name → how it is), plugin_faults
    usage       answer_id, model, input_tokens, output_tokens, cached_tokens, subagent; of the cached ones
                cache_write_tokens and of these cache_write_1h_tokens; said_tokens (see `runners.reckoning`)
    error       fault (and status), or denied (a tool, in words)
    rate_limit  status, resets_at, overage (it is paid for beyond it), model (it is of this one alone)
    note        ran (a model that answered instead of another, where the program tells it beside its answers)
    result      subtype, is_error, status, stop, fault, cost_usd, input_tokens, output_tokens, cached_tokens, denied,
                structured (the result as JSON)
"""

from __future__ import annotations

from typing import Final

from runners import reckoning
from runners.base import Event, Tally

ERRORS_KEPT: Final = 20


def add(tally: Tally, event: Event) -> None:
    """Fold one event in. The same log folded again from its start gives the same tally."""
    tally.events += 1
    fold = _FOLDS.get(event.kind)
    if fold is not None:
        fold(tally, event)


def _init(tally: Tally, event: Event) -> None:
    tally.model = tally.model or str(event.data.get("model", ""))
    tally.agent_session_id = str(event.data.get("agent_session_id", ""))
    tally.program_version = str(event.data.get("version", ""))
    if "mcp_servers" in event.data:
        tally.mcp_servers = dict(event.data["mcp_servers"])
    tally.plugin_faults = [str(fault) for fault in event.data.get("plugin_faults", ())]
    tally.activity = "waiting for the model"


def _output(tally: Tally, event: Event) -> None:
    """Of a script or function: what it printed last is what it does."""
    if event.text.strip():
        tally.activity = event.text.strip()[:200]


def _text(tally: Tally, event: Event) -> None:
    tally.activity = "writing"
    if not event.data.get("subagent"):
        tally.last_text = event.text


def _thinking(tally: Tally, event: Event) -> None:
    tally.activity = "thinking"


def _tool_use(tally: Tally, event: Event) -> None:
    tally.activity = event.text


def _tool_result(tally: Tally, event: Event) -> None:
    tally.activity = "waiting for the model"


def _usage(tally: Tally, event: Event) -> None:
    """One answer of the model comes as several lines with the same id and the same usage: count it once."""
    data = event.data
    answer = str(data.get("answer_id", ""))
    reckoning.charge(tally, data)
    if answer in tally.answers:
        return
    tally.answers.add(answer)
    tally.fault = ""
    if data.get("subagent"):
        return
    tally.turns += 1
    _ran(tally, str(data.get("model", "")) or tally.model)


def _ran(tally: Tally, model: str) -> None:
    tally.model = model
    if model not in tally.models:
        tally.models.append(model)


def _note(tally: Tally, event: Event) -> None:
    if ran := str(event.data.get("ran", "")):
        _ran(tally, ran)


def _rate_limit(tally: Tally, event: Event) -> None:
    """Where usage beyond the quota is paid for (`overage`), a rejection stops nobody."""
    rejected = event.data.get("status") == "rejected" and not event.data.get("overage")
    if event.data.get("resets_at") and rejected:
        tally.rate_limit_resets_at = int(event.data["resets_at"])
        tally.rate_limit_model = str(event.data.get("model", ""))


def _error(tally: Tally, event: Event) -> None:
    if denied := event.data.get("denied"):
        tally.denied.append(str(denied))
        return
    tally.fault = str(event.data.get("fault", "")) or tally.fault
    tally.activity = event.text
    _keep(tally.errors, event.text)


def _stderr(tally: Tally, event: Event) -> None:
    _keep(tally.errors, event.text)


def _result(tally: Tally, event: Event) -> None:
    data = event.data
    tally.result = event
    tally.activity = ""
    if data.get("cost_known", True):
        tally.reported_usd = float(data.get("cost_usd", 0.0))
    if "input_tokens" in data:  # what came by the way was not final
        tally.input_tokens = int(data["input_tokens"])
        tally.output_tokens = int(data["output_tokens"])
        tally.cached_tokens = int(data["cached_tokens"])
    if "denied" in data:  # the whole record of it; what came by the way may lack some
        tally.denied = [str(tool) for tool in data["denied"]]


_FOLDS = {
    "init": _init,
    "output": _output,
    "text": _text,
    "thinking": _thinking,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
    "usage": _usage,
    "note": _note,
    "rate_limit": _rate_limit,
    "error": _error,
    "stderr": _stderr,
    "result": _result,
}


def _keep(errors: list[str], text: str) -> None:
    if text.strip() and text not in errors[-1:]:
        errors.append(text)
        del errors[:-ERRORS_KEPT]
