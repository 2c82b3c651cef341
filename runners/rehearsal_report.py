"""What a rehearsal showed of a schedule: *ready*, or a list of gaps, each with its mend. Pure: events in, report out.

    report = report_on(Rehearsed(options=…, events=…, outcome="succeeded", …))
    report.is_ready, report.gaps

A gap is what would keep a real session from its work, or fail it. A remark is worth knowing and is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from runners import prices
from runners.base import Event

MOST_TEXT: Final = 300  # characters of what a tool said

# Tools of other versions of an agent program: a schedule may name them for either, and is understood.
_OF_OTHER_VERSIONS: Final = frozenset({"Glob", "Grep", "LS", "MultiEdit", "TodoWrite"})
_NO_SUCH_TOOL: Final = "No such tool available"
_RULE: Final = re.compile(r"(?P<tool>[^(]+)(?:\((?P<pattern>.*)\))?", re.DOTALL)

# Reason code of a rehearsal that did not succeed → what to do.
_MENDS: Final[Mapping[str, str]] = {
    "auth": "See whether the rehearsal script is the one that is meant: it refused the made-up key.",
    "budget": "Raise the money limit, or take a smaller model.",
    "denied": "Allow the tools that it needs, or let denied tools be tolerated.",
    "disk_full": "Make room where the workers keep their folders.",
    "fetch_failed": "See whether the workers' machine reaches the forge, and with which key.",
    "invalid_options": "Mend the schedule: its form says what each field takes.",
    "invalid_output": "Give examples in the schema, for a rehearsal makes up what it asks for; or a rehearsal script.",
    "max_turns": "Raise the cap on turns.",
    "model_mismatch": "Name the model that answered, or see why another one did.",
    "no_result": "Ask for a result in the prompt, or let an empty result be a success.",
    "out_of_memory": "Raise ROTA_SESSION_MEMORY_MB where the workers run, or give it less to do.",
    "program_missing": "Install the program where the workers run, or give its path in their settings.",
    "repository_invalid": "Mend the repository's URL or branch.",
    "sandbox_unavailable": "Install bubblewrap where the workers run, or take the sandbox off the schedule.",
    "stalled": "Raise the silence limit.",
    "timed_out": "Raise the time limit.",
    "too_many_processes": "Raise ROTA_SESSION_PROCESSES where the workers run, or let it start fewer.",
    "unequipped": "See why it does not start where the workers run: the transcript tells what it said.",
    "workspace_failed": "See whether the workers may write to their folders.",
}
_FACTS: Final = ("prepared", "credentials", "secrets", "programs", "unreachable")
_SEE_TRANSCRIPT: Final = "Read the transcript of the rehearsal: its last lines tell more."


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """A rehearsal that is over. `started_at_ms`: when its process began, Unix time; None: it never did.

    Of the events, those of Rota's own notes may tell in their `data`: `prepared` (part → seconds), `credentials`
    (names of which a real session needs one, and none is set), `secrets` (those that the schedule names and nobody has
    set), `programs` (those its rules name that are missing) and `unreachable` (what to do so that a real session
    reaches its model).
    """

    options: Mapping[str, Any]
    events: Sequence[Event]
    outcome: str
    reason: str
    message: str = ""
    prompt: str = ""
    model: str = ""  # that the program asked
    limits: Mapping[str, str] = field(default_factory=dict)
    started_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    what: str
    mend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A tool that it asked for. `failed`: it was allowed, and did not work."""

    tool: str  # in words
    outcome: Literal["allowed", "denied", "failed"]
    said: str = ""  # by a tool that failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    gaps: tuple[Gap, ...]
    remarks: tuple[str, ...]
    asked: tuple[Asked, ...]
    not_rehearsed: tuple[str, ...]  # rules for tools that it is allowed and did not ask for
    prompt: str
    model: str
    limits: Mapping[str, str]
    preparation: Mapping[str, float]  # part → seconds

    @property
    def is_ready(self) -> bool:
        return not self.gaps

    @property
    def conclusion(self) -> str:
        if self.is_ready:
            return "Ready."
        return f"Not ready: {len(self.gaps)} gap{'' if len(self.gaps) == 1 else 's'} to mend."


def report_on(rehearsed: Rehearsed) -> Report:
    asked = _asked(rehearsed.events)
    not_rehearsed = tuple(rule for rule in _allowed(rehearsed) if not _was_asked(rule, rehearsed.events))
    return Report(
        gaps=tuple(_gaps(rehearsed, asked)),
        remarks=tuple(_remarks(rehearsed, asked, not_rehearsed)),
        asked=asked,
        not_rehearsed=not_rehearsed,
        prompt=rehearsed.prompt,
        model=_model(rehearsed),
        limits=rehearsed.limits,
        preparation=_preparation(rehearsed),
    )


def _asked(events: Sequence[Event]) -> tuple[Asked, ...]:
    """Each tool use once, in order; also those that the program reports as denied without telling more."""
    returned = {event.data.get("id"): event for event in events if event.kind == "tool_result"}
    denied_ids = {event.data.get("id") for event in events if event.kind == "error" and event.data.get("denied")}
    denied = _denied(events)
    found: dict[str, Asked] = {}
    for event in (event for event in events if event.kind == "tool_use"):
        answer = returned.get(event.data.get("id"))
        if event.data.get("id") in denied_ids or event.text in denied:
            found[event.text] = Asked(tool=event.text, outcome="denied")
        elif answer and answer.data.get("is_error"):
            found[event.text] = Asked(tool=event.text, outcome="failed", said=answer.text[:MOST_TEXT].strip())
        else:
            found.setdefault(event.text, Asked(tool=event.text, outcome="allowed"))
    names = {use.tool.partition(":")[0] for use in found.values() if use.outcome == "denied"}
    for tool in denied:
        if tool not in found and tool not in names:
            found[tool] = Asked(tool=tool, outcome="denied")
    return tuple(found.values())


def _denied(events: Sequence[Event]) -> list[str]:
    """Tools that were refused, in words; what the result line tells of them goes before what came by the way."""
    for event in reversed(events):
        if event.kind == "result" and "denied" in event.data:
            return [str(tool) for tool in event.data["denied"]]
    return [str(event.data["denied"]) for event in events if event.kind == "error" and event.data.get("denied")]


def _gaps(rehearsed: Rehearsed, asked: Sequence[Asked]) -> Iterator[Gap]:
    tolerated = rehearsed.options.get("tolerate_denied")
    for use in asked:
        if use.outcome == "denied" and not tolerated:
            yield Gap(f"It asked for a tool that it may not use. {use.tool}", _allowing(use.tool))
        elif use.outcome == "failed" and _NO_SUCH_TOOL in use.said:
            yield Gap(f"The agent program has no such tool. {use.tool}", "See the names of its tools, and its version.")
        elif use.outcome == "failed":
            mend = "See whether what it needs is installed, and on the PATH of sessions (ROTA_SESSION_PATH)."
            yield Gap(f"A tool did not work. {use.tool}: {use.said}", mend)
    yield from _missing(rehearsed)
    told_already = rehearsed.reason == "denied" and any(use.outcome == "denied" for use in asked)
    if rehearsed.outcome != "succeeded" and not told_already:
        what = rehearsed.message or f"The rehearsal ended as {rehearsed.outcome}."
        yield Gap(what, _MENDS.get(rehearsed.reason, _SEE_TRANSCRIPT))


def _missing(rehearsed: Rehearsed) -> Iterator[Gap]:
    """What is not there: tools, programs, credentials, a way to the model."""
    for tool in _unknown_tools(rehearsed):
        mend = "Correct its name, or make it known to the program; or take it off the list."
        yield Gap(f"{tool} is allowed, and the agent program has no such tool.", mend)
    facts = _facts(rehearsed.events)
    for program in facts.get("programs", ()):
        yield Gap(
            f"{program} is allowed as a command, and is not on the PATH of sessions.",
            "Install it where the workers run, or add its folder to ROTA_SESSION_PATH.",
        )
    for secret in facts.get("secrets", ()):
        yield Gap(
            f"There is no secret “{secret}”: a session that is not rehearsed would be refused.",
            f"Set it in the console, or with bin/manage secret set {secret}.",
        )
    if names := facts.get("credentials"):
        yield Gap(
            "There is no key to a real model: a session that is not rehearsed would be refused.",
            f"Set {' or '.join(map(str, names))} where the workers run.",
        )
    if how := facts.get("unreachable"):
        yield Gap("In its sandbox a session that is not rehearsed could not reach its model.", str(how))


def _remarks(rehearsed: Rehearsed, asked: Sequence[Asked], not_rehearsed: Sequence[str]) -> Iterator[str]:
    if rehearsed.options.get("tolerate_denied") and any(use.outcome == "denied" for use in asked):
        yield "It asked for tools that it may not use; the schedule tolerates that."
    if not_rehearsed:
        rules = ", ".join(not_rehearsed)
        yield f"Not rehearsed, for what it does outside can't be known or taken back: {rules}"
    if rehearsed.options.get("max_turns") is None:
        yield "There is no cap on turns."
    if rehearsed.options.get("max_budget_usd") is None:
        yield "There is no money limit."
    model = _model(rehearsed)
    if model and prices.price_of(model) is None:
        yield f"The price table of {prices.newest():%Y-%m-%d} has no price of {model}."


def _allowed(rehearsed: Rehearsed) -> list[str]:
    return [str(rule) for rule in rehearsed.options.get("allowed_tools") or () if rule not in _OF_OTHER_VERSIONS]


def _unknown_tools(rehearsed: Rehearsed) -> Iterator[str]:
    told = next((event.data.get("tools") for event in rehearsed.events if event.kind == "init"), None)
    if not told:
        return
    for rule in _allowed(rehearsed):
        tool = _parts(rule)[0]
        if not any(name == tool or (tool.endswith("*") and name.startswith(tool[:-1])) for name in told):
            yield tool


def _was_asked(rule: str, events: Sequence[Event]) -> bool:
    """Whether a use of the tool was asked for that this rule is about."""
    tool, pattern = _parts(rule)
    begin = re.split(r"[*:]", pattern)[0].strip()
    for event in events:
        if event.kind != "tool_use" or event.data.get("name") != tool:
            continue
        given = event.data.get("input")
        command = str(given.get("command", "")) if isinstance(given, Mapping) else ""
        if tool != "Bash" or command.startswith(begin):
            return True
    return False


def _parts(rule: str) -> tuple[str, str]:
    """The tool of a rule and its pattern: `Bash(git log *)`."""
    match = _RULE.fullmatch(rule)
    return (match["tool"].strip(), match["pattern"] or "") if match else (rule, "")


def _allowing(tool: str) -> str:
    name, _, what = tool.partition(": ")
    rule = f"Bash({what.split(' ')[0]} *), say," if name == "Bash" and what else name
    return f"Add {rule} to the allowed tools if it may be used; else tell it in the prompt to do without."


def _facts(events: Sequence[Event]) -> dict[str, Any]:
    """What Rota's own notes tell of the session."""
    facts: dict[str, Any] = {}
    for event in events:
        if event.kind == "note":
            facts |= {name: event.data[name] for name in _FACTS if name in event.data}
    return facts


def _preparation(rehearsed: Rehearsed) -> dict[str, float]:
    """Seconds of each part, up to the agent program's first word."""
    parts = dict(_facts(rehearsed.events).get("prepared", {}))
    first = next((event.at_ms for event in rehearsed.events if event.kind == "init"), None)
    if first is not None and rehearsed.started_at_ms is not None:
        parts["start"] = round(max(0, first - rehearsed.started_at_ms) / 1000, 2)
    return parts


def _model(rehearsed: Rehearsed) -> str:
    """The model that a session asks: what the program said, else what the schedule's name for it stands for."""
    told = next((str(event.data.get("model") or "") for event in rehearsed.events if event.kind == "init"), "")
    return told or rehearsed.model or prices.resolve(str(rehearsed.options.get("model") or ""))
