"""Thousands of rows in one statement, made and changed by the database: no row is an object of Python.

What an object of a model costs, and `bulk_create` and `bulk_update` of many, is some ten times what SQLite or
PostgreSQL need for the row.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.models import BooleanField, Expression, F, Field, Func, Model, QuerySet, UUIDField, Value

MANY = 100  # rows: from so many on it is worth to prepare for them
_ROOM = 32_000  # KiB


@contextmanager
def room(rows: int) -> Iterator[None]:
    """Put it around a transaction that changes so many rows.

    SQLite keeps 2 MB of pages in memory, and what it needs to take a statement back in a file. In a larger transaction
    each page is written and read again several times. Here it has as much memory as it needs, and gives it back.
    """
    if rows < MANY or connection.vendor != "sqlite" or connection.in_atomic_block:
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA cache_size")
        (before,) = cursor.fetchone()
        cursor.execute(f"PRAGMA cache_size = -{_ROOM}")
        cursor.execute("PRAGMA temp_store = MEMORY")
        try:
            yield
        finally:
            cursor.execute("PRAGMA temp_store = DEFAULT")
            cursor.execute(f"PRAGMA cache_size = {int(before)}")


class RandomUUID(Func):
    """A UUID of version 4, another one in each row."""

    template = "GEN_RANDOM_UUID()"
    output_field = UUIDField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = (
            "LOWER(HEX(RANDOMBLOB(6)) || '4' || SUBSTR(HEX(RANDOMBLOB(2)), 2) "
            "|| 'A' || SUBSTR(HEX(RANDOMBLOB(2)), 2) || HEX(RANDOMBLOB(6)))"
        )
        return self.as_sql(compiler, connection, template=template, **context)


def together(ids: Collection[int]) -> Any:
    """Ids as one value, as `Among` has them."""
    return list(ids) if connection.vendor == "postgresql" else json.dumps(list(ids))


class Among(Func):
    """Whether a column is one of these ids: thousands as one value, where Django spends on each as on a whole row."""

    output_field = BooleanField()

    def __init__(self, column: str, ids: Collection[int] | Expression) -> None:
        super().__init__(F(column), ids if isinstance(ids, Expression) else Value(together(ids)))

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="%(expressions)s::bigint[])", arg_joiner=" = ANY(", **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template, joiner = "%(expressions)s))", " IN (SELECT value FROM JSON_EACH("
        return self.as_sql(compiler, connection, template=template, arg_joiner=joiner, **context)


def insert_selected(
    like: Model, source: QuerySet[Any], columns: Mapping[str, Expression | F], *, returning: bool = True
) -> list[int]:
    """A row for each one of `source`; returns their ids, if they are wanted.

    `columns` says which columns come of the row of `source`. Every other one is as in `like`, which is not saved.
    """
    fields = {field.attname: field for field in like._meta.concrete_fields if not field.primary_key}
    found = source.annotate(**{f"made_{name}": of for name, of in columns.items()})
    made = found.values_list(*(f"made_{name}" for name in columns))
    sql, params = made.query.get_compiler(connection=connection).as_sql()
    same = [field for name, field in fields.items() if name not in columns]
    values = [field.get_db_prep_save(field.pre_save(like, True), connection) for field in same]
    into = ", ".join(map(_column, (*(fields[name] for name in columns), *same)))
    ids = f" RETURNING {_column(_key(type(like)))}" if returning else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {_table(type(like))} ({into}) SELECT made.*{', %s' * len(same)} FROM ({sql}) made{ids}",
            [*values, *params],
        )
        return [pk for (pk,) in cursor.fetchall()] if returning else []


def prepared(model: type[Model], columns: Sequence[str], values: Sequence[Any]) -> tuple[Any, ...]:
    """The values as the database takes them, for `update_alike`: to be made once where they are those of many rows."""
    fields, here = _fields(model, columns), connections[DEFAULT_DB_ALIAS]
    return tuple(field.get_db_prep_save(value, here) for field, value in zip(fields, values, strict=True))


def update_alike(
    model: type[Model],
    columns: Sequence[str],
    alike: Sequence[tuple[tuple[Any, ...], Collection[int]]],
    *,
    counted: str,
) -> None:
    """Set the columns of many rows to values that some of them share, and add one to the column `counted`.

    `alike`: values as `prepared` makes them, and the ids of the rows that they are for.
    """
    if not alike:
        return
    key, fields = _key(model), _fields(model, columns)
    table, key_column, count = _table(model), _column(key), _column(*_fields(model, [counted]))
    with connection.cursor() as cursor:
        if connection.vendor != "postgresql":
            changes = ", ".join(f"{_column(field)} = %s" for field in fields)
            each = [(*values, pk) for values, ids in alike for pk in ids]
            sql = f"UPDATE {table} SET {changes}, {count} = {count} + 1 WHERE {key_column} = %s"
            cursor.executemany(sql, each)
            return
        changes = ", ".join(f"{_column(field)} = given.{_column(field)}" for field in fields)
        names = ", ".join(map(_column, fields))
        arrays = ", ".join(f"%s::{field.rel_db_type(connection)}[]" for field in fields)
        ids = [pk for _, some in alike for pk in some]
        places = [place for place, (_, some) in enumerate(alike, 1) for _ in some]
        cursor.execute(
            f"UPDATE {table} SET {changes}, {count} = {table}.{count} + 1 "
            f"FROM UNNEST(%s::bigint[], %s::integer[]) AS one (id, place), "
            f"UNNEST({arrays}) WITH ORDINALITY AS given ({names}, place) "
            f"WHERE {table}.{key_column} = one.id AND given.place = one.place",
            [ids, places, *map(list, zip(*(values for values, _ in alike), strict=True))],
        )


def _fields(model: type[Model], columns: Sequence[str]) -> list[Field[Any, Any]]:
    by_name = _by_name(model)
    return [by_name[name] for name in columns]


@cache
def _by_name(model: type[Model]) -> dict[str, Field[Any, Any]]:
    return {field.attname: field for field in model._meta.concrete_fields}


def _key(model: type[Model]) -> Field[Any, Any]:
    return next(field for field in model._meta.concrete_fields if field.primary_key)


def _table(model: type[Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)


def _column(field: Field[Any, Any]) -> str:
    return connection.ops.quote_name(str(field.column))
