"""PostgreSQL does not look for the schedule of each new session: it has looked for its run, and for that run's schedule.

docs/decisions/0017-fewer-indexes.md says why. SQLite keeps its check, for to drop it would copy the table.
"""

import django.db.models.deletion
from django.db import migrations, models


class AlterFieldOfPostgreSQL(migrations.AlterField):
    """Elsewhere the table stays as it is."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        if schema_editor.connection.vendor == "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        self.database_forwards(app_label, schema_editor, from_state, to_state)


class Migration(migrations.Migration):
    dependencies = [("schedules", "0004_fewer_indexes_of_schedules")]

    operations = [
        AlterFieldOfPostgreSQL(
            model_name="session",
            name="schedule",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="sessions",
                to="schedules.schedule",
            ),
        ),
    ]
