"""Nodes of YAML become values of model fields. Each reader raises Unreadable with a sentence that says the mend.

Texts are taken as they are written: `7`, `on` and `0.50` stay what the person typed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django.db import models
from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Reader = Callable[[Node], Any]

_DURATION = re.compile(
    r"(?:(?P<days>\d{1,5})d)?\s*(?:(?P<hours>\d{1,6})h)?\s*(?:(?P<minutes>\d{1,7})m)?\s*(?:(?P<seconds>\d{1,8})s)?"
)
_OF_ANY_SHAPE = frozenset({"agents", "arguments", "json_schema", "mcp_servers", "rehearsal_script"})
_PLAIN = frozenset({"str", "int", "float", "bool", "null", "timestamp", "seq", "map"})


class Unreadable(ValueError):
    """A value that is not of its kind. `node` is where, when it lies deeper than the value itself."""

    def __init__(self, message: str, node: Node | None = None) -> None:
        super().__init__(message)
        self.node = node


def duration(text: str) -> timedelta:
    """`90s`, `30m`, `1h 30m`, `2d` as a time span. Raises Unreadable."""
    match = _DURATION.fullmatch(text.strip())
    parts = {unit: int(count) for unit, count in match.groupdict().items() if count} if match else {}
    if not parts:
        unit = " Say its unit." if text.strip().isdecimal() else ""
        raise Unreadable(f"“{text}” is not a duration.{unit} Write it like 90s, 30m, 1h30m or 2d.")
    return timedelta(**parts)


def reader_for(field: models.Field[Any, Any] | models.ManyToManyField[Any, Any]) -> Reader:
    """How the value of a model's field is written in a file."""
    reader = _reader_for(field)
    if not field.null or isinstance(field, models.ManyToManyField):
        return reader
    return lambda node: None if tag(node) == "null" else reader(node)


def _reader_for(field: models.Field[Any, Any] | models.ManyToManyField[Any, Any]) -> Reader:
    if isinstance(field, models.ManyToManyField):
        return _texts
    if isinstance(field, models.JSONField):
        return _json_reader(field)
    for kind, reader in _READERS.items():
        if isinstance(field, kind):
            return reader
    raise TypeError(f"no reader for {field}")


def _json_reader(field: models.JSONField[Any, Any]) -> Reader:
    """Lists and mappings hold texts, but for those of any shape."""
    is_list = field.default is list
    if field.name in _OF_ANY_SHAPE:
        return _any_list if is_list else _any_mapping
    return _texts if is_list else _text_mapping


def tag(node: Node) -> str:
    """`str`, `int`, `map` …, or a tag of the file's own, as it is written."""
    return str(node.tag).removeprefix("tag:yaml.org,2002:")


def _text(node: Node) -> str:
    if not isinstance(node, ScalarNode) or tag(node) == "null":
        raise Unreadable('Write a text here, "" for an empty one.', node)
    if tag(node) not in _PLAIN:
        raise Unreadable(f"The tag {tag(node)} is not read here. Leave it out.", node)
    return str(node.value)


def _texts(node: Node) -> list[str]:
    if not isinstance(node, SequenceNode):
        raise Unreadable("Write a list here, such as [one, two], [] for an empty one.")
    return [_text(entry) for entry in node.value]


def _text_mapping(node: Node) -> dict[str, str]:
    return {key: _text(value) for key, value in pairs(node)}


def _any_list(node: Node) -> list[Any]:
    if not isinstance(node, SequenceNode):
        raise Unreadable("Write a list here, [] for an empty one.")
    return [_any(entry) for entry in node.value]


def _any_mapping(node: Node) -> dict[str, Any]:
    return {key: _any(value) for key, value in pairs(node)}


def _any(node: Node) -> Any:
    if tag(node) not in _PLAIN:
        raise Unreadable(f"The tag {tag(node)} is not read here. Leave it out.", node)
    if isinstance(node, MappingNode):
        return _any_mapping(node)
    if isinstance(node, SequenceNode):
        return _any_list(node)
    if tag(node) in ("str", "timestamp"):
        return str(node.value)
    value = YAML(typ="safe", pure=True).constructor.construct_object(node)
    if isinstance(value, float) and not Decimal(value).is_finite():
        raise Unreadable(f"{node.value} is not a number that JSON knows.", node)
    return value


def pairs(node: Node) -> list[tuple[str, Node]]:
    """The entries of a mapping, each key once. Raises Unreadable."""
    if not isinstance(node, MappingNode):
        raise Unreadable("Write a mapping here, such as NAME: value, {} for an empty one.")
    found: dict[str, Node] = {}
    for key_node, value in node.value:
        key = _text(key_node)
        if key in found:
            raise Unreadable(f"“{key}” is here twice. Keep one.", key_node)
        found[key] = value
    return list(found.items())


def _number(node: Node) -> int:
    if tag(node) != "int":
        raise Unreadable("Write a whole number here.")
    return int(YAML(typ="safe", pure=True).constructor.construct_object(node))


def _amount(node: Node) -> Decimal:
    try:
        amount = Decimal(_text(node))
    except InvalidOperation:
        amount = Decimal("nan")
    if not amount.is_finite():
        raise Unreadable("Write an amount here, such as 0.50.")
    return amount


def _flag(node: Node) -> bool:
    if tag(node) != "bool":
        raise Unreadable("Write true or false here.")
    return str(node.value).lower() == "true"


def _duration(node: Node) -> timedelta:
    return duration(_text(node))


def _instant(node: Node) -> datetime:
    text = _text(node)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.utcoffset() is None:
        raise Unreadable(f"“{text}” is not an instant. Write date, time and offset, such as 2027-01-31T09:00+01:00.")
    return instant


_READERS: dict[type[models.Field[Any, Any]], Reader] = {
    models.DurationField: _duration,
    models.DateTimeField: _instant,
    models.BooleanField: _flag,
    models.DecimalField: _amount,
    models.IntegerField: _number,
    models.CharField: _text,
    models.TextField: _text,
    models.ForeignKey: _text,
}
