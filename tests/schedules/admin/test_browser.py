"""The console in a real browser, under the policy that forbids it every script but its own."""

import os
import re
import shutil
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from django.conf import settings
from django.db import connections
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page, expect, sync_playwright

from config.asgi import application
from schedules.models import Run, Session
from tests.processes import until
from tests.schedules.factories import make_event, make_repository, make_run, make_schedule, make_session

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
POLICY = b"script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'"
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium, or set CHROMIUM"),
]

Message = Any
Send = Callable[[Message], Awaitable[None]]


async def guarded(scope: Any, receive: Any, send: Send) -> None:
    """The application, with the policy on every answer."""

    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"content-security-policy", POLICY)]
        await send(message)

    await application(scope, receive, told)


@pytest.fixture
def server() -> Iterator[str]:
    """Its address on loopback."""
    config = uvicorn.Config(guarded, port=0, lifespan="off", log_level="error", timeout_graceful_shutdown=1)
    web = uvicorn.Server(config)
    thread = threading.Thread(target=web.run)
    thread.start()
    until(lambda: web.started, within=10, what="the web server answers")
    yield f"http://localhost:{web.servers[0].sockets[0].getsockname()[1]}"
    web.should_exit = True
    thread.join(timeout=10)


@pytest.fixture
def page(server: str, console: Client, tmp_path: Path) -> Iterator[Page]:
    """A page of somebody who is signed in. Fails the test for anything that the browser complains of."""
    complaints: list[str] = []
    cookie = console.cookies[settings.SESSION_COOKIE_NAME].value
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET, env={"HOME": str(tmp_path)})
        context = browser.new_context(base_url=server, timezone_id="Asia/Tokyo")
        context.set_default_timeout(10_000)
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": server}])
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        yield page
        browser.close()
    assert complaints == []


@pytest.fixture
def elsewhere() -> Iterator[Callable[..., Any]]:
    """Calls in another thread: Playwright's loop holds this one, where Django refuses to speak to the database."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield lambda write, *args, **kwargs: pool.submit(write, *args, **kwargs).result(timeout=10)
        pool.submit(connections.close_all).result(timeout=10)


def test_the_form_shows_what_the_runner_wants_and_when_it_will_run(page: Page) -> None:
    page.goto(reverse("admin:schedules_schedule_add"))
    page.select_option("#id_runner", "script")
    expect(page.locator("#id_argv")).to_be_visible()
    expect(page.locator("#id_prompt")).to_be_hidden()
    page.select_option("#id_runner", "claude")
    expect(page.locator("#id_argv")).to_be_hidden()
    expect(page.locator("#id_prompt")).to_be_visible()

    page.fill("#id_prompt", "Hello.")
    page.select_option("#id_effort", "max")
    page.locator("nav a", has_text="Limits").click()
    page.fill("#id_max_turns", "5")
    page.locator("nav a", has_text="Where").click()
    page.check("input[name=setting_sources][value=user]")
    page.locator("nav a", has_text="What").click()
    told = page.locator("[data-rota-emptied]")
    expect(told).to_be_hidden()
    page.select_option("#id_runner", "codex")
    expect(told).to_contain_text("for codex takes none: Effort, Setting sources, Max turns.")
    expect(page.locator("#id_fallback_model")).to_be_hidden()
    expect(page.locator("#suggestions-model option").first).to_have_attribute("value", re.compile("gpt"))
    page.locator("nav a", has_text="Where").click()
    expect(page.locator("input[name=setting_sources]:visible")).to_have_count(1)
    page.locator("nav a", has_text="What").click()
    page.select_option("#id_runner", "script")
    expect(told).to_contain_text("Prompt")
    expect(page.locator("#id_command")).to_be_hidden()

    page.locator("nav a", has_text="When").click()
    page.fill("#id_time_zone", "Europe/Paris")
    page.fill("#id_cron", "0 9 * * 1")
    preview = page.locator(".rota-preview")
    expect(preview).to_contain_text("At 09:00, on Monday")
    expect(preview.locator("tbody tr")).to_have_count(10)
    expect(preview.locator("tbody")).to_contain_text("GMT+9")  # the visitor's own
    page.fill("#id_cron", "0 9 * *")
    expect(preview.locator("[role=alert]")).to_contain_text("5 fields")
    expect(preview.locator("tbody tr").first).to_be_hidden()


def test_run_now_asks_in_a_dialog_and_leads_to_the_run(
    page: Page, elsewhere: Callable[..., Any], now: datetime
) -> None:
    schedule = elsewhere(make_schedule, "nightly", now=now, repositories=[elsewhere(make_repository, "shop")])
    page.goto(reverse("admin:schedules_schedule_change", args=(schedule.pk,)))

    page.get_by_role("link", name="Run now").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Run nightly now")
    dialog.get_by_text("Back").click()
    expect(dialog).to_have_count(0)
    page.get_by_role("link", name="Run now").click()
    dialog.get_by_role("button", name="Run now").click()

    expect(page.locator(".rota-heading")).to_contain_text("nightly")
    assert elsewhere(Run.objects.count) == 1


def test_a_session_is_watched_without_a_reload(page: Page, elsewhere: Callable[..., Any], now: datetime) -> None:
    run = elsewhere(make_run, elsewhere(make_schedule, now=now, runner="claude"), now=now, status="running")
    session = elsewhere(make_session, run, now=now, status="running", activity="Thinking")
    elsewhere(make_event, session, now=now, seq=1, text="It begins")
    page.goto(reverse("admin:schedules_session_change", args=(session.pk,)))
    expect(page.locator("[data-rota-live-state]")).to_have_text("live")
    expect(page.locator("#rota-transcript")).to_contain_text("It begins")

    elsewhere(make_event, session, now=now, seq=2, text="<script>window.pwned = 1</script> It goes **on**")
    elsewhere(Session.objects.filter(pk=session.pk).update, turns=3, activity="Writing")
    expect(page.locator("#rota-transcript strong")).to_have_text("on")
    expect(page.locator("[data-rota-fact=turns]")).to_have_text("3")
    expect(page.locator("[data-rota-fact=activity]")).to_have_text("Writing")
    elsewhere(Session.objects.finish, session.pk, status="succeeded", reason="ok", now=now, result="All is **well**.")

    expect(page.locator("#rota-session-result strong")).to_have_text("well")
    expect(page.locator("#rota-session-head .rota-pill").first).to_have_text("succeeded")
    expect(page.locator("#rota-transcript li")).to_have_count(2)
    expect(page.get_by_role("link", name="Retry")).to_be_visible()
    assert page.evaluate("window.pwned") is None
