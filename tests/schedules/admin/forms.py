"""What a browser would post of a form of the console."""

from typing import Any

from django import forms
from django.test import Client


def filled(form: forms.BaseForm) -> dict[str, Any]:
    """Every control of the form with the value that it shows."""
    data: dict[str, Any] = {}
    for bound in form:
        value = bound.value()
        widget = getattr(bound.field.widget, "widget", bound.field.widget)  # within the related links
        if isinstance(widget, forms.MultiWidget):
            shown = widget.decompress(value) or []
            data |= {f"{bound.html_name}_{number}": text or "" for number, text in enumerate(shown)}
        elif isinstance(widget, forms.CheckboxInput):
            data |= {bound.html_name: "on"} if value else {}
        elif getattr(widget, "allow_multiple_selected", False):
            data[bound.html_name] = list(value or [])
        else:
            data[bound.html_name] = "" if value is None else value
    return data


def form_of(response: Any) -> forms.BaseForm:
    form: forms.BaseForm = response.context["adminform"].form
    return form


def submit(client: Client, url: str, /, **changes: Any) -> Any:
    """Open a form, change some controls, and post it. `changes` by the controls' names; None leaves one out."""
    data = filled(form_of(client.get(url))) | changes
    return client.post(url, {name: value for name, value in data.items() if value is not None})


def errors_of(response: Any) -> dict[str, list[str]]:
    """Field → sentences, of a form that was refused."""
    assert response.status_code == 200, response.status_code
    return {name: [str(error) for error in errors] for name, errors in form_of(response).errors.items()}
