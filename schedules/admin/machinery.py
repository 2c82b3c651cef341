"""The tables of django-celery-beat, django-celery-results and Django's own users, in the looks of the console."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from django_celery_beat import admin as beat
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)
from django_celery_results import admin as results
from django_celery_results.models import GroupResult, TaskResult
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from schedules.admin.unfolded import ModelAdmin

for model in (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
    GroupResult,
    TaskResult,
    Group,
    User,
):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


class _TaskSelect(UnfoldAdminSelectWidget, beat.TaskSelectWidget):
    """The tasks that Celery knows, as a select of Unfold's."""


class PeriodicTaskForm(beat.PeriodicTaskForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = _TaskSelect()


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(beat.PeriodicTaskAdmin, ModelAdmin[PeriodicTask]):
    form = PeriodicTaskForm


@admin.register(CrontabSchedule)
class CrontabScheduleAdmin(beat.CrontabScheduleAdmin, ModelAdmin[CrontabSchedule]):
    pass


@admin.register(IntervalSchedule, SolarSchedule, ClockedSchedule)
class OtherScheduleAdmin(ModelAdmin[Any]):
    pass


class _NotByHand(ModelAdmin[Any]):
    """Celery writes these."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(TaskResult)
class TaskResultAdmin(results.TaskResultAdmin, _NotByHand):
    date_hierarchy = None  # type: ignore[assignment]  # up to seconds on a large table
    list_filter = ("status",)  # type: ignore[assignment]  # as above: the rest reads every row
    show_full_result_count = False


@admin.register(GroupResult)
class GroupResultAdmin(results.GroupResultAdmin, _NotByHand):
    date_hierarchy = None  # type: ignore[assignment]  # as above
    show_full_result_count = False


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin[User]):  # type: ignore[type-arg]  # no generic when it runs
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin[Group]):
    pass
