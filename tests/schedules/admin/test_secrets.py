"""Secrets in the console: a value goes in and is never shown again, by no page, to nobody."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries, Settings

from schedules import vault
from schedules.models import Secret
from tests.schedules.admin.forms import errors_of, submit
from tests.schedules.factories import make_schedule

LIST = "admin:schedules_secret_changelist"
VALUE = "canary-47110815"
KEY = "-----BEGIN KEY-----\r\ncanary-MIIEvQIBADANBgkq\r\n-----END KEY-----\r\n"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_others(settings: Settings) -> None:
    settings.ROTA_SECRETS = {}


@pytest.fixture
def token(now: datetime) -> Secret:
    vault.put("TOKEN", VALUE, by="ada", now=now, description="Opens the door")
    return Secret.objects.get()


def page(secret: Secret) -> str:
    return reverse("admin:schedules_secret_change", args=(secret.pk,))


def everything_logged() -> str:
    return " ".join(f"{entry.object_repr} {entry.change_message}" for entry in LogEntry.objects.all())


def test_one_is_added(console: Client) -> None:
    answer = submit(
        console, reverse("admin:schedules_secret_add"), name="TOKEN", description="For deploys", value=VALUE
    )
    assert answer.status_code == 302
    secret = Secret.objects.get()
    assert (secret.name, secret.description, secret.set_by) == ("TOKEN", "For deploys", "olive")
    assert vault.values(["TOKEN"]) == {"TOKEN": VALUE}
    assert LogEntry.objects.get().object_id == str(secret.pk)
    assert "canary" not in everything_logged()
    assert b"canary" not in console.get(answer.headers["Location"]).content


def test_several_lines_have_a_field_of_their_own(console: Client) -> None:
    submit(console, reverse("admin:schedules_secret_add"), name="SSH_KEY", lines=KEY)
    assert vault.values(["SSH_KEY"]) == {"SSH_KEY": KEY.replace("\r\n", "\n").removesuffix("\n")}


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"name": "TOKEN"}, "value", "Give a value."),
        ({"name": "TOKEN", "value": "12345"}, "value", "at least 6 characters"),
        ({"name": "TOKEN", "lines": "1\r\n2"}, "lines", "at least 6 characters"),
        ({"name": "TOKEN", "value": VALUE, "lines": VALUE}, "lines", "in one of the two fields"),
        ({"name": "HOME", "value": VALUE}, "name", "HOME can't be set"),
        ({"name": "A-B", "value": VALUE}, "name", "A name has letters"),
        ({"name": "", "value": VALUE}, "name", "required"),
        ({"name": "THERE", "value": VALUE}, "name", "already exists"),
    ],
)
def test_what_can_be_no_secret_is_refused_at_its_field_and_not_shown_again(
    console: Client, now: datetime, given: dict[str, str], field: str, words: str
) -> None:
    vault.put("THERE", "another-one", by="ada", now=now)
    answer = submit(console, reverse("admin:schedules_secret_add"), **given)
    assert words in " ".join(errors_of(answer)[field])
    assert b"canary" not in answer.content
    assert Secret.objects.count() == 1


def test_its_page_has_a_place_for_a_new_value_and_not_the_old_one(console: Client, token: Secret) -> None:
    html = console.get(page(token)).content.decode()
    assert 'type="password"' in html
    assert "It is never shown." in html
    assert VALUE not in html
    assert token.ciphertext not in html


def test_it_gets_a_new_value_or_keeps_its_own(console: Client, token: Secret) -> None:
    submit(console, page(token), value="canary-the-second")
    assert vault.values(["TOKEN"]) == {"TOKEN": "canary-the-second"}
    submit(console, page(token), description="Opens two doors")
    assert vault.values(["TOKEN"]) == {"TOKEN": "canary-the-second"}
    token.refresh_from_db()
    assert (token.name, token.description, token.set_by) == ("TOKEN", "Opens two doors", "olive")
    assert "canary" not in everything_logged()


def test_its_name_stays(console: Client, token: Secret) -> None:
    submit(console, page(token), name="RENAMED", description="x")
    assert Secret.objects.get().name == "TOKEN"


def test_the_list_tells_who_asks_for_it(
    console: Client, token: Secret, now: datetime, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(7):
        make_schedule(f"deploy-{number}", now=now, secrets=["TOKEN"])
    vault.put("LONELY", "another-one", by="ada", now=now)
    with django_assert_max_num_queries(9):  # of which five are the login's and the banners'
        html = console.get(reverse(LIST)).content.decode()
    assert "deploy-0, deploy-1, deploy-2, deploy-3, deploy-4 and 2 more" in html
    assert VALUE not in html
    assert token.ciphertext not in html


def test_one_that_is_asked_for_is_not_deleted(console: Client, token: Secret, now: datetime) -> None:
    schedule = make_schedule("deploy", now=now, secrets=["TOKEN"])
    url = reverse("admin:schedules_secret_delete", args=(token.pk,))
    assert "TOKEN: the schedule deploy asks for it." in console.get(url).content.decode()
    console.post(url, {"post": "yes"})
    assert Secret.objects.exists()

    schedule.secrets = []
    schedule.save()
    console.post(url, {"post": "yes"})
    assert not Secret.objects.exists()


def test_several_are_deleted_from_the_list(console: Client, token: Secret) -> None:
    data = {"action": "delete_selected", "_selected_action": [token.pk], "post": "yes"}
    console.post(reverse(LIST), data)
    assert not Secret.objects.exists()


def test_an_onlooker_sees_names_and_has_no_place_for_a_value(onlooker: Client, token: Secret) -> None:
    assert "TOKEN" in onlooker.get(reverse(LIST)).content.decode()
    html = onlooker.get(page(token)).content.decode()
    assert 'type="password"' not in html
    assert token.ciphertext not in html
    assert onlooker.post(page(token), {"value": "canary-the-second"}).status_code == 403


def test_a_stranger_sees_nothing(stranger: Client, token: Secret) -> None:
    assert stranger.get(reverse(LIST)).status_code == 403
    assert stranger.get(page(token)).status_code == 403
    assert stranger.get(reverse("admin:schedules_secret_add")).status_code == 403


def test_who_may_only_add_them_adds_one(db: None) -> None:
    user = User.objects.create_user("sue", password="secret", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="add_secret"))
    client = Client()
    client.force_login(user)
    client.post(reverse("admin:schedules_secret_add"), {"name": "TOKEN", "description": "", "value": VALUE})
    assert vault.values(["TOKEN"]) == {"TOKEN": VALUE}


def test_schedules_are_offered_those_of_both_sources(console: Client, token: Secret, settings: Settings) -> None:
    settings.ROTA_SECRETS = {"OF_THE_SHELL": "canary-of-the-shell"}
    html = console.get(reverse("admin:schedules_schedule_add")).content.decode()
    assert 'value="TOKEN"' in html
    assert 'value="OF_THE_SHELL"' in html
    assert "canary" not in html


def test_a_page_that_tells_of_a_fault_shows_no_value(console: Client, settings: Settings) -> None:
    settings.DEBUG = True
    settings.ROTA_CREDENTIALS = {"ANTHROPIC_API_KEY": "canary-of-the-model"}
    settings.CELERY_BROKER_URL = "redis://:canary-of-the-broker@127.0.0.1/0"
    settings.ROTA_SECRETS_KEYS = []  # no key at all: a fault, deep within
    console.raise_request_exception = False
    given = {"name": "TOKEN", "description": "", "value": VALUE, "lines": ""}
    answer = console.post(reverse("admin:schedules_secret_add"), given)
    assert answer.status_code == 500
    html = answer.content.decode()
    assert "MultiFernet requires" in html
    assert "CELERY_BROKER_URL" in html
    assert "canary" not in html


def test_the_mask_is_in_the_style_sheet() -> None:
    css = Path(django_settings.BASE_DIR, "schedules/static/rota/rota.css").read_text()
    assert ".rota-unseen { -webkit-text-security: disc; }" in css
