from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from schedules.admin.fields import (
    HumanDurationField,
    LinesField,
    PairsField,
    StructureField,
    time_zones,
)

texts = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=12)


@given(st.lists(texts, max_size=5))
def test_a_list_is_shown_and_read_back_as_it_was(entries: list[str]) -> None:
    field = LinesField()

    assert field.clean(field.prepare_value(entries)) == entries


@given(st.dictionaries(texts, st.text(st.characters(blacklist_categories=["Cs"]), max_size=12), max_size=4))
def test_pairs_are_shown_and_read_back_as_they_were(pairs: dict[str, str]) -> None:
    field = PairsField()

    assert field.clean(field.prepare_value(pairs)) == pairs


def test_one_line_is_one_argument() -> None:
    assert LinesField().clean("python3\n--flag with space\r\n\n  tools/report.py \n") == [
        "python3",
        "--flag with space",
        "tools/report.py",
    ]


def test_a_list_can_be_written_in_json_where_lines_do_not_do() -> None:
    assert LinesField().clean('["two\\nlines", " padded "]') == ["two\nlines", " padded "]


def test_a_bracket_alone_is_an_argument() -> None:
    assert LinesField().clean("[\n-f\nx\n]") == ["[", "-f", "x", "]"]


def test_a_value_keeps_its_equals_signs() -> None:
    assert PairsField().clean("OPTS=--a=b\nEMPTY=\n") == {"OPTS": "--a=b", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "message"), [("A=1\nnothing", "Line 2: write NAME=value."), ("A=1\nA=2", "Line 2: A is there twice.")]
)
def test_a_pair_that_is_none_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PairsField().clean(text)


@pytest.mark.parametrize(
    ("field", "initial", "same", "other"),
    [
        (LinesField(), ["a", "b"], "a\r\nb", "a"),
        (PairsField(), {"A": "1"}, "A=1\r\n", "A=2"),
        (StructureField(empty=dict), {}, "", '{"a": 1}'),
        (StructureField(empty=list), [1], "[ 1 ]", "[2]"),
        (HumanDurationField(), timedelta(hours=1), "60m", "61m"),
    ],
)
def test_another_spelling_is_no_change(field: Any, initial: Any, same: str, other: str) -> None:
    assert not field.has_changed(initial, same)
    assert field.has_changed(initial, other)


@pytest.mark.parametrize(
    ("field", "text"), [(PairsField(), "x"), (StructureField(empty=dict), "{"), (HumanDurationField(), "soon")]
)
def test_what_can_not_be_read_has_changed(field: Any, text: str) -> None:
    assert field.has_changed(None, text)


def test_nothing_is_an_empty_structure() -> None:
    assert StructureField(empty=dict).clean("") == {}
    assert StructureField(empty=list).clean("") == []


def test_what_was_typed_is_shown_again_when_it_is_refused() -> None:
    field = StructureField(empty=dict)

    assert field.prepare_value(field.bound_data('{"a": ', {})) == '{"a": '


def test_an_empty_duration_is_what_the_field_says() -> None:
    assert HumanDurationField(required=False).clean("") is None
    assert HumanDurationField(required=False, empty=timedelta()).clean(" ") == timedelta()
    with pytest.raises(ValidationError, match="required"):
        HumanDurationField().clean("")


@pytest.mark.parametrize("text", ["600w", "9999999w " * 20])
def test_a_duration_without_end_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="too long"):
        HumanDurationField().clean(text)


def test_zones_on_offer_are_places() -> None:
    zones = time_zones()

    assert zones[0] == "UTC"
    assert "Europe/Paris" in zones
    assert not [zone for zone in zones if zone.startswith(("Etc/", "posix/"))]
