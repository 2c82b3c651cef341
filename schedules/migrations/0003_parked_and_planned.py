import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("schedules", "0002_fewer_indexes")]

    operations = [
        migrations.CreateModel(
            name="KeptWork",
            fields=[
                (
                    "session",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="kept_work",
                        serialize=False,
                        to="schedules.session",
                    ),
                ),
                ("data", models.BinaryField(help_text="A git bundle, on top of the commit of its run.")),
                ("kept_at", models.DateTimeField()),
            ],
        ),
        migrations.AddIndex(
            model_name="schedule",
            index=models.Index(
                condition=models.Q(("at__isnull", False), ("due_at", None), ("status", "active")),
                fields=["at"],
                name="schedule_once_unplanned",
            ),
        ),
    ]
