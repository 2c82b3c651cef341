"""Rows that Rota writes and people read: no form, nothing to add, to change or to delete."""

from __future__ import annotations

from typing import TypeVar

from django.db.models import Model
from django.http import HttpRequest

from schedules.admin.unfolded import ModelAdmin

_M = TypeVar("_M", bound=Model)


class ReadOnlyAdmin(ModelAdmin[_M]):
    """What a person may do to such a row all the same has a permission, a button and a page that asks of its own."""

    actions = None
    sortable_by = ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
