"""Many rows, each with values of its own, written in one go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from django.db import connection, models

_M = TypeVar("_M", bound=models.Model)


def write_back(rows: Sequence[_M], fields: Sequence[str]) -> None:
    """Save these fields of each row, in the caller's transaction.

    One prepared UPDATE that is sent with the values of all rows. Django's `bulk_update` makes one statement of them,
    with a branch for each row and field, and takes ten times as long for a thousand rows.
    """
    if not rows:
        return
    by_name = {field.name: field for field in rows[0]._meta.concrete_fields}
    columns = [by_name[name] for name in fields]
    quote = connection.ops.quote_name
    values = [
        (*(field.get_db_prep_save(getattr(row, field.attname), connection) for field in columns), row.pk)
        for row in rows
    ]
    settings = ", ".join(f"{quote(field.column or field.name)} = %s" for field in columns)
    with connection.cursor() as cursor:
        cursor.executemany(f"UPDATE {quote(rows[0]._meta.db_table)} SET {settings} WHERE id = %s", values)
