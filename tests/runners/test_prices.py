import json
from datetime import date

import pytest

from runners import prices
from runners.prices import Usage


def test_an_answer_costs_what_each_kind_of_its_tokens_costs() -> None:
    price = prices.price_of("claude-sonnet-5-5")
    assert price

    usage = Usage(input=1_000_000, output=2_000_000, cache_read=3_000_000, cache_write=500_000, cache_write_1h=100_000)

    assert price.of(Usage()) == 0
    assert price.of(usage) == pytest.approx(2 + 20 + 0.3 + 0.4 * 2.5 + 0.1 * 4)


@pytest.mark.parametrize(
    ("model", "price"),
    [("gpt-6.1-terra", 1 + 5 + 0.05 + 1.25), ("gpt-6.1-sol", 2 + 10 + 0.1 + 2.5), ("gpt-5.6-terra", 2 + 12 + 0.2 + 2)],
)
def test_models_of_one_family_have_their_own_prices(model: str, price: float) -> None:
    found = prices.price_of(model)
    assert found
    parts = (Usage(input=100_000), Usage(output=100_000), Usage(cache_read=100_000), Usage(cache_write=100_000))
    assert 10 * sum(map(found.of, parts)) == pytest.approx(price)


def test_a_long_prompt_is_dearer_as_a_whole() -> None:
    price = prices.price_of("claude-haiku-5-5")
    assert price

    short = price.of(Usage(cache_read=99_000, input=1_000, output=100))
    long = price.of(Usage(cache_read=99_000, input=1_001, output=100))

    assert long == pytest.approx(5 * short, rel=0.01)


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("haiku", "claude-haiku-5-5"),
        ("Opus", "claude-opus-5-5"),
        ("sonnet[1m]", "claude-sonnet-5-5"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
        ("openai/gpt-5.5-2026-04-23", "gpt-5.5"),
    ],
)
def test_a_model_is_known_by_its_other_names(name: str, same_as: str) -> None:
    assert prices.price_of(name) is prices.price_of(same_as) is not None


@pytest.mark.parametrize("name", ["", "claude", "claude-other-1-0", "gpt-77", "gpt-6.2", "my-own-model"])
def test_a_model_that_is_not_in_the_table_has_no_price(name: str) -> None:
    assert prices.price_of(name) is None
    assert prices.resolve(name) == name


def test_every_row_is_dated_and_whole() -> None:
    lists = json.loads(prices.FILE.read_bytes())["lists"]
    for name in (name for vendor in lists for name in vendor["models"]):
        price = prices.price_of(name)
        assert price, f"{name} is not found by its own name"
        assert date(2026, 1, 1) <= price.as_of <= prices.newest()
        assert 0 < price.cache_read < price.input <= price.cache_write < price.output
        assert price.cache_write <= price.cache_write_1h
