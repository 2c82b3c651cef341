import re
from typing import Any

import pytest

from runners.structured import OUTPUT_LENGTH, output_problem, parsed, schema_problem

VERDICT: dict[str, Any] = {
    "type": "object",
    "properties": {"verdict": {"enum": ["fine", "broken"]}, "lines": {"type": "array", "items": {"type": "integer"}}},
    "required": ["verdict"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "schema",
    [
        VERDICT,
        {"type": "object"},
        {**VERDICT, "$schema": "http://json-schema.org/draft-07/schema#"},
        {"type": "object", "properties": {"next": {"$ref": "#"}}},
        {"type": "object", "definitions": {"n": {"type": "integer"}}, "properties": {"n": {"$ref": "#/definitions/n"}}},
    ],
)
def test_schemas_that_are_well(schema: object) -> None:
    assert schema_problem(schema) == ""


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (["object"], "Give a JSON schema"),
        ({"type": "array"}, 'has to be "object"'),
        ({}, 'has to be "object"'),
        ({"type": "object", "required": "verdict"}, "no JSON schema: at required: 'verdict' is not of type 'array'"),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, "at properties/a/type"),
        ({"type": "object", "properties": {"a": {"pattern": "("}}}, "at properties/a/pattern"),
        ({"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}, "can't be used: .*nowhere"),
        ({"type": "object", "allOf": [{"$ref": "http://127.0.0.1:9/schema"}]}, "can't be used: .*127.0.0.1"),
        ({"type": "object", "$schema": "https://json-schema.org/draft/2020-12/schema"}, "Leave .schema out"),
        ({"type": "object", "description": "x" * 100_000}, "longer than the 100 kB"),
    ],
)
def test_schemas_that_will_not_do(schema: object, words: str) -> None:
    assert re.search(words, schema_problem(schema))


@pytest.mark.parametrize("output", [{"verdict": "fine"}, {"verdict": "broken", "lines": [1, 2]}])
def test_an_output_that_keeps_to_its_schema(output: object) -> None:
    assert output_problem(output, VERDICT) == ""


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (None, "no structured output"),
        ([], "not of type 'object'"),
        ({}, "'verdict' is a required property"),
        ({"verdict": "fine", "lines": ["one"]}, "at lines/0: 'one' is not of type 'integer'"),
        ({"verdict": "fine", "mood": "good"}, "mood"),
        ({"verdict": "fine" * 1000}, "…"),
    ],
)
def test_an_output_that_does_not(output: object, words: str) -> None:
    problem = output_problem(output, VERDICT)

    assert re.search(words, problem)
    assert len(problem) < 700


def test_an_output_that_can_not_be_kept_is_none() -> None:
    deep: object = "end"
    for _ in range(16):
        deep = {"a": deep}

    assert "nested more than" in output_problem(deep, {"type": "object"})
    assert "characters; at most" in output_problem({"a": "x" * OUTPUT_LENGTH}, {"type": "object"})
    assert "can't be checked" in output_problem({"a": float("nan")}, {"type": "object"})


def test_a_schema_that_never_ends_is_no_endless_check() -> None:
    assert "can't be" in (
        schema_problem({"type": "object", "$ref": "#"}) or output_problem({}, {"type": "object", "$ref": "#"})
    )


@pytest.mark.parametrize(
    ("text", "meant"), [('{"a": 1}', {"a": 1}), ("Well.", None), ("", None), ("[" * 100_000, None)]
)
def test_a_text_that_is_json(text: str, meant: object) -> None:
    assert parsed(text) == meant
