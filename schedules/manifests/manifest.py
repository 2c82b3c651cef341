"""What a file says, whatever its format: commands and schedules as plain values, with the lines they stand on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One command or schedule. `values` are keyed and typed like the model's fields; what is absent has its default.

    A reference is a text: `command` the id of a command, `repositories` a list of short names.
    """

    name: str
    line: int  # from 1
    values: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)  # key → line


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    source: str  # what errors call the file
    commands: Sequence[Entry] = ()
    schedules: Sequence[Entry] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, by its key (such as `schedules.todo-report.cron`), and what to do."""

    line: int  # from 1; 0: the file as a whole
    key: str
    text: str

    @property
    def place(self) -> str:
        return ", ".join(filter(None, (f"line {self.line}" if self.line else "", self.key)))


class ManifestError(Exception):
    """All that is wrong with a manifest, in the order of its lines. Nothing of it was applied."""

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.source = source
        self.problems = sorted(problems, key=lambda problem: problem.line)
        places = (", ".join(filter(None, (source, problem.place))) for problem in self.problems)
        sentences = (f"{place}: {problem.text}" for place, problem in zip(places, self.problems, strict=True))
        super().__init__("\n".join(sentences))
