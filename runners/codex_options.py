"""What a schedule can choose for Codex, and what is wrong with a choice."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from runners import mcp_servers, rehearsals, structured
from runners.base import Option
from runners.options import not_chosen, not_taken
from runners.scripted_model import ScriptInvalid

ARGUMENT_BYTES: Final = 100_000  # one argument of a program can't be longer than 128 KiB

# Permission mode → what its sandbox lets a command write. It reads all that the worker's user can read, and has no
# network. What it refuses is refused: nobody is asked.
MODES: Final[Mapping[str, str]] = {
    "dontAsk": "workspace-write",
    "acceptEdits": "workspace-write",
    "plan": "read-only",
}
# Options of a schedule that Codex has nothing for → what to do.
NOT_KNOWN: Final[Mapping[str, str]] = {
    "fallback_model": "Codex takes no other model than the one it is given. Leave this empty.",
    "allowed_tools": "Codex knows no list of tools: the permission mode says what it may write. Leave this empty.",
    "disallowed_tools": "Codex knows no list of tools: the permission mode says what it may write. Leave this empty.",
    "agents": "Codex knows no subagents of a schedule. Leave this empty.",
    "plugins": "Codex loads no plugins in a session. Leave this empty.",
    "max_turns": "Codex knows no cap on turns. Leave this empty, and limit the session's time.",
    "max_budget_usd": "Codex does not reckon what it spends. Leave this empty, and limit the session's time.",
}

OPTIONS: Final[Mapping[str, Option]] = {
    "model": Option(suggestions=("gpt-6-luna", "gpt-5.5")),
    "effort": Option(choices=("low", "medium", "high", "xhigh")),
    "permission_mode": Option(choices=tuple(MODES)),
    "append_system_prompt": Option(),
    "setting_sources": Option(choices=("project",)),
    "mcp_servers": Option(),
    "json_schema": Option(),
    "allow_empty_result": Option(),
    "tolerate_denied": Option(),
    "rehearsal_script": Option(),
}

_MODEL = re.compile(r"[A-Za-z0-9][\w.:/-]*")


def problems(options: Mapping[str, Any]) -> dict[str, str]:
    """Option → a sentence that says what to do. Empty when all is well."""
    found = not_taken(options, OPTIONS, runner="codex", instead=NOT_KNOWN)
    for check in _CHECKS:
        found |= check(options)
    return found


def _model_problems(options: Mapping[str, Any]) -> dict[str, str]:
    model = options.get("model") or ""
    if not model:
        return {"model": "Name a model, such as gpt-6-luna."}
    if not isinstance(model, str) or not _MODEL.fullmatch(model):
        return {"model": f"{model!r} is no model's name."}
    return {}


def _mode_problems(options: Mapping[str, Any]) -> dict[str, str]:
    mode = options.get("permission_mode") or "dontAsk"
    return {} if mode in MODES else {"permission_mode": f"{mode!r} is none of {', '.join(MODES)}."}


def _text_problems(options: Mapping[str, Any]) -> dict[str, str]:
    text = options.get("append_system_prompt") or ""
    if not isinstance(text, str) or "\0" in text or len(text.encode()) > ARGUMENT_BYTES:
        return {"append_system_prompt": f"Give a text of at most {ARGUMENT_BYTES // 1000} kB."}
    return {}


def _other_problems(options: Mapping[str, Any]) -> dict[str, str]:
    problems = {}
    sources = options.get("setting_sources") or ()
    if not isinstance(sources, list | tuple) or set(sources) - {"project"}:
        problems["setting_sources"] = "Choose project or none: a session of Codex has no other settings to load."
    if (schema := options.get("json_schema")) and (problem := structured.schema_problem(schema)):
        problems["json_schema"] = problem
    if problem := _mcp_problem(options.get("mcp_servers") or {}, trusted="project" in sources):
        problems["mcp_servers"] = problem
    try:
        rehearsals.script(options.get("rehearsal_script") or [])
    except ScriptInvalid as error:
        problems["rehearsal_script"] = str(error)
    return problems


def _mcp_problem(servers: Any, *, trusted: bool) -> str:
    """Codex fills in no variables: it hands them on, and as a whole."""
    if problem := mcp_servers.problem(servers, trusted=trusted):
        return problem
    for name, server in servers.items():
        if mcp_servers.kind_of(server) == "sse":
            return f"{name}: Codex knows stdio and http."
        if mcp_servers.variables(server.get("url", "")):
            return f"{name}: Codex fills no variable into a url: hand it over in a header."
        for key, text in server.get("env", {}).items():
            if "${" in text and text != f"${{{key}}}":
                return f"{name}: Codex hands a variable on as it is, under its own name: write {key}: ${{{key}}}."
        for key, text in server.get("headers", {}).items():
            if "${" in text and not _handed_over(key, text):
                return f"{name}: For Codex a header is a whole variable, or Authorization is “Bearer ${{NAME}}”: {key}."
    return ""


def mcp_server(server: Mapping[str, Any]) -> dict[str, Any]:
    """A server in Codex's own words. A schedule that names it means it to be used: Codex knows no list of tools."""
    settings: dict[str, Any] = {"required": True, "default_tools_approval_mode": "approve"}
    if mcp_servers.kind_of(server) == "stdio":
        env = server.get("env", {})
        literal = {key: text for key, text in env.items() if "${" not in text}
        handed = [key for key in env if key not in literal]
        program = {"command": server["command"], "args": server.get("args", [])}
        return {**settings, **program, "env": literal, "env_vars": handed}
    headers = server.get("headers", {})
    found: dict[str, Any] = {**settings, "url": server["url"], "http_headers": {}, "env_http_headers": {}}
    for key, text in headers.items():
        name = _handed_over(key, text)
        if name and text.startswith("Bearer "):
            found["bearer_token_env_var"] = name
        elif name:
            found["env_http_headers"][key] = name
        else:
            found["http_headers"][key] = text
    return found


def _handed_over(header: str, text: str) -> str:
    """The variable that a header is, as Codex can take it over; else an empty text."""
    prefix = "(?:Bearer )?" if header.lower() == "authorization" else ""
    found = re.fullmatch(prefix + r"\$\{(\w+)\}", text)
    return found[1] if found else ""


def _choice_problems(options: Mapping[str, Any]) -> dict[str, str]:
    return not_chosen(options, OPTIONS)


_CHECKS: Final = (_choice_problems, _model_problems, _mode_problems, _text_problems, _other_problems)
