"""Repositories: where sessions work."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from runners import RunnerError, probe
from schedules.admin.fields import StructureField
from schedules.admin.unfolded import ModelAdmin, ModelForm
from schedules.models import Repository
from schedules.rendering.display import pill

_PATIENCE = timedelta(seconds=5)


class RepositoryForm(ModelForm[Repository]):
    forge_settings = StructureField(empty=dict, help_text="What the forge needs, in JSON.")

    class Meta:
        model = Repository
        fields = (
            *("slug", "url", "default_branch", "enabled"),
            *("max_sessions", "workspaces", "on_fetch_failure", "forge", "forge_settings"),
        )


@admin.register(Repository)
class RepositoryAdmin(ModelAdmin[Repository]):
    form = RepositoryForm
    list_display = ("slug", "address", "default_branch", "state", "used")
    list_filter = ("enabled", "forge")
    search_fields = ("slug", "url")
    ordering = ("slug",)
    warn_unsaved_form = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Repository]:
        return super().get_queryset(request).annotate(schedule_count=Count("schedules"))

    def save_model(self, request: HttpRequest, obj: Repository, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        request.rota_saved = obj  # type: ignore[attr-defined]  # ours, for `changeform_view`

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Saved first, asked afterwards: nobody waits for a forge inside a transaction."""
        response: HttpResponse = super().changeform_view(request, object_id, form_url, extra_context)
        saved: Repository | None = getattr(request, "rota_saved", None)
        if saved is not None and response.status_code == 302:
            self._try(request, saved)
        return response

    def _try(self, request: HttpRequest, repository: Repository) -> None:
        """Tell whether it can be read from here, and note its branch where none was given."""
        try:
            found = probe(repository.url, timeout=_PATIENCE)
        except RunnerError as error:
            self.message_user(request, f"It is saved, but could not be read from here: {error}", messages.WARNING)
            return
        repository.default_branch = repository.default_branch or found.default_branch
        try:
            repository.clean_fields()  # a forge may name its branch as it pleases
            repository.clean()
        except ValidationError:
            return
        unnamed = Repository.objects.filter(pk=repository.pk, default_branch="")
        if unnamed.update(default_branch=found.default_branch):
            self.message_user(request, f"It answers. Its branch is {found.default_branch}.", messages.INFO)

    @display(description="Address")
    def address(self, repository: Repository) -> SafeString:
        return format_html('<span class="rota-mono rota-clip" title="{0}">{0}</span>', repository.url)

    @display(description="Status", ordering="enabled")
    def state(self, repository: Repository) -> SafeString:
        return pill("active", label="on") if repository.enabled else pill("disabled", label="off")

    @display(description="Schedules")
    def used(self, repository: Repository) -> int:
        return int(getattr(repository, "schedule_count", 0))
