"""What tokens cost: a dated table of list prices (prices.json), for sessions whose program does not say what it spent.

What is reckoned here is a list price: no discount, no fast or flexible tier, no fee of a tool. A model that is not in
the table has no price, which is not the same as costing nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Final

from runners.model_names import plain_model

FILE: Final = Path(__file__).with_name("prices.json")
_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one answer. `input`: neither read from the cache nor written to it. Three are parts of the prompt."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0  # of `cache_write`, those that are kept for an hour

    @property
    def prompt(self) -> int:
        return self.input + self.cache_read + self.cache_write


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars for a million tokens; `long_prompt`: where the prompt of an answer has more than `above` tokens."""

    input: float
    output: float
    cache_read: float
    cache_write: float
    cache_write_1h: float
    as_of: date
    above: int = 0
    long_prompt: Price | None = None

    def of(self, usage: Usage) -> float:
        """US dollars for one answer."""
        if self.long_prompt and usage.prompt > self.above:
            return self.long_prompt.of(usage)
        written_1h = min(usage.cache_write_1h, usage.cache_write)
        return (
            usage.input * self.input
            + usage.output * self.output
            + usage.cache_read * self.cache_read
            + (usage.cache_write - written_1h) * self.cache_write
            + written_1h * self.cache_write_1h
        ) / _MILLION


def price_of(model: str) -> Price | None:
    """The price of a model by its id, with or without a date or a cloud's prefix, or by its alias."""
    aliases, prices = _table()
    name = plain_model(model)
    return prices.get(aliases.get(name, name))


def resolve(model: str) -> str:
    """The id that an alias (`haiku`) stood for at the table's date; any other name as it is."""
    return _table()[0].get(plain_model(model), model)


def newest() -> date:
    """The date of the newest list in the table."""
    return max(price.as_of for price in _table()[1].values())


@cache
def _table() -> tuple[Mapping[str, str], Mapping[str, Price]]:
    data = json.loads(FILE.read_bytes())
    prices = {
        name: _price(row, date.fromisoformat(vendor["as_of"]))
        for vendor in data["lists"]
        for name, row in vendor["models"].items()
    }
    return data["aliases"], prices


def _price(row: Mapping[str, Any], as_of: date) -> Price:
    longer = row.get("long_prompt")
    return Price(
        input=row["input"],
        output=row["output"],
        cache_read=row["cache_read"],
        cache_write=row["cache_write"],
        cache_write_1h=row.get("cache_write_1h", row["cache_write"]),
        as_of=as_of,
        above=longer["above"] if longer else 0,
        long_prompt=_price(longer, as_of) if longer else None,
    )
