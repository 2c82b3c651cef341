"""Secrets: what there is, since when, and who asks for it. A value goes in and is never shown again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from unfold.decorators import display
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextareaWidget

from schedules import vault
from schedules.admin.unfolded import ChangeList, ModelAdmin, ModelForm
from schedules.models import Secret
from schedules.rendering.display import NOTHING, instant

_MOST_NAMED = 5
_UNSEEN = {"autocomplete": "off", "spellcheck": "false"}


class _UnshownTextarea(UnfoldAdminTextareaWidget):
    """Its text is masked while it is typed, and what was posted is not put into the page again."""

    def format_value(self, value: Any) -> str:
        return ""


class SecretForm(ModelForm[Secret]):
    """The value is written in one of two fields, for a password field of a browser has one line only."""

    value = forms.CharField(
        required=False,
        strip=False,
        widget=UnfoldAdminPasswordWidget(render_value=False, attrs={**_UNSEEN, "autocomplete": "new-password"}),
    )
    lines = forms.CharField(
        label="or several lines",
        required=False,
        strip=False,
        widget=_UnshownTextarea({**_UNSEEN, "rows": 4, "class": "rota-mono rota-unseen"}),
        help_text="Such as a private key. Sessions get it without the newline at its end.",
    )

    class Meta:
        model = Secret
        fields = ("name", "description")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["value"].help_text = (
            "It is encrypted, and never shown again."
            if self.instance._state.adding
            else "Empty: it stays as it is. It is never shown."
        )

    @sensitive_variables()
    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        one, several = cleaned.get("value") or "", vault.without_last_newline(cleaned.get("lines") or "")
        if one and several:
            raise forms.ValidationError({"lines": "Give the value in one of the two fields."})
        given = one or several
        if not given and self.instance._state.adding:
            raise forms.ValidationError({"value": "Give a value."})
        name = cleaned.get("name") or self.instance.name
        if given and name:
            try:
                vault.check(name, given)
            except vault.Refused as refused:
                self.add_error(self._field(refused.field, several=bool(several)), str(refused))
        cleaned["value"] = given
        return cleaned

    def _field(self, field: str, *, several: bool) -> str:
        return "lines" if field == "value" and several else field


class SecretList(ChangeList):
    """The page of secrets, each with the schedules that ask for it as `users`."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        users = vault.users([secret.name for secret in self.result_list])
        for secret in self.result_list:
            secret.users = users[secret.name]


@admin.register(Secret)
class SecretAdmin(ModelAdmin[Secret]):
    form = SecretForm
    fields = ("name", "description", "value", "lines")
    list_display = ("name", "description", "used_by", "given", "set_by")
    search_fields = ("name", "description")
    ordering = ("name",)
    sortable_by = ("name",)
    warn_unsaved_form = True

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return SecretList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Secret]:
        return super().get_queryset(request).defer("ciphertext")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Its name is what schedules know it by."""
        return ("name",) if obj else ()

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Who may only look sees no place for a value."""
        may_set = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        return ("name", "description", "value", "lines") if may_set else ("name", "description")

    @method_decorator(sensitive_post_parameters("value", "lines"))
    @sensitive_variables()
    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return super().changeform_view(request, object_id, form_url, extra_context)

    @sensitive_variables()
    def save_model(self, request: HttpRequest, obj: Secret, form: Any, change: bool) -> None:
        given, by, now = form.cleaned_data["value"], request.user.get_username(), timezone.now()
        if given:
            vault.put(obj.name, given, by=by, now=now, description=obj.description)
            obj.pk = Secret.objects.only("pk").get(name=obj.name).pk
        elif change:
            obj.save(update_fields=["description", "updated_at"])

    def get_deleted_objects(
        self, objs: Iterable[Secret] | QuerySet[Secret], request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[Any]]:
        """One that a schedule asks for is protected."""
        lines, counts, lacking, protected = super().get_deleted_objects(list(objs), request)
        users = vault.users([secret.name for secret in objs])
        asking = [f"{name}: the schedule {user} asks for it." for name, names in users.items() for user in names]
        return lines, counts, lacking, [*protected, *asking]

    def delete_model(self, request: HttpRequest, obj: Secret) -> None:
        vault.delete(obj.name, by=request.user.get_username())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Secret]) -> None:
        for secret in queryset:
            self.delete_model(request, secret)

    @display(description="Asked for by")
    def used_by(self, secret: Secret) -> str:
        users: list[str] = getattr(secret, "users", [])
        more = f" and {len(users) - _MOST_NAMED} more" if len(users) > _MOST_NAMED else ""
        return f"{', '.join(users[:_MOST_NAMED])}{more}" or NOTHING

    @display(description="Set")
    def given(self, secret: Secret) -> SafeString | str:
        return instant(secret.set_at, timezone.now())
