"""Fewer indexes on schedules: on PostgreSQL each due time puts its schedule into all of them anew.

Django makes two for a foreign key that is a text, and one for a text that is unique, so that LIKE could use it: nobody
asks for names or commands by how they begin. docs/decisions/0017-fewer-indexes.md has the whole list.

Only indexes are dropped and made, as in 0002.
"""

import django.db.models.deletion
from django.db import migrations, models

_TABLE = "schedules_schedule"


def drop_plain_indexes(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        found = schema_editor.connection.introspection.get_constraints(cursor, _TABLE)
    for name, one in found.items():
        is_plain = one["index"] and not one["unique"] and not one["primary_key"]
        if is_plain and one["columns"] in (["command_id"], ["name"]):
            schema_editor.execute(f"DROP INDEX {schema_editor.quote_name(name)}")


def make_plain_index(apps, schema_editor):
    schema_editor.execute(f"CREATE INDEX {_TABLE}_command_id ON {_TABLE} (command_id)")


class Migration(migrations.Migration):
    dependencies = [("schedules", "0003_parked_and_planned")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(drop_plain_indexes, make_plain_index)],
            state_operations=[
                migrations.AlterField(
                    model_name="schedule",
                    name="command",
                    field=models.ForeignKey(
                        blank=True,
                        db_index=False,
                        help_text="A shared prompt, instead of one of its own.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        to="schedules.command",
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="schedule",
            index=models.Index(
                condition=models.Q(("command__isnull", False)), fields=["command"], name="schedule_of_command"
            ),
        ),
    ]
