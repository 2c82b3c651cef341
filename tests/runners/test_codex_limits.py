"""When Codex says that a usage limit is lifted. The sentences are those of its source and of what it prints."""

from datetime import UTC, datetime

import pytest

from runners.codex_limits import lifted_at, limited_model

NOW = datetime(2026, 11, 20, 16, 45, 30, tzinfo=UTC)
HIT = "You’ve hit your usage limit."
PLUS = (
    f"{HIT} Upgrade to Pro (https://chatgpt.com/explore/pro), visit https://chatgpt.com/settings/usage to purchase more"
)
SPARK = "You’ve hit your usage limit for GPT-5.3-Codex-Spark. Switch to another model now,"
TODAY, THEN = datetime(2026, 11, 20, 17, 46, tzinfo=UTC), datetime(2026, 11, 23, 20, 46, tzinfo=UTC)


def lifted(text: str, told_at: datetime = NOW) -> datetime | None:
    found = lifted_at(text, told_at_ms=int(told_at.timestamp() * 1000))
    return None if found is None else datetime.fromtimestamp(found, UTC)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        (f"{HIT} Try again at 5:45 PM.", TODAY),
        ("You've hit your usage limit. Try again at 5:45 PM.", TODAY),
        (f"{PLUS} credits or try again at Nov 23rd, 2026 8:45 PM.", THEN),
        (f"{HIT} To get more access now, send a request to your admin or try again at Nov 23rd, 2026 8:45 PM.", THEN),
        (f"{HIT} Visit https://chatgpt.com/settings/usage to purchase more credits or try again at 5:45 PM.", TODAY),
        (f"{HIT} Upgrade to Plus (https://chatgpt.com/explore/plus), or try again at 5:45 PM.", TODAY),
        (f"{HIT} Buy more, or try again at 5:45 PM.", TODAY),
        (f"{SPARK} or try again at 5:45 PM.", TODAY),
        (f"{HIT} Try again at 12:00 AM.", datetime(2026, 11, 20, 0, 1, tzinfo=UTC)),
        (f"{HIT} Try again at 12:10 PM.", datetime(2026, 11, 20, 12, 11, tzinfo=UTC)),
        (f"{HIT} Try again at Dec 1st, 2026 9:05 AM.", datetime(2026, 12, 1, 9, 6, tzinfo=UTC)),
        (f"{HIT} Try again at Dec 2nd, 2026 11:45 AM.", datetime(2026, 12, 2, 11, 46, tzinfo=UTC)),
        (f"{HIT} Try again at Jan 12th, 2027 1:00 AM.", datetime(2027, 1, 12, 1, 1, tzinfo=UTC)),
        (f"{HIT} Try again in 3 days 4 hours 5 minutes.", datetime(2026, 11, 23, 20, 51, 30, tzinfo=UTC)),
        (f"{PLUS} credits or try again in 1 day 1 minute.", datetime(2026, 11, 21, 16, 47, 30, tzinfo=UTC)),
        (f"{HIT} Try again in 59 minutes.", datetime(2026, 11, 20, 17, 45, 30, tzinfo=UTC)),
        (f"{HIT} Try again in less than a minute.", datetime(2026, 11, 20, 16, 46, 30, tzinfo=UTC)),
    ],
)
def test_a_limit_that_says_when_it_is_lifted(text: str, instant: datetime) -> None:
    assert lifted(text) == instant


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{HIT} Try again later.",
        f"{PLUS} credits or try again later.",
        f"{HIT} Try again at 25:99 PM.",
        f"{HIT} Try again at Nov 31st, 2026 8:45 PM.",
        f"{HIT} Try again at Foo 3rd, 2026 8:45 PM.",
        f"{HIT} Try again at Dec 31st, 9999 11:59 PM.",
        f"{HIT} Try again at 17:45.",
        f"{HIT} Try again in 99999999999 days.",
        "Selected model is at capacity. Try again at 5:45 PM.",
        "exceeded retry limit, last status: 429 Too Many Requests",
        "You hit your spend cap set by the owner of your workspace. Ask an owner to increase it.",
    ],
)
def test_what_says_nothing_of_that(text: str) -> None:
    assert lifted(text) is None


def test_a_time_of_the_day_that_ended_as_it_was_told_is_not_of_the_next_one() -> None:
    midnight = datetime(2026, 11, 21, 0, 0, 0, 20_000, tzinfo=UTC)
    assert lifted(f"{HIT} Try again at 11:59 PM.", midnight) == datetime(2026, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "model"),
    [
        (f"{SPARK} or try again at 5:45 PM.", "gpt-5.3-codex-spark"),
        (f"{HIT} Try again at 5:45 PM.", ""),
        ("You've hit your usage limit for codex_other. Switch to another model now, or try again later.", ""),
        ("Something else", ""),
    ],
)
def test_the_limit_of_one_model_alone(text: str, model: str) -> None:
    assert limited_model(text) == model
