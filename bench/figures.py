"""What many measurements come to."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence


def spread(values: Sequence[float]) -> dict[str, float]:
    """How many there are, the smallest, the middle one, the 99th percentile and the largest. At least two values.

    On a machine that has other work too, the smallest is nearest to what it would be without.
    """
    return {
        "n": len(values),
        "min": round(min(values), 1),
        "p50": round(statistics.median(values), 1),
        "p99": round(statistics.quantiles(values, n=100, method="inclusive")[98], 1),
        "max": round(max(values), 1),
    }


def spreads(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """The same for each name of rows that have the same names."""
    return {name: spread([row[name] for row in rows]) for name in rows[0]}
