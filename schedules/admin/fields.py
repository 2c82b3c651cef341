"""Form fields that let people write lists, pairs and durations as they would on paper."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminExpandableTextareaWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from schedules.rendering import durations

LONGEST = timedelta(days=3650)
"""The longest duration that a field takes: a database can't hold every one that can be written."""


class LinesWidget(UnfoldAdminExpandableTextareaWidget):
    """Grows with its text; set in a fixed width, for each line is an entry of its own."""

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        attrs = {"rows": 2, "spellcheck": "false", **(attrs or {})}
        attrs["class"] = f"rota-mono {attrs.get('class', '')}".strip()
        super().__init__(attrs)


class SuggestingInput(UnfoldAdminTextInputWidget):
    """A text input with a list of suggestions; anything else may be typed."""

    template_name = "rota/suggesting_input.html"  # of the app: forms see no other

    def __init__(
        self, suggestions: Callable[[], Iterable[str]] | Iterable[str] = (), attrs: dict[str, Any] | None = None
    ) -> None:
        super().__init__(attrs)
        self.suggestions = suggestions

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        context["widget"]["attrs"]["list"] = f"suggestions-{name}"
        context["suggestions"] = self.suggestions() if callable(self.suggestions) else self.suggestions
        return context


class LinesField(forms.CharField):
    """A list of texts, one in a line. A text that no line can hold is written, with all others, as a JSON list."""

    widget = LinesWidget

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"required": False, "strip": False, "empty_value": [], **kwargs})

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        text = "\n".join(str(entry) for entry in value)
        return text if _lines(text) == value else json.dumps(value, ensure_ascii=False, indent=1)

    def to_python(self, value: Any) -> Any:
        if isinstance(value, list):
            return value
        return _lines(value or "")

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.to_python(data) != (initial or []))


def _lines(text: str) -> list[str]:
    listed = _json(text, list)
    if listed is not None:
        return [entry if isinstance(entry, str) else json.dumps(entry) for entry in listed]
    return [line.strip() for line in text.splitlines() if line.strip()]


def _json(text: str, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
    """The list or object that the text is in JSON, or None."""
    if not text.lstrip().startswith("[" if kind is list else "{"):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, kind) else None


class PairsField(forms.CharField):
    """Names and texts, `NAME=value` in a line; or a JSON object, where a value has several lines."""

    widget = LinesWidget

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"required": False, "strip": False, "empty_value": {}, **kwargs})

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        text = "\n".join(f"{name}={content}" for name, content in value.items())
        try:
            kept = _pairs(text) == value
        except ValidationError:
            kept = False
        return text if kept else json.dumps(value, ensure_ascii=False, indent=1)

    def to_python(self, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        return _pairs(value or "")

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(data) != (initial or {}))
        except ValidationError:
            return True


def _pairs(text: str) -> dict[str, Any]:
    given = _json(text, dict)
    if given is not None:
        return dict(given)
    pairs: dict[str, Any] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, equals, content = line.partition("=")
        name = name.strip()
        if not equals:
            raise ValidationError(f"Line {number}: write NAME=value.")
        if name in pairs:
            raise ValidationError(f"Line {number}: {name} is there twice.")
        pairs[name] = content
    return pairs


class StructureField(forms.JSONField):
    """JSON, indented; an empty text is an empty object or list (`empty`)."""

    widget = LinesWidget

    def __init__(self, *, empty: type[dict[str, Any]] | type[list[Any]], **kwargs: Any) -> None:
        self.empty = empty
        super().__init__(**{"required": False, **kwargs})

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return value
        return json.dumps(value, ensure_ascii=False, indent=2) if value else ""

    def bound_data(self, data: Any, initial: Any) -> Any:
        return data

    def to_python(self, value: Any) -> Any:
        found = super().to_python(value)
        return self.empty() if found is None else found

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(data) != (initial or self.empty()))
        except ValidationError:
            return True


class HumanDurationField(forms.CharField):
    """A duration such as `30m`, `1h 30m` or `00:30:00`. `empty`: what nothing stands for."""

    widget = UnfoldAdminTextInputWidget

    def __init__(self, *, empty: timedelta | None = None, **kwargs: Any) -> None:
        self.empty = empty
        super().__init__(**kwargs)

    def prepare_value(self, value: Any) -> Any:
        return durations.write(value) if isinstance(value, timedelta) else value

    def to_python(self, value: Any) -> Any:
        if isinstance(value, timedelta):
            return value
        if value is None or not value.strip():
            return self.empty
        try:
            duration = durations.parse(value)
        except ValueError as error:
            raise ValidationError(str(error)) from error
        except OverflowError:
            duration = timedelta.max
        if duration > LONGEST:
            raise ValidationError("That is too long.")
        return duration

    def validate(self, value: Any) -> None:
        if self.required and value is None:
            raise ValidationError(self.error_messages["required"], code="required")

    def run_validators(self, value: Any) -> None:
        """CharField's look at texts; the model knows the limits of a duration."""

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(data) != initial)
        except ValidationError:
            return True


class NamedChoiceField(forms.ChoiceField):
    """One of the names that a setting has; the row's own stays on offer, so that the model can say what is wrong."""

    widget = UnfoldAdminSelectWidget

    def offer(self, names: Iterable[str], *, current: str = "", empty: str = "") -> list[str]:
        """Set the choices; returns the names among them."""
        offered = list(names)
        if current and current not in offered:
            offered.append(current)
        self.choices = [*([("", empty)] if empty else []), *((name, name) for name in offered)]
        return offered


@cache
def time_zones() -> list[str]:
    """Zones for people: a place each, and UTC."""
    return ["UTC", *sorted(name for name in available_timezones() if _is_place(name))]


def _is_place(name: str) -> bool:
    area, slash, _ = name.partition("/")
    return bool(slash) and area not in ("Etc", "SystemV", "US", "posix", "right")
