"""Functions that a schedule can run: no model, no cost. One module each, named in ROTA_FUNCTIONS.

    def report(context: FunctionContext, *, limit: int = 100) -> str: ...

A function gets the context and the schedule's `arguments` by name, and returns Markdown, or a
FunctionResult where it wants a summary of its own. It runs in a process of its own in the checkout,
with the environment of the session and without Django. What it prints is shown as it goes; what it
raises fails the session.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionContext:
    """What a function may know. `scheduled_for` is the nominal time: go by it and not by a clock."""

    workspace: Path
    scheduled_for: datetime
    repository: str = ""

    def log(self, text: str) -> None:
        """Tell how far it is: one line of the live view."""
        print(text, flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionResult:
    """The result, in Markdown, and one sentence; where that is empty, the text's first is taken."""

    text: str
    summary: str = ""
