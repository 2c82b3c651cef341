"""Fewer indexes on runs and sessions: each new row was put into nineteen, most of them for columns that are empty.

A foreign key has a plain index by default. Which index serves its queries instead, and the check when what it points at
is deleted, is said in Meta of the models, beside each index; docs/decisions/0017-fewer-indexes.md has the whole list.

Only indexes are dropped and made: SQLite would copy a table anew for each of the nine columns if Django altered them.
"""

import django.db.models.deletion
from django.db import migrations, models

_WITHOUT_ONE = {
    "schedules_run": ("schedule_id", "repository_id", "retry_of_id"),
    "schedules_session": (
        "run_id",
        "schedule_id",
        "repository_id",
        "retry_of_id",
        "worker_id",
        "resumed_from_id",
    ),
}


def drop_plain_indexes(apps, schema_editor):
    quote = schema_editor.quote_name
    for table, columns in _WITHOUT_ONE.items():
        with schema_editor.connection.cursor() as cursor:
            found = schema_editor.connection.introspection.get_constraints(cursor, table)
        for name, one in found.items():
            is_plain = one["index"] and not one["unique"] and not one["primary_key"]
            if is_plain and len(one["columns"]) == 1 and one["columns"][0] in columns:
                schema_editor.execute(f"DROP INDEX {quote(name)}")


def make_plain_indexes(apps, schema_editor):
    quote = schema_editor.quote_name
    for table, columns in _WITHOUT_ONE.items():
        for column in columns:
            name = f"{table}_{column}"
            schema_editor.execute(f"CREATE INDEX {quote(name)} ON {quote(table)} ({quote(column)})")


class Migration(migrations.Migration):
    dependencies = [("schedules", "0001_initial")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(drop_plain_indexes, make_plain_indexes)],
            state_operations=[
                migrations.AlterField(
                    model_name="run",
                    name="repository",
                    field=models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="runs",
                        to="schedules.repository",
                    ),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="retry_of",
                    field=models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="retries",
                        to="schedules.run",
                    ),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="schedule",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="runs",
                        to="schedules.schedule",
                    ),
                ),
                migrations.AlterField(
                    model_name="session",
                    name="repository",
                    field=models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="sessions",
                        to="schedules.repository",
                    ),
                ),
                migrations.AlterField(
                    model_name="session",
                    name="resumed_from",
                    field=models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="schedules.session",
                    ),
                ),
                migrations.AlterField(
                    model_name="session",
                    name="retry_of",
                    field=models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="retries",
                        to="schedules.session",
                    ),
                ),
                migrations.AlterField(
                    model_name="session",
                    name="run",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="sessions",
                        to="schedules.run",
                    ),
                ),
                migrations.AlterField(
                    model_name="session",
                    name="schedule",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="sessions",
                        to="schedules.schedule",
                    ),
                ),
                migrations.AlterField(
                    model_name="session",
                    name="worker",
                    field=models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="sessions",
                        to="schedules.workerheartbeat",
                    ),
                ),
            ],
        ),
        migrations.RemoveIndex(model_name="run", name="run_finished"),
        migrations.RemoveIndex(model_name="session", name="session_of_schedule"),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                condition=models.Q(("repository__isnull", False)), fields=["repository"], name="run_of_repository"
            ),
        ),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(condition=models.Q(("retry_of__isnull", False)), fields=["retry_of"], name="run_retry"),
        ),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                condition=models.Q(("finished_at__isnull", False)), fields=["finished_at"], name="run_ended"
            ),
        ),
        migrations.AddIndex(
            model_name="session",
            index=models.Index(fields=["schedule", "-id"], name="session_by_schedule"),
        ),
        migrations.AddIndex(
            model_name="session",
            index=models.Index(
                condition=models.Q(("repository__isnull", False)),
                fields=["repository", "schedule", "-id"],
                name="session_of_place",
            ),
        ),
        migrations.AddIndex(
            model_name="session",
            index=models.Index(
                condition=models.Q(("worker__isnull", False)), fields=["worker"], name="session_of_worker"
            ),
        ),
        migrations.AddIndex(
            model_name="session",
            index=models.Index(
                condition=models.Q(("retry_of__isnull", False)), fields=["retry_of"], name="session_retry"
            ),
        ),
        migrations.AddIndex(
            model_name="session",
            index=models.Index(
                condition=models.Q(("resumed_from__isnull", False)), fields=["resumed_from"], name="session_resumed"
            ),
        ),
    ]
