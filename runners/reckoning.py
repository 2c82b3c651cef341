"""What a session has spent so far, and whether it goes on beyond its caps. Pure: no clock, no files.

What a program prints of an answer while it streams is not final: Claude Code 2.1.327 tells the prompt's tokens as they
are and one token of output, whatever the model wrote. So an answer's output is at least what its text comes to.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from runners import prices
from runners.base import CostSource, Tally
from runners.prices import Usage

CHARACTERS_PER_TOKEN: Final = 4
BUDGET_SLACK: Final = 1.1  # a list price is not the price that the program reckons with, to the cent


def tokens_in(characters: int) -> int:
    """About how many tokens a text of a model has."""
    return -(-characters // CHARACTERS_PER_TOKEN)


def charge(tally: Tally, data: Mapping[str, Any]) -> None:
    """Add one line of an answer: its tokens, and what they cost. Lines of one answer share its `answer_id`.

    Call it before the answer is counted among `tally.answers`.
    """
    answer, model = str(data.get("answer_id", "")), str(data.get("model", ""))
    is_first = answer not in tally.answers
    before = Usage() if is_first else tally.usages.get(answer, Usage())
    said = (0 if is_first else tally.said.get(answer, 0)) + int(data.get("said_tokens", 0))
    after = _usage(data, output=max(before.output, int(data.get("output_tokens", 0)), said))
    tally.usages[answer], tally.said[answer] = after, said
    if is_first:
        tally.reckoned_before_usd = tally.reckoned_usd
        tally.input_tokens += after.input
        tally.cached_tokens += after.cache_read + after.cache_write
    tally.output_tokens += after.output - before.output
    price = prices.price_of(model or tally.model)
    if price is not None:
        tally.reckoned_usd += price.of(after) - price.of(before)
    elif model not in tally.unpriced:
        tally.unpriced.append(model)


def _usage(data: Mapping[str, Any], *, output: int) -> Usage:
    """An answer's tokens. Where a program does not tell what it wrote to the cache, all that is cached was read."""
    written = int(data.get("cache_write_tokens", 0))
    return Usage(
        input=int(data.get("input_tokens", 0)),
        output=output,
        cache_read=max(0, int(data.get("cached_tokens", 0)) - written),
        cache_write=written,
        cache_write_1h=int(data.get("cache_write_1h_tokens", 0)),
    )


def spent(tally: Tally) -> tuple[float, CostSource]:
    """US dollars, and who says so. `unknown`: it used tokens that have no price; the amount is what the others cost."""
    if tally.reported_usd:
        return tally.reported_usd, "reported"
    if tally.unpriced:
        return tally.reckoned_usd, "unknown"
    if tally.usages:
        return tally.reckoned_usd, "reckoned"
    if tally.input_tokens + tally.output_tokens + tally.cached_tokens:
        return 0.0, "unknown"
    return 0.0, "" if tally.reported_usd is None else "reported"


def remark(tally: Tally) -> str:
    """A sentence where it is not known what was spent."""
    if spent(tally)[1] != "unknown":
        return ""
    models = ", ".join(filter(None, tally.unpriced)) or "its model"
    return f"What it cost is not known: the price table of {prices.newest():%Y-%m-%d} has no price of {models}."


def is_over_budget(tally: Tally, options: Mapping[str, Any]) -> bool:
    """Whether it asked its model once more when its money was spent: the agent's own cap did not hold.

    The answer that passes the cap is not held against it: an agent knows what an answer costs when it has it.
    """
    budget = options.get("max_budget_usd")
    return budget is not None and tally.reckoned_before_usd > float(Decimal(str(budget))) * BUDGET_SLACK
