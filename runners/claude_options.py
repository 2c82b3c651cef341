"""What a schedule can choose for Claude Code, and what is wrong with a choice."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from runners import mcp_servers, plugins, rehearsals, structured
from runners.base import Option
from runners.options import not_chosen, not_taken
from runners.scripted_model import ScriptInvalid

ARGUMENT_BYTES: Final = 100_000  # one argument of a program can't be longer than 128 KiB

PERMISSION_MODES: Final = ("dontAsk", "acceptEdits", "plan", "auto")
REFUSED_MODES: Final[Mapping[str, str]] = {
    "bypassPermissions": "It lets the agent do anything on this machine as the worker's user. "
    "Use dontAsk and name what is allowed under allowed tools.",
    "manual": "It asks a person, and nobody is there. Use dontAsk.",
    "default": "It asks a person, and nobody is there. Use dontAsk.",
}
MODELS: Final = ("haiku", "sonnet", "opus")

OPTIONS: Final[Mapping[str, Option]] = {
    "model": Option(suggestions=MODELS),
    "fallback_model": Option(suggestions=MODELS),
    "effort": Option(choices=("low", "medium", "high", "xhigh", "max")),
    "permission_mode": Option(),  # its own sentences say which
    "allowed_tools": Option(),
    "disallowed_tools": Option(),
    "max_turns": Option(),
    "max_budget_usd": Option(),
    "append_system_prompt": Option(),
    "agents": Option(),
    "setting_sources": Option(choices=("user", "project", "local")),
    "plugins": Option(),
    "plugin_folders": Option(),  # the worker's setting
    "mcp_servers": Option(),
    "json_schema": Option(),
    "allow_empty_result": Option(),
    "tolerate_denied": Option(),
    "rehearsal_script": Option(),
}

_MODEL = re.compile(r"[A-Za-z0-9][\w.:/@\[\]-]*")
_TOOL_RULE = re.compile(r"[A-Za-z][\w.:-]*\*?(\([^\n]+\))?")
_AGENT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,60}")
_AGENT_KEYS = frozenset({"description", "prompt", "tools", "disallowedTools", "model"})


def problems(options: Mapping[str, Any]) -> dict[str, str]:
    """Option → a sentence that says what to do. Empty when all is well."""
    found = not_taken(options, OPTIONS, runner="claude")
    for check in _CHECKS:
        found |= check(options)
    return found


def _model_problems(options: Mapping[str, Any]) -> dict[str, str]:
    problems = {}
    model, fallback = options.get("model") or "", options.get("fallback_model") or ""
    if not model:
        problems["model"] = "Name a model: an alias such as haiku, sonnet or opus, or a full model id."
    elif not isinstance(model, str) or not _MODEL.fullmatch(model) or model == "default":
        problems["model"] = f"{model!r} is no model's name. Use an alias such as haiku, or a full model id."
    if fallback and (not isinstance(fallback, str) or not _MODEL.fullmatch(fallback)):
        problems["fallback_model"] = f"{fallback!r} is no model's name."
    elif fallback and str(fallback).lower() == str(model).lower():
        problems["fallback_model"] = "It is the same as the model. Name another one, or none."
    return problems


def _mode_problems(options: Mapping[str, Any]) -> dict[str, str]:
    mode = options.get("permission_mode") or "dontAsk"
    if mode in REFUSED_MODES:
        return {"permission_mode": REFUSED_MODES[mode]}
    if mode not in PERMISSION_MODES:
        return {"permission_mode": f"{mode!r} is none of {', '.join(PERMISSION_MODES)}."}
    if mode == "plan" and options.get("model") == "haiku":
        return {"model": "In plan mode Claude Code asks Sonnet when it is given `haiku`. Use a full model id."}
    return {}


def _tool_problems(options: Mapping[str, Any]) -> dict[str, str]:
    problems = {}
    for field in ("allowed_tools", "disallowed_tools"):
        rules = options.get(field) or ()
        if not isinstance(rules, list | tuple):
            problems[field] = "Give a list, for example Read, Edit, Bash(git log:*)."
        elif wrong := [str(rule) for rule in rules if not _is_rule(rule)]:
            problems[field] = f"Not a tool or a rule such as Bash(git log:*): {', '.join(wrong)}"
    return problems


def _is_rule(rule: object) -> bool:
    if not isinstance(rule, str) or not _TOOL_RULE.fullmatch(rule):
        return False
    depth = 0
    for character in rule:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return False
    return depth == 0


def _limit_problems(options: Mapping[str, Any]) -> dict[str, str]:
    problems = {}
    turns, budget = options.get("max_turns"), options.get("max_budget_usd")
    if turns is not None and (not isinstance(turns, int) or isinstance(turns, bool) or turns < 1):
        problems["max_turns"] = "Give a whole number, 1 or more, or nothing for no cap."
    if budget is not None and not _is_positive(budget):
        problems["max_budget_usd"] = "Give an amount in US dollars above 0, or nothing for no cap."
    return problems


def _is_positive(amount: object) -> bool:
    try:
        value = Decimal(str(amount))
    except InvalidOperation:
        return False
    return value.is_finite() and value > 0


def _other_problems(options: Mapping[str, Any]) -> dict[str, str]:
    problems = {}
    sources = options.get("setting_sources") or ()
    if not isinstance(sources, list | tuple):
        problems["setting_sources"] = "Give a list of user, project, local, or none."
    prompt = options.get("append_system_prompt") or ""
    if not isinstance(prompt, str) or "\0" in prompt or len(prompt.encode()) > ARGUMENT_BYTES:
        problems["append_system_prompt"] = f"Give a text of at most {ARGUMENT_BYTES // 1000} kB."
    try:
        rehearsals.script(options.get("rehearsal_script") or [])
    except ScriptInvalid as error:
        problems["rehearsal_script"] = str(error)
    return problems


def _equipment_problems(options: Mapping[str, Any]) -> dict[str, str]:
    trusted = "project" in (options.get("setting_sources") or ())
    folders = options.get("plugin_folders") or ()
    schema = options.get("json_schema")
    found = {
        "plugins": plugins.problem(options.get("plugins") or (), folders=folders, trusted=trusted),
        "mcp_servers": mcp_servers.problem(options.get("mcp_servers") or {}, trusted=trusted),
        "agents": _agents_problem(options.get("agents") or {}),
        "json_schema": structured.schema_problem(schema) if schema else "",
    }
    return {field: text for field, text in found.items() if text}


def _agents_problem(agents: object) -> str:
    example = '{"reviewer": {"description": "Reviews code", "prompt": "You review code."}}'
    if not isinstance(agents, Mapping):
        return f"Give a JSON object, such as {example}."
    if len(json.dumps(agents).encode()) > ARGUMENT_BYTES:
        return f"They are longer than {ARGUMENT_BYTES // 1000} kB."
    for name, agent in agents.items():
        if not _AGENT_NAME.fullmatch(name) or not isinstance(agent, Mapping):
            return f"“{name}” is no subagent. Write it such as {example}."
        if unknown := sorted(map(str, set(agent) - _AGENT_KEYS)):
            return f"{name}: {', '.join(unknown)}: is nothing that a subagent can be given here."
        if not all(isinstance(agent.get(key), str) and agent[key].strip() for key in ("description", "prompt")):
            return f"{name}: Give it a description and a prompt."
        rules = [*_listed(agent.get("tools")), *_listed(agent.get("disallowedTools"))]
        if wrong := [str(rule) for rule in rules if not _is_rule(rule)]:
            return f"{name}: Not a tool or a rule such as Bash(git log:*): {', '.join(wrong)}"
        model = agent.get("model", "inherit")
        if not isinstance(model, str) or not _MODEL.fullmatch(model):
            return f"{name}: {model!r} is no model's name."
    return ""


def _listed(value: object) -> list[object]:
    """The entries of a list; what is none is an entry that is no rule."""
    return list(value) if isinstance(value, list) else [] if value is None else [value, None]


def _choice_problems(options: Mapping[str, Any]) -> dict[str, str]:
    return not_chosen(options, OPTIONS)


_CHECKS: Final = (
    _model_problems,
    _mode_problems,
    _tool_problems,
    _limit_problems,
    _choice_problems,
    _other_problems,
    _equipment_problems,
)
