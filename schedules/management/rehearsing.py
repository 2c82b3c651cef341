"""The report on a rehearsal, as an object for programs and as lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from runners import Report
from schedules.management.streams import one_line
from schedules.models import Session

_LONGEST = 300  # characters of a line


def report_object(report: Report) -> dict[str, Any]:
    """JSON-able."""
    return {"ready": report.is_ready, **asdict(report)}


def report_lines(session: Session, report: Report) -> Iterator[str]:
    """The conclusion last: that is what stays in sight."""
    place = f" in {session.repository}" if session.repository else ""
    limits = ", ".join(f"{name} {value}" for name, value in report.limits.items())
    yield f"Rehearsal of session {session.pk}{place}: it would ask {report.model or 'no model'}; limits: {limits}."
    if report.preparation:
        parts = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in report.preparation.items())
        yield f"  Preparation: {parts}."
    for use in report.asked:
        yield _line(f"  {use.outcome}: {use.tool}")
    for remark in report.remarks:
        yield _line(f"  Note: {remark}")
    for gap in report.gaps:
        yield _line(f"  Gap: {gap.what}")
        yield _line(f"       → {gap.mend}")
    yield report.conclusion


def _line(text: str) -> str:
    indent = text[: len(text) - len(text.lstrip())]
    text = indent + one_line(text.strip())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
