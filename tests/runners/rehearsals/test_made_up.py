from typing import Any

import pytest

from runners.rehearsals.made_up import value_for
from runners.structured import output_problem


def schema_of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        schema_of(word={"type": "string", "minLength": 30}, short={"type": "string", "maxLength": 2}),
        schema_of(anything={}, flag={"type": "boolean"}, nothing={"type": "null"}, maybe={"type": ["null", "string"]}),
        schema_of(
            verdict={"enum": ["fine", "broken"]}, version={"const": 3}, tone={"type": "string", "default": "dry"}
        ),
        schema_of(many={"type": "array", "minItems": 2, "items": {"type": "integer", "minimum": 3}}),
        schema_of(few={"type": "array", "items": {"type": "integer"}}),
        schema_of(
            n={"type": "integer", "maximum": -3, "multipleOf": 5},
            over={"type": "number", "exclusiveMinimum": 2.5},
            under={"type": "integer", "exclusiveMaximum": 0},
            even={"type": "integer", "minimum": 3, "multipleOf": 2},
        ),
        schema_of(place={"anyOf": [schema_of(path={"type": "string"}), {"type": "null"}]}),
        schema_of(both={"allOf": [{"type": "object", "required": ["a"]}, {"properties": {"a": {"const": 1}}}]}),
        schema_of(code={"type": "string", "pattern": "^R-[0-9]+$", "examples": ["R-1"]}),
        {
            **schema_of(at={"$ref": "#/definitions/at"}),
            "definitions": {"at": {"type": "string", "format": "date-time"}},
        },
    ],
)
def test_what_is_made_up_keeps_to_its_schema(schema: dict[str, Any]) -> None:
    assert output_problem(value_for(schema), schema) == ""


@pytest.mark.parametrize(
    "schema",
    [
        schema_of(me={"$ref": "#"}),
        {"type": "object", "$ref": "#"},
        schema_of(nowhere={"$ref": "#/definitions/nowhere"}),
        schema_of(many={"type": "array", "minItems": 10**9}),
    ],
)
def test_what_can_not_be_made_up_comes_to_an_end(schema: dict[str, Any]) -> None:
    assert value_for(schema) is not None
