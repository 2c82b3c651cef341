"""The YAML format: a mapping of `commands` and one of `schedules`, each entry keyed by its name (see examples.yaml)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from django.db import models
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import MappingNode, Node

from schedules.manifests.manifest import Entry, Manifest, ManifestError, Problem
from schedules.manifests.values import Reader, Unreadable, reader_for
from schedules.models import Command, Schedule

MOST_BYTES = 1024 * 1024
DEEPEST = 50
_NOT_IN_A_FILE = frozenset(
    {"id", "name", "status", "status_reason", "status_by", "status_at"}  # a name is the entry's key
)
_KINDS = ("commands", "schedules")


def read(path: Path) -> Manifest:
    """The manifest that a YAML file holds. Raises ManifestError with everything in it that can't be read."""
    return _Reading(path.name).manifest(_text_of(path))


def _text_of(path: Path) -> str:
    try:
        content = path.read_bytes()
        if len(content) > MOST_BYTES:
            raise _whole_file(path, f"has {len(content)} bytes, more than the {MOST_BYTES} that are read. Split it.")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise _whole_file(path, f"can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise _whole_file(path, f"is not UTF-8 (byte {error.start + 1}). Save it as UTF-8.") from error


def _whole_file(path: Path, text: str) -> ManifestError:
    return ManifestError(path.name, [Problem(0, "", text)])


class _Reading:
    """One file being read: it collects problems and goes on, so that one look shows them all."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[Problem] = []

    def manifest(self, text: str) -> Manifest:
        root = self._composed(text)
        sections = dict.fromkeys(_KINDS, ()) | self._sections(root)
        if self.problems:
            raise ManifestError(self.source, self.problems)
        return Manifest(source=self.source, commands=sections["commands"], schedules=sections["schedules"])

    def _composed(self, text: str) -> Node:
        """The tree of the one document."""
        try:
            self._refuse_traps(text)
            root: Node | None = YAML(typ="safe", pure=True).compose(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise self._fatal(mark.line + 1 if mark else 0, f"is not YAML: {error.problem}.") from error
        except YAMLError as error:
            raise self._fatal(0, f"is not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(root, MappingNode):
            raise self._fatal(0, f"holds nothing to read. Begin with {': or '.join(_KINDS)}:")
        return root

    def _refuse_traps(self, text: str) -> None:
        """Aliases could make a small file into a huge value, and deep nesting takes ever longer to read."""
        depth = 0
        for event in YAML(typ="safe", pure=True).parse(text):
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if depth > DEEPEST:
                raise self._fatal(_line_of(event), f"is nested more than {DEEPEST} levels deep.")
            if isinstance(event, AliasEvent):
                raise self._fatal(_line_of(event), f"*{event.anchor} is an alias. Write the value out.")

    def _fatal(self, line: int, text: str) -> ManifestError:
        return ManifestError(self.source, [*self.problems, Problem(line, "", text)])

    def _sections(self, root: Node) -> dict[str, tuple[Entry, ...]]:
        readers: dict[str, Callable[[Node], tuple[Entry, ...]]] = {
            "commands": lambda node: self._entries(node, "commands", COMMAND_KEYS),
            "schedules": lambda node: self._entries(node, "schedules", SCHEDULE_KEYS),
        }
        return self._known(root, "", readers, what="a manifest")[0]

    def _entries(self, node: Node, section: str, readers: Mapping[str, Reader]) -> tuple[Entry, ...]:
        if not isinstance(node, MappingNode):
            raise Unreadable("Write a mapping here: a name, a colon, and its keys below.")
        entries = {}
        for name, key_node, value in self._pairs(node, section):
            where = f"{section}.{name}"
            if not isinstance(value, MappingNode):
                self._problem(value, where, "Write a mapping here: its keys, each with a value.")
                continue
            values, lines = self._known(value, where, readers, what=f"a {section[:-1]}")
            entries[name] = Entry(name=name, line=_line_of(key_node), values=values, lines=lines)
        return tuple(entries.values())

    def _known(
        self, node: Node, where: str, readers: Mapping[str, Reader], *, what: str
    ) -> tuple[dict[str, Any], dict[str, int]]:
        """The values of a mapping whose keys are known, and their lines."""
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, key_node, value in self._pairs(node, where):
            place = f"{where}.{key}".lstrip(".")
            if key not in readers:
                self._problem(key_node, place, f"This is not a key of {what}. {_advice(key, readers)}")
                continue
            lines[key] = _line_of(key_node)
            try:
                values[key] = readers[key](value)
            except Unreadable as error:
                inside = error.node if error.node is not value else None
                # Else at the key: the mark of an empty value is where the next key is.
                self._problem(inside or key_node, place, str(error))
        return values, lines

    def _pairs(self, node: Node, where: str) -> list[tuple[str, Node, Node]]:
        """Key, its node and the value's; a key that is there twice is a problem and its first value is kept."""
        found: dict[str, tuple[str, Node, Node]] = {}
        for key_node, value in node.value:
            key = str(key_node.value)
            if key in found:
                first = _line_of(found[key][1])
                place = f"{where}.{key}".lstrip(".")
                self._problem(key_node, place, f"This is here twice, first on line {first}. Keep one.")
                continue
            found[key] = (key, key_node, value)
        return list(found.values())

    def _problem(self, node: Node, key: str, text: str) -> None:
        self.problems.append(Problem(_line_of(node), key, text))


def _line_of(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _advice(key: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(key, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}."


def _keys(model: type[models.Model]) -> dict[str, Reader]:
    """What may be written of a model: every field that a person may edit, under its own name."""
    fields = [*model._meta.fields, *model._meta.many_to_many]
    return {field.name: reader_for(field) for field in fields if field.editable and field.name not in _NOT_IN_A_FILE}


COMMAND_KEYS = {"name": reader_for(Command._meta.get_field("name")), **_keys(Command)}
SCHEDULE_KEYS = _keys(Schedule)
