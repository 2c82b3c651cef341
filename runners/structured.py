"""A result in a form that programs can read: JSON that keeps to the schedule's schema. Pure.

A schema is of JSON Schema, draft 7: what every agent program reads. It describes an object, for that is what a model
can be made to give. It refers to nothing but itself, so that nothing is fetched.

What checks it is imported when there is something to check: 6 MB that beat never needs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jsonschema.exceptions import SchemaError, ValidationError

DRAFT: Final = "http://json-schema.org/draft-07/schema"
SCHEMA_BYTES: Final = 100_000  # one argument of a program can't be longer than 128 KiB
OUTPUT_LENGTH: Final = 1_000_000  # characters of JSON that are kept
OUTPUT_DEPTH: Final = 15  # levels that are kept

_LONGEST_MESSAGE: Final = 500


def schema_problem(schema: object) -> str:
    """What is wrong with a schema; empty when all is well."""
    from jsonschema import Draft7Validator
    from jsonschema.exceptions import SchemaError
    from referencing.exceptions import Unresolvable

    if not isinstance(schema, Mapping):
        return 'Give a JSON schema, which is an object, such as {"type": "object", "properties": {…}}.'
    if len(json.dumps(schema).encode()) > SCHEMA_BYTES:
        return f"It is longer than the {SCHEMA_BYTES // 1000} kB that an agent program takes."
    if str(schema.get("$schema", DRAFT)).rstrip("#") != DRAFT:
        return f"Leave $schema out, or name draft 7 ({DRAFT}#): it is the one that agents read."
    if schema.get("type") != "object":
        return 'Its "type" has to be "object": wrap a list or a value in a property.'
    try:
        Draft7Validator.check_schema(schema)
        _resolve_all(schema)
    except SchemaError as error:
        return f"It is no JSON schema: {_where(error)}{_short(error.message)}"
    except (Unresolvable, RecursionError, re.error) as error:
        return f"It can't be used: {_short(str(error))}"
    return ""


def output_problem(output: object, schema: Mapping[str, Any]) -> str:
    """Why an output does not keep to its schema; empty when it does."""
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    if output is None:
        return "It gave no structured output."
    try:
        error = best_match(_validator(schema).iter_errors(output))
        length = len(json.dumps(output, allow_nan=False))
    except (Unresolvable, RecursionError, ValueError) as fault:
        return f"Its structured output can't be checked: {_short(str(fault))}"
    if error is not None:
        return f"Its structured output does not keep to the schema: {_where(error)}{_short(error.message)}"
    if length > OUTPUT_LENGTH:
        return f"Its structured output has {length} characters; at most {OUTPUT_LENGTH} are kept."
    if _depth(output) > OUTPUT_DEPTH:
        return f"Its structured output is nested more than {OUTPUT_DEPTH} levels deep."
    return ""


def parsed(text: str) -> Any:
    """The JSON that a text is, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _validator(schema: Mapping[str, Any]) -> Any:
    from jsonschema import Draft7Validator
    from referencing import Registry

    return Draft7Validator(schema, registry=Registry())  # its own registry: else it would fetch what is referred to


def _resolve_all(schema: Mapping[str, Any]) -> None:
    """Raise Unresolvable where a reference leads nowhere, or out of the schema."""
    resolver = _validator(schema)._resolver
    for reference in _references(schema):
        resolver.lookup(reference)


def _references(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(reference := value.get("$ref"), str):
            yield reference
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0) if isinstance(value, Mapping | list) else 0


def _where(error: ValidationError | SchemaError) -> str:
    place = "/".join(str(step) for step in error.absolute_path)
    return f"at {place}: " if place else ""


def _short(text: str) -> str:
    text = " ".join(text.split())
    text = text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]} …"
    return text if text.endswith((".", "…")) else f"{text}."
