"""The configuration that a run goes by: which facts of its schedule, as Python reads them and as the database does.

Both follow from one table. Python makes the snapshot of one schedule; where thousands are due at once the database
writes theirs itself, and no row of a schedule travels to Python and back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.models import Case, Expression, F, Func, Q, TextField, Value, When
from django.db.models.functions import Coalesce, JSONObject

if TYPE_CHECKING:
    from schedules.models.schedule import Schedule

# What a runner may know of its schedule: the options of its snapshot.
OPTION_FIELDS = (
    "model",
    "fallback_model",
    "effort",
    "permission_mode",
    "allowed_tools",
    "disallowed_tools",
    "max_turns",
    "max_budget_usd",
    "append_system_prompt",
    "agents",
    "setting_sources",
    "plugins",
    "mcp_servers",
    "json_schema",
    "allow_empty_result",
    "tolerate_denied",
    "rehearsal_script",
    "argv",
    "working_directory",
    "function",
    "arguments",
)


class _Json(Func):
    """A JSON column as a part of a larger JSON value. SQLite keeps it as text."""

    template = "%(expressions)s"
    output_field = models.JSONField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="JSON(%(expressions)s)", **context)


class _Flag(_Json):
    """A boolean column. SQLite keeps it as 0 or 1."""

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(
            compiler, connection, template="JSON(CASE WHEN %(expressions)s THEN 'true' ELSE 'false' END)", **context
        )


class _Seconds(Func):
    """A duration. SQLite keeps it in microseconds."""

    template = "EXTRACT(EPOCH FROM %(expressions)s)"
    output_field = models.FloatField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="(%(expressions)s / 1000000.0)", **context)


class _Money(Func):
    """An amount with two decimals, as text. SQLite keeps it as a number."""

    template = "(%(expressions)s)::text"
    output_field = TextField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        # PRINTF makes 0.00 of a NULL, and a string that is joined to a NULL is one.
        template = "PRINTF('%%%%.2f', %(expressions)s) || SUBSTR(%(expressions)s, 1, 0)"
        return self.as_sql(compiler, connection, template=template, **context)


class _Is(Func):
    """Whether a column has this value; or none, where the value is NULL."""

    template = "%(expressions)s"
    arg_joiner = " IS NOT DISTINCT FROM "
    output_field = models.BooleanField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, arg_joiner=" IS ", **context)


class _Printed(Func):
    """A text whose gaps are filled, read as JSON."""

    function = "PRINTF"
    output_field = models.JSONField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="FORMAT(%(expressions)s)::jsonb", **context)


class _Quoted(Func):
    """A text as JSON."""

    function = "JSON_QUOTE"
    output_field = TextField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, function="TO_JSON", **context)


@dataclass(frozen=True, slots=True)
class _Reckoned:
    """A fact that is no column of the schedule."""

    python: Callable[[Any], Any]  # of a schedule
    database: Callable[[], Expression]
    columns: tuple[str, ...]  # all that decides about it, beside the settings


def _template() -> Expression:
    return Coalesce("command__prompt", "prompt", output_field=TextField())


def _function_path() -> Expression:
    known = [When(function=name, then=Value(path)) for name, path in settings.ROTA_FUNCTIONS.items()]
    return Case(*known, default=Value(""), output_field=TextField())


def _plugin_folders() -> Expression:
    none, folders = (Value(found, models.JSONField()) for found in ([], list(settings.ROTA_PLUGIN_FOLDERS)))
    return _Json(Case(When(plugins=[], then=none), default=folders))


_OPTIONS: Mapping[str, str | _Reckoned] = {
    **{name: name for name in OPTION_FIELDS},
    "function_path": _Reckoned(
        lambda one: settings.ROTA_FUNCTIONS.get(one.function, ""), _function_path, columns=("function",)
    ),
    "plugin_folders": _Reckoned(
        lambda one: list(settings.ROTA_PLUGIN_FOLDERS) if one.plugins else [], _plugin_folders, columns=("plugins",)
    ),
}
_FACTS: Mapping[str, str | _Reckoned] = {
    "schedule": "name",
    "runner": "runner",
    "target": "target",
    "command": "command_id",
    "template": _Reckoned(lambda schedule: schedule.template, _template, columns=("command_id", "prompt")),
    "variables": "variables",
    "options": _Reckoned(lambda schedule: _read(schedule, _OPTIONS), lambda: _object(_OPTIONS), columns=OPTION_FIELDS),
    "filter_query": "filter_query",
    "max_items": "max_items",
    "cron": "cron",
    "time_zone": "time_zone",
    "timeout": "timeout",
    "silence": "silence",
    "overlap": "overlap",
    "catch_up": "catch_up",
    "max_sessions": "max_sessions",
    "priority": "priority",
    "retry": "retry",
    "retry_attempts": "retry_attempts",
    "retry_backoff": "retry_backoff",
    "continue_interrupted": "continue_interrupted",
    "environment": "environment",
    "secrets": "secrets",
    "sandbox": "sandbox",
    "network": "network",
    "allowed_hosts": "allowed_hosts",
    "persistence": "persistence",
    "checks": "checks",
}
# In what schedules differ that are set up alike: texts and JSON.
_OWN, _OWN_OPTIONS = ("schedule", "template", "variables", "cron"), ("argv",)


def snapshot(schedule: Schedule) -> dict[str, Any]:
    """The configuration as it is now, JSON-able."""
    return _read(schedule, _FACTS)


def options(schedule: Schedule) -> dict[str, Any]:
    """The part of it that its runner may know."""
    return _read(schedule, _OPTIONS)


def snapshot_expression(like: Schedule | None = None) -> Expression:
    """The same for the rows of a query of schedules, as JSON that the database makes.

    `like`: many of them are as this one, but for a few columns. To compare the others is less work for the database
    than to make JSON of them. Of a row that differs in more, JSON is made as without it.
    """
    if like is None:
        return _object(_FACTS)
    same = [_Is(F(column), _value(like, column)) for column in _shared()]
    return Case(When(Q(*same), then=_printed(like)), default=_object(_FACTS))


def _shared() -> list[str]:
    """The columns that decide about all but their own facts."""
    facts = [*_without(_FACTS, (*_OWN, "options")).values(), *_without(_OPTIONS, _OWN_OPTIONS).values()]
    columns = chain.from_iterable(fact.columns if isinstance(fact, _Reckoned) else (fact,) for fact in facts)
    return list(dict.fromkeys(columns))


def _value(schedule: Schedule, column: str) -> Value:
    value = getattr(schedule, column)
    return Value(None) if value is None else Value(value, _field(column))


def _printed(like: Schedule) -> Expression:
    """One's text with a gap for each fact of its own."""
    options = _with_gaps(_read(like, _without(_OPTIONS, _OWN_OPTIONS)), _OWN_OPTIONS)
    facts = _with_gaps(_read(like, _without(_FACTS, (*_OWN, "options"))), _OWN)
    own = [*(_FACTS[name] for name in _OWN), *(_OPTIONS[name] for name in _OWN_OPTIONS)]
    made = [_made(fact) for fact in own]
    texts = [one if isinstance(one, _Json) else _Quoted(one) for one in made]
    return _Printed(Value(f'{facts},"options":{options}}}}}'), *texts)


def _with_gaps(facts: Mapping[str, Any], gaps: Iterable[str]) -> str:
    """JSON, but for its closing brace."""
    return ",".join([_json(facts)[:-1].replace("%", "%%"), *(f'"{name}":%s' for name in gaps)])


def _json(facts: Mapping[str, Any]) -> str:
    """As short as the database's own."""
    return json.dumps(facts, separators=(",", ":"))


def _without(facts: Mapping[str, str | _Reckoned], names: Iterable[str]) -> dict[str, str | _Reckoned]:
    return {name: fact for name, fact in facts.items() if name not in names}


# --- Of each ----------------------------------------------------------------------------------------------------------


def _read(schedule: Schedule, facts: Mapping[str, str | _Reckoned]) -> dict[str, Any]:
    return {
        name: fact.python(schedule) if isinstance(fact, _Reckoned) else _plain(getattr(schedule, fact))
        for name, fact in facts.items()
    }


def _plain(value: Any) -> Any:
    match value:
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return str(value)
    return value


def _object(facts: Mapping[str, str | _Reckoned]) -> JSONObject:
    return JSONObject(**{name: _made(fact) for name, fact in facts.items()})


def _made(fact: str | _Reckoned) -> Expression | F:
    return fact.database() if isinstance(fact, _Reckoned) else _expression(fact)


def _expression(column: str) -> Expression | F:
    match _field(column):
        case models.JSONField():
            return _Json(column)
        case models.BooleanField():
            return _Flag(column)
        case models.DurationField():
            return _Seconds(column)
        case models.DecimalField():
            return _Money(column)
    return F(column)


def _field(column: str) -> Any:
    from schedules.models.schedule import Schedule  # it is made of this module

    return Schedule._meta.get_field(column.removesuffix("_id"))
