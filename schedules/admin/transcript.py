"""A session's events as entries of its transcript. The same entries serve the page and the live stream."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from schedules.models import SessionEvent
from schedules.rendering.display import pretty
from schedules.rendering.visible import shorten, visible

_NOT_SHOWN = frozenset({"usage"})  # the head of the page has the sums
_TELLING = ("command", "file_path", "path", "pattern", "url", "query", "description", "prompt")
_SHORT = 140
MARKDOWN_AT_ONCE = 100_000
"""Characters of Markdown that are rendered for one page, or one message of the stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing of a transcript: `head` in one line; `body` below it, folded unless `is_open`."""

    seq: int
    at: datetime
    kind: str
    head: str
    body: str = ""
    is_markdown: bool = False
    is_error: bool = False
    is_open: bool = False


def entries(events: Iterable[SessionEvent]) -> list[Entry]:
    """Those that are shown. Markdown is rendered up to a bound in all, and shown as it is after that."""
    made: list[Entry] = []
    left = MARKDOWN_AT_ONCE
    for event in events:
        if event.kind in _NOT_SHOWN:
            continue
        entry = _entry(event)
        if entry.is_markdown:
            left -= len(entry.body)
            entry = entry if left >= 0 else replace(entry, is_markdown=False)
        made.append(entry)
    return made


def to_html(events: Iterable[SessionEvent]) -> SafeString:
    return render_to_string("admin/schedules/session/entries.html", {"entries": entries(events)})


def _entry(event: SessionEvent) -> Entry:
    data: Mapping[str, Any] = event.data if isinstance(event.data, dict) else {}
    made = _MADE.get(event.kind, _line)(visible(event.text), data)
    if made.get("body", "").strip() == made["head"]:
        made["body"] = ""  # one line says it all
    return Entry(seq=event.seq, at=event.at, kind=event.kind, **made)


def _line(text: str, data: Mapping[str, Any]) -> dict[str, Any]:
    return {"head": text or (shorten(visible(pretty(data)), _SHORT) if data else "")}


def _text(text: str, data: Mapping[str, Any]) -> dict[str, Any]:
    return {"head": "", "body": text, "is_markdown": True, "is_open": True}


def _thinking(text: str, data: Mapping[str, Any]) -> dict[str, Any]:
    return {"head": shorten(text, _SHORT), "body": text}


def _init(text: str, data: Mapping[str, Any]) -> dict[str, Any]:
    tools = data.get("tools")
    facts = [text]
    if not text:
        version = f"version {data['version']}" if data.get("version") else ""
        facts = ["Started", str(data.get("model") or ""), version]
    if isinstance(tools, list):
        facts.append(f"{len(tools)} tools")
    return {"head": visible(" · ".join(fact for fact in facts if fact))}


def _tool_use(text: str, data: Mapping[str, Any]) -> dict[str, Any]:
    given = data.get("input")
    name = str(data.get("name") or text or "tool")
    return {"head": visible(f"{name} {_told(given)}".strip()), "body": visible(pretty(given)) if given else ""}


def _told(given: Any) -> str:
    """What a tool was asked for, in a few words."""
    if not isinstance(given, dict):
        return shorten(str(given or ""), _SHORT)
    telling = next((given[name] for name in _TELLING if isinstance(given.get(name), str)), None)
    return shorten(telling or (json.dumps(given, ensure_ascii=False) if given else ""), _SHORT)


def _tool_result(text: str, data: Mapping[str, Any]) -> dict[str, Any]:
    is_error = bool(data.get("is_error"))
    first = text.strip().partition("\n")[0]
    return {"head": shorten(first, _SHORT) or "(nothing)", "body": text, "is_error": is_error, "is_open": is_error}


def _failure(text: str, data: Mapping[str, Any]) -> dict[str, Any]:
    first, _, rest = text.partition("\n")
    return {"head": first or "Error", "body": rest, "is_error": True, "is_open": True}


def _result(text: str, data: Mapping[str, Any]) -> dict[str, Any]:
    is_error = bool(data.get("is_error"))
    how = str(data.get("subtype") or ("error" if is_error else "success")).replace("_", " ")
    return {
        "head": visible(f"Result: {how}"),
        "body": text,
        "is_markdown": True,
        "is_error": is_error,
        "is_open": is_error,
    }


_MADE = {
    "text": _text,
    "thinking": _thinking,
    "init": _init,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
    "error": _failure,
    "limit": _failure,
    "result": _result,
}
