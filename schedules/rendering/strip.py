"""The strip of a schedule's last outcomes."""

from __future__ import annotations

from collections.abc import Sequence

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from schedules.models import Run
from schedules.rendering.display import reason_words, utc

STRIP = 20
"""Runs of a strip."""


def strip(runs: Sequence[Run]) -> SafeString:
    """One bar for each run, oldest first, that leads to it."""
    bars = format_html_join(
        "",
        '<a class="rota-bar rota-is-{}" href="{}" title="{}" aria-label="{}"></a>',
        ((run.status, run_url(run.pk), _told(run), _told(run)) for run in reversed(runs)),
    )
    empty = (("empty",) for _ in range(STRIP - len(runs)))
    gaps = format_html_join("", '<span class="rota-bar rota-is-{}"></span>', empty)
    return format_html('<span class="rota-strip">{}{}</span>', gaps, bars)


def _told(run: Run) -> str:
    why = reason_words(run.reason)
    rehearsed = " (rehearsed)" if run.is_rehearsal else ""
    return f"Run {run.pk}: {run.get_status_display()}{rehearsed}{', ' + why if why else ''} · {utc(run.scheduled_for)}"


def run_url(pk: int) -> str:
    return reverse("admin:schedules_run_change", args=(pk,))
