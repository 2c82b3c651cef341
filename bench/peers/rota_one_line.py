"""Rota, with one cron line for all schedules, as most of its peers are set up. Else as in `rota`."""

from __future__ import annotations

from bench.peers import rota
from bench.peers.stopwatch import Figures


def measure(count: int) -> Figures:
    return rota.measure(count, lines=1)
