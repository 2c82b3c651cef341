"""Lists of rows that only grow: newest first, page by page below an id, never counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from django.contrib.admin import ShowFacets
from django.db.models import Model
from django.http import HttpRequest

from schedules.admin.ids import row_id
from schedules.admin.read_only import ReadOnlyAdmin
from schedules.admin.unfolded import ChangeList

BEFORE = "before"

_M = TypeVar("_M", bound=Model)


@dataclass(frozen=True, slots=True)
class Chip:
    """One of the quick filters above a list."""

    label: str
    status: str
    url: str
    chosen: bool


class ChippedList(ChangeList):
    """A list whose `chips` filter it by status with one click."""

    @property
    def chips(self) -> list[Chip]:
        chosen = self.params.get("status__exact", "")
        choices = self.model._meta.get_field("status").flatchoices  # type: ignore[union-attr]  # a field
        return [
            Chip(label, value, self.get_query_string({"status__exact": value or None}), value == chosen)
            for value, label in (("", "all"), *choices)
        ]


class _Pages:
    """What the list's footer needs of a paginator: its template, and no count."""

    template_name = "admin/rota/older.html"
    per_page = 0
    count = 0
    num_pages = 1


class NewestFirst(ChippedList):
    """A page of the rows with an id below `before`. Its cost does not depend on how far back one reads."""

    before = 0

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        """Without `before`, which is a place in the list and no filter: a link to another filter begins anew."""
        self.before = self.before or row_id(self.filter_params.pop(BEFORE, [""])[-1])
        self.params.pop(BEFORE, None)
        lookups: dict[str, Any] = super().get_filters_params(params)
        return lookups

    def get_results(self, request: HttpRequest) -> None:
        rows = self.queryset.order_by("-pk")
        if self.before:
            rows = rows.filter(pk__lt=self.before)
        read = list(rows[: self.list_per_page + 1])
        self.result_list = read[: self.list_per_page]
        self.older_url = ""
        if len(read) > self.list_per_page:
            self.older_url = self.get_query_string({BEFORE: self.result_list[-1].pk})
        self.newest_url = self.get_query_string() if self.before else ""
        self.result_count = self.full_result_count = len(self.result_list)
        self.show_full_result_count = self.show_admin_actions = False
        self.can_show_all = self.multi_page = False
        self.paginator = _Pages()


class RecordAdmin(ReadOnlyAdmin[_M]):
    list_per_page = 50
    list_fullwidth = True
    list_filter_submit = True
    list_before_template = "admin/rota/chips.html"
    show_full_result_count = False
    show_facets = ShowFacets.NEVER  # they count every row

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return NewestFirst
