"""Statements that Django makes once, and that are carried out again and again.

What a short session asks of the database are the same few statements each time, and to make one out of a QuerySet costs
some ten times what it costs to carry it out. Here Django makes it the first time, with places for what is given later:

    _STARTING = Update(lambda: Run.objects.filter(pk=given("pk", Run)), Run, "started_at", status="running")
    _STARTING.carry_out({"started_at": now}, pk=1)

It is the same SQL, by the same models, and goes through the same cursor: what wraps that sees it as ever.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import (
    BooleanField,
    CharField,
    Expression,
    Field,
    ForeignKey,
    IntegerField,
    Model,
    QuerySet,
    TextField,
)
from django.db.models.sql import UpdateQuery

Row = TypeVar("Row", bound=Model)

# What both databases take as it is: most values, and asking their fields takes longer than writing them.
_PLAIN: dict[type[Field[Any, Any]], type] = {BooleanField: bool, CharField: str, IntegerField: int, TextField: str}


class _Given(Expression):
    """The place of a value in a statement. As a parameter it stands for itself until there is one."""

    def __init__(self, name: str, field: Field[Any, Any]) -> None:
        super().__init__(output_field=field)
        self.name = name
        stored = field.target_field if isinstance(field, ForeignKey) else field
        self._plain = next((plain for kind, plain in _PLAIN.items() if isinstance(stored, kind)), None)

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return "%s", [self]

    def value(self, values: Mapping[str, Any], connection: BaseDatabaseWrapper) -> Any:
        """As the database takes it."""
        value = values[self.name]
        if self._plain and (value is None or type(value) is self._plain):
            return value
        return self.output_field.get_db_prep_save(value.pk if isinstance(value, Model) else value, connection)


_Converters = tuple[tuple[int, tuple[Callable[..., Any], ...], Any], ...]  # of a row: at which column, how, what it is


class _Made(NamedTuple):
    """The text of a statement, its parameters with the places among them, and how each column of a row is read."""

    sql: str
    params: tuple[Any, ...]
    converters: _Converters = ()


def given(name: str, field: Field[Any, Any] | type[Model]) -> Any:
    """The place of a value that is given when the statement is carried out: of a field's type, or the id of a row.

    Never None: SQL has words of its own for that.
    """
    return _Given(name, field if isinstance(field, Field) else _key(field))


def given_fields(model: type[Model], names: Iterable[str]) -> dict[str, Any]:
    """The places of these fields' values, each given by its field's name."""
    fields = {name: field for field in model._meta.concrete_fields for name in (field.name, field.attname)}
    return {name: _Given(name, fields[name]) for name in names}


class _Statement(ABC):
    """Makes its text when it is first needed: by then there is a database, and all models are known."""

    def __init__(self) -> None:
        self._made: dict[str, _Made] = {}  # by the kind of database

    def _ready(self) -> _Made:
        made = self._made.get(connection.vendor)
        if made is None:
            made = self._made[connection.vendor] = self._make()
        return made

    @abstractmethod
    def _make(self) -> _Made: ...

    def _execute(self, cursor: Any, values: Mapping[str, Any]) -> None:
        made, here = self._ready(), connections[DEFAULT_DB_ALIAS]
        params = [one.value(values, here) if type(one) is _Given else one for one in made.params]
        cursor.execute(made.sql, params)


class Update(_Statement):
    """`rows().update(…)` of these fields."""

    def __init__(self, rows: Callable[[], QuerySet[Any]], model: type[Model], *names: str, **fixed: Any) -> None:
        super().__init__()
        self._rows = rows
        self._model = model
        self._names = names
        self._fixed = fixed

    def carry_out(self, values: Mapping[str, Any], /, **keys: Any) -> int:
        """Returns how many rows were changed. `values`: by the names of fields; `keys`: what the rows are found by."""
        with transaction.mark_for_rollback_on_error(using=None), connection.cursor() as cursor:
            self._execute(cursor, {**values, **keys})
            return int(cursor.rowcount)

    def _make(self) -> _Made:
        query: Any = self._rows().order_by().query.chain(UpdateQuery)
        query.add_update_values({**given_fields(self._model, self._names), **self._fixed})
        sql, params = query.get_compiler(connection=connection).as_sql()
        return _Made(sql, tuple(params))


class Insert(_Statement):
    """New rows, of these columns; every other one has no default and may be empty."""

    def __init__(self, model: type[Model], *columns: str) -> None:
        super().__init__()
        self._model = model
        self._columns = columns

    def unless_there(self, rows: Iterable[Model]) -> None:
        """What would be a second one of what is unique is left out."""
        made, here = self._ready(), connections[DEFAULT_DB_ALIAS]
        values = [[place.value(vars(row), here) for place in made.params] for row in rows]
        with transaction.mark_for_rollback_on_error(using=None), connection.cursor() as cursor:
            cursor.executemany(made.sql, values)

    def _make(self) -> _Made:
        made, quoted = tuple(given_fields(self._model, self._columns).values()), connection.ops.quote_name
        into = ", ".join(quoted(place.field.column) for place in made)
        table, values = quoted(self._model._meta.db_table), ", ".join("%s" for _ in made)
        return _Made(f"INSERT INTO {table} ({into}) VALUES ({values}) ON CONFLICT DO NOTHING", made)


class Select(_Statement):
    """The rows of a `values_list`."""

    def __init__(self, rows: Callable[[], QuerySet[Any, tuple[Any, ...]]]) -> None:
        super().__init__()
        self._rows = rows

    def all(self, **keys: Any) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            self._execute(cursor, keys)
            converters = self._ready().converters
            return [_read(row, converters) for row in cursor.fetchall()]

    def first(self, **keys: Any) -> tuple[Any, ...] | None:
        return next(iter(self.all(**keys)), None)

    def _make(self) -> _Made:
        compiler = self._rows().query.get_compiler(connection=connection)
        sql, params = compiler.as_sql()
        found = compiler.get_converters([column for column, *_ in compiler.select[: compiler.col_count]])
        return _Made(sql, tuple(params), tuple((at, tuple(each), column) for at, (each, column) in found.items()))


def _read(row: Sequence[Any], converters: _Converters) -> tuple[Any, ...]:
    """Each column as Python has it."""
    values = list(row)
    for at, each, column in converters:
        for convert in each:
            values[at] = convert(values[at], column, connection)
    return tuple(values)


class Objects(Generic[Row]):
    """The rows of a QuerySet as objects of their model, all columns read."""

    def __init__(self, model: type[Row], rows: Callable[[], QuerySet[Row]]) -> None:
        self._model = model
        self._names = columns(model)
        self._select = Select(lambda: rows().values_list(*self._names))

    def all(self, **keys: Any) -> list[Row]:
        return [instance(self._model, self._names, row) for row in self._select.all(**keys)]

    def first(self, **keys: Any) -> Row | None:
        return next(iter(self.all(**keys)), None)


def instance(model: type[Row], names: Iterable[str], values: Sequence[Any]) -> Row:
    """An object of the database, of the columns that were read: any other one is read when it is asked for."""
    return model.from_db(connection.alias, list(names), list(values))


def columns(model: type[Model]) -> list[str]:
    """The names of all its columns, in the order of the model."""
    return [field.attname for field in model._meta.concrete_fields]


def _key(model: type[Model]) -> Field[Any, Any]:
    return next(field for field in model._meta.concrete_fields if field.primary_key)
