"""Ask before doing: every change of state is a form that is posted, in a dialog where the browser has JavaScript.

A GET shows the form and changes nothing. The page works by itself; rota.js lifts its form into a dialog.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.contrib.admin import ModelAdmin
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from schedules import halts
from schedules.admin.fields import PairsField
from schedules.models import Repository, Schedule
from schedules.models.schedule import name_is_plain

DIALOG = {"data-rota-ask": ""}
"""Attributes of a link whose page asks."""


def ask(
    request: HttpRequest,
    admin: ModelAdmin[Any],
    *,
    form: forms.Form,
    title: str,
    text: str = "",
    submit: str = "",
    dangerous: bool = False,
    back: str,
    hidden: Mapping[str, Any] | None = None,
    listed: Sequence[str] = (),
) -> TemplateResponse:
    """The page with the form. Without `submit` there is nothing to press.

    `hidden`: names and values, or lists of values, that are posted along. `listed`: what it is about, a line each.
    """
    pairs = [
        (name, value)
        for name, values in (hidden or {}).items()
        for value in (values if isinstance(values, list) else [values])
    ]
    context = {
        **admin.admin_site.each_context(request),
        "opts": admin.opts,
        "title": title,
        "text": text,
        "form": form,
        "submit": submit,
        "dangerous": dangerous,
        "back": back,
        "hidden": pairs,
        "listed": listed,
        "action": request.get_full_path(),
        "media": admin.media + form.media,
    }
    refused = form.errors and request.method == "POST"
    return TemplateResponse(request, "admin/rota/ask.html", context, status=400 if refused else 200)


def not_now(
    request: HttpRequest, admin: ModelAdmin[Any], schedule: Schedule, *, title: str, back: str
) -> TemplateResponse | None:
    """The page that says why nothing of this schedule starts, and offers nothing to press; None where it does."""
    halted = halts.refusal(schedule, now=timezone.now())
    if halted is None:
        return None
    form = ConfirmForm({})
    form.add_error(None, halted[1])
    text = "Until then nothing of it can be run by hand, and its due times are skipped. A backfill makes up for them."
    return ask(request, admin, form=form, title=title, text=text, back=back)


def back_to(request: HttpRequest, otherwise: str) -> HttpResponseRedirect:
    """To the page of ours that the form names as `next`, or `otherwise`."""
    wanted = request.POST.get("next", "")
    allowed = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return redirect(wanted if allowed else otherwise)


class ConfirmForm(forms.Form):
    """Nothing to fill in."""


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=500,
        widget=UnfoldAdminTextInputWidget({"autofocus": True}),
        help_text="Everybody who wonders why it does not run will read this.",
    )


class RehearsableForm(forms.Form):
    """Asks whether to rehearse, where there is a choice: an agent, and a key. `rehearsing`: there is no key."""

    rehearse = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanWidget,
        help_text="With a scripted model on this machine: no key, no cost, nothing delivered.",
    )

    def __init__(self, *args: Any, schedule: Schedule, rehearsing: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if rehearsing or not schedule.is_agent:
            del self.fields["rehearse"]


class RunNowForm(RehearsableForm):
    """Where, with which variables, and whether as a rehearsal."""

    repository = forms.ModelChoiceField(Repository.objects.none(), required=False, widget=UnfoldAdminSelectWidget)
    variables = PairsField(help_text="<code>NAME=value</code>, one in a line.")

    field_order = ("repository", "variables", "rehearse")

    def __init__(self, *args: Any, schedule: Schedule, **kwargs: Any) -> None:
        super().__init__(*args, schedule=schedule, **kwargs)
        places = schedule.repositories.filter(enabled=True)
        count = places.count()
        if count < 2:
            del self.fields["repository"]
        elif isinstance(field := self.fields["repository"], forms.ModelChoiceField):
            field.queryset, field.empty_label = places, f"All {count}"
        if schedule.variables:
            self.fields["variables"].initial = schedule.variables
        else:
            del self.fields["variables"]


class DuplicateForm(forms.Form):
    name = forms.CharField(
        max_length=80, validators=[name_is_plain], widget=UnfoldAdminTextInputWidget({"autofocus": True})
    )

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if Schedule.objects.filter(name=name).exists():
            raise forms.ValidationError("There is a schedule of this name.")
        return name
