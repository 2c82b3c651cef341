"""The names of models, as people, programs and vendors write them."""

from __future__ import annotations

import re


def plain_model(name: str) -> str:
    """`us.anthropic.claude-sonnet-5-5-20260901-v1:0` and `claude-sonnet-5-5[1m]` are both `claude-sonnet-5-5`, and
    `gpt-5.5-2026-04-23` is `gpt-5.5`."""
    name = name.strip().lower().rpartition("/")[2]
    name = re.sub(r"\[\w+\]$|^(?:[a-z]+\.)*anthropic\.", "", name)
    name = re.sub(r"(?:-v\d+(?::\d+)?)$", "", name)
    return re.sub(r"[-@](?:20\d{6}|20\d\d-\d\d-\d\d|latest)$", "", name)


def same_model(asked: str, ran: str) -> bool:
    """Whether `ran`, a full model id, is what `asked`, an alias (`haiku`) or an id with or without a date, means."""
    asked, ran = plain_model(asked), plain_model(ran)
    if asked == "opusplan":
        return same_model("opus", ran) or same_model("sonnet", ran)
    is_alias = asked.isalpha() and asked != "claude"
    return asked == ran or (is_alias and asked in re.split(r"[-.]", ran))
