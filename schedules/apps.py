from django.apps import AppConfig


class SchedulesConfig(AppConfig):
    name = "schedules"
    verbose_name = "Rota"

    def ready(self) -> None:
        from schedules import checks  # noqa: F401 - registers them
