"""The template grammar."""

import pytest

from schedules.placeholders import problems, render


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{ title }}/{{title}}/{{  title  }}", "T/T/T"),
        ("{{ var.tone }}", "brief"),
        ("{ title } {title}", "{ title } {title}"),
        ("{{ body }}", "{{ title }}"),  # a value is not filled again
    ],
)
def test_a_template_is_filled(template: str, text: str) -> None:
    values = {"title": "T", "body": "{{ title }}", "var.tone": "brief"}
    assert render(template, values) == text


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ titel }}", "{{ titel }} is not a placeholder. There are: number, title"),
        ("{{ var.color }}", "no variable “color”"),
        ("{{ title.x }}", "is not a placeholder"),
        ("{{ }}", "is not a placeholder"),
        ("{{ var. }}", "is not a placeholder"),
        ("{{ title\n| safe }}", "is not a placeholder"),
    ],
)
def test_what_can_not_be_filled_is_told(template: str, words: str) -> None:
    (problem,) = problems(template, {"tone": "brief"})
    assert words in problem


def test_a_good_template_has_no_problems() -> None:
    assert problems("{{ repository }} {{ var.tone }}", {"tone": "brief"}) == []
