"""Which fields of a schedule its runner takes. The runners say so; the form shows, offers and keeps no others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from django import forms
from django.conf import settings

from runners import Option, load_runner
from schedules.models import Schedule
from schedules.models.snapshot import OPTION_FIELDS

# Not options, for the runner never reads them: what an agent is asked, and what it goes on with.
_OF_AGENTS = ("command", "prompt", "persistence")
BY_RUNNER = (*_OF_AGENTS, *OPTION_FIELDS)
"""The fields that some runners take and others don't."""


@cache
def _taken(dotted_path: str) -> Mapping[str, Option]:
    runner = load_runner(dotted_path)
    return {**runner.options, **(dict.fromkeys(_OF_AGENTS, Option()) if runner.is_agent else {})}


def _all_taken() -> dict[str, Mapping[str, Option]]:
    return {name: _taken(dotted_path) for name, dotted_path in settings.ROTA_RUNNERS.items()}


def takers(field: str, *, current: str) -> list[str]:
    """The runners that take a field. `current`, where nobody knows it, takes all: its schedule has to be seen whole."""
    known = _all_taken()
    return [*(name for name, taken in known.items() if field in taken), *([] if current in known else [current])]


def describe(fields: Mapping[str, forms.Field], *, current: str) -> None:
    """Tell the page's script, by attributes, who takes which field and which of its choices, and what to suggest."""
    known = _all_taken()
    for name in (name for name in BY_RUNNER if name in fields):
        shown: Any = fields[name].widget
        attributes = getattr(shown, "widget", shown).attrs  # within its related links
        attributes["data-rota-when"] = f"runner={','.join(takers(name, current=current))}"
        attributes["data-rota-usual"] = str(_usual(name) or "")
        options = {runner: taken[name] for runner, taken in known.items() if name in taken}
        if any(option.choices for option in options.values()):
            choices = {runner: list(option.choices) for runner, option in options.items() if option.choices}
            attributes["data-rota-choices"] = json.dumps(choices)
        if any(option.suggestions for option in options.values()):
            attributes["data-rota-suggestions"] = json.dumps({r: list(o.suggestions) for r, o in options.items()})


def suggestions(field: str, *, runner: str) -> tuple[str, ...]:
    return _all_taken().get(runner, {}).get(field, Option()).suggestions


def empty_others(form: forms.ModelForm[Schedule], cleaned: dict[str, Any]) -> list[str]:
    """Give each field that the chosen runner does not take its usual value, and each other one its choices alone.

    Whoever changes the runner must not hunt for what it refuses. Returns the names of the fields that said something.
    """
    taken = _all_taken().get(cleaned.get("runner", ""))
    if taken is None:
        return []
    emptied = []
    for name in (name for name in BY_RUNNER if name in form.fields):
        option = taken.get(name)
        kept = _usual(name) if option is None else _chosen(cleaned.get(name), option)
        is_refused = option is None and form.errors.pop(name, None) is not None
        if is_refused or (name in cleaned and cleaned[name] != kept and (cleaned[name] or kept)):
            emptied.append(name)
        if option is None or name in cleaned:
            cleaned[name] = kept
    return emptied


def _chosen(value: Any, option: Option) -> Any:
    if not option.choices or not value:
        return value
    if isinstance(value, list):
        return [entry for entry in value if entry in option.choices]
    return value if value in option.choices else ""


def _usual(name: str) -> Any:
    return Schedule._meta.get_field(name).get_default()  # type: ignore[union-attr]  # a field of ours


def labels(form: forms.ModelForm[Schedule], names: list[str]) -> str:
    return ", ".join(str(form[name].label) for name in names)
