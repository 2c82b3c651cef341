"""A value that keeps to a JSON schema, for a rehearsal: no model is there to think of one.

What the schema itself gives is taken first (`const`, `default`, `examples`, `enum`), else the least that its types and
bounds ask for. A `pattern` is not understood: there a schema has to give an example.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

DEEPEST: Final = 12  # levels, for a schema may refer to itself
MOST_ITEMS: Final = 100
WORD: Final = "rehearsed"

_OF_FORMAT: Final[Mapping[str, str]] = {
    "date": "2027-01-31",
    "date-time": "2027-01-31T09:00:00Z",
    "time": "09:00:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_ONE_OF: Final = ("allOf", "anyOf", "oneOf")


def value_for(schema: Mapping[str, Any]) -> Any:
    """The value. It may not keep to a schema that asks for more than is understood here."""
    return _value(schema, schema, DEEPEST)


def _value(schema: object, root: Mapping[str, Any], depth: int) -> Any:
    schema = _whole(schema, root, depth)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        if isinstance(given := schema.get(key), list) and given:
            return given[0]
    match _type(schema):
        case "object":
            return _object(schema, root, depth)
        case "array":
            count = min(schema.get("minItems", 0), MOST_ITEMS) if depth else 0
            return [_value(schema.get("items"), root, depth - 1) for _ in range(count)]
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return True
        case "null":
            return None
    text = _OF_FORMAT.get(str(schema.get("format")), WORD)
    return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]


def _whole(schema: object, root: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
    """What a reference leads to; with all of `allOf`, and the first one of the alternatives."""
    found = dict(schema) if isinstance(schema, Mapping) else {}
    if "$ref" in found and depth:
        return _whole(_at(str(found["$ref"]), root), root, depth - 1)
    for key in _ONE_OF:
        parts = found.pop(key, [])
        for part in parts if key == "allOf" else parts[:1]:
            found = _joined(found, _whole(part, root, depth - 1 if depth else 0))
    return found


def _joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    properties = {**one.get("properties", {}), **other.get("properties", {})}
    required = [*one.get("required", []), *other.get("required", [])]
    return {**one, **other, "properties": properties, "required": required}


def _at(reference: str, root: Any) -> Any:
    found = root
    for step in reference.lstrip("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _type(schema: Mapping[str, Any]) -> str:
    given = schema.get("type") or ("object" if schema.get("properties") or schema.get("required") else "string")
    types = given if isinstance(given, list) else [given]
    return next((str(each) for each in types if each != "null"), "null")


def _object(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> dict[str, Any]:
    properties = schema.get("properties", {})
    wanted = schema.get("required", []) if depth else []
    return {name: _value(properties.get(name), root, depth - 1) for name in wanted}


def _number(schema: Mapping[str, Any]) -> Any:
    """The least that is allowed, or what is next to 0; a multiple of what it has to be one of."""
    step = schema.get("multipleOf", 1)
    least = schema.get("minimum", schema["exclusiveMinimum"] + step if "exclusiveMinimum" in schema else None)
    most = schema.get("maximum", schema["exclusiveMaximum"] - step if "exclusiveMaximum" in schema else 0)
    return min(0, most) // step * step if least is None else -(-least // step) * step
