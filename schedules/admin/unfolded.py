"""Unfold's classes with the types of the Django classes that they extend: its own annotations contradict their use.

They can be written with their model, as in `ModelAdmin[Run]`, like Django's in its stubs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from django import forms
from django.db.models import Model

from schedules.rendering.display import NOTHING

if TYPE_CHECKING:
    from django.contrib import admin
    from django.contrib.admin.views.main import ChangeList

    _M = TypeVar("_M", bound=Model)
    _F = TypeVar("_F", bound=Callable[..., Any])

    class ModelAdmin(admin.ModelAdmin[_M]):
        """What of Unfold's admin is used here."""

        actions_list: tuple[str, ...]
        actions_row: tuple[str, ...]
        actions_detail: tuple[str | dict[str, Any], ...]
        list_before_template: str
        list_filter_submit: bool
        list_fullwidth: bool
        change_form_outer_before_template: str
        warn_unsaved_form: bool

        def get_actions_list(self, request: Any) -> list[Any]: ...

        def get_actions_detail(self, request: Any, object_id: Any) -> list[Any]: ...

        def _delete_view(self, request: Any, object_id: str, extra_context: Any) -> Any: ...

    class ModelForm(forms.ModelForm[_M]):
        pass

    def action(**options: Any) -> Callable[[_F], _F]: ...

else:
    from unfold.admin import ModelAdmin as UnfoldModelAdmin
    from unfold.decorators import action
    from unfold.views import ChangeList as UnfoldChangeList

    class ChangeList(UnfoldChangeList):
        def get_results(self, request):
            """A list that is shown whole has nothing to say of how much of it is shown, counted or not."""
            super().get_results(request)
            if self.full_result_count is None and not (self.query or self.has_active_filters):
                self.full_result_count = self.result_count

    class ModelAdmin(UnfoldModelAdmin):
        empty_value_display = NOTHING  # one dash on all screens

        def get_changelist(self, request, **kwargs):
            return ChangeList

        def __class_getitem__(cls, model):
            return cls

    class ModelForm(forms.ModelForm):
        def __class_getitem__(cls, model):
            return cls


__all__ = ["ChangeList", "ModelAdmin", "ModelForm", "action"]
