"""Who says what a session or a run cost."""

from __future__ import annotations

from collections.abc import Collection

from django.db import models


class CostSource(models.TextChoices):
    """Empty instead of one of these: no model was asked that costs anything."""

    REPORTED = "reported", "as its program says"
    RECKONED = "reckoned", "reckoned from its tokens and list prices"
    UNKNOWN = "unknown", "not known: a model without a price"


_WORST_FIRST = (CostSource.UNKNOWN, CostSource.RECKONED, CostSource.REPORTED)


def source_of_sum(sources: Collection[str]) -> str:
    """What is to be said of a sum whose parts have these sources: no more than of the worst of them."""
    return next((source for source in _WORST_FIRST if source in sources), "")
