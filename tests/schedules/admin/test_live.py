"""The stream of a session, through the ASGI application that serves it."""

import asyncio
import gc
import json
import re
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psutil
import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.db import connection, connections
from django.test import Client
from django.urls import reverse

from config.asgi import application
from schedules.admin import live
from schedules.models import Session
from tests.schedules.factories import make_event, make_session

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 10.0


@dataclass
class Listener:
    """A browser that listens to one session."""

    communicator: Any  # untyped
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    over: bool = False

    async def hear(self, wanted: Callable[[str], bool]) -> str:
        """Listen until what was heard is as wanted; fail the test after PATIENCE seconds."""
        async with asyncio.timeout(PATIENCE):
            while not wanted(self.text) and not self.over:
                message = await self.communicator.receive_output(timeout=PATIENCE)
                if message["type"] == "http.response.start":
                    self.status = message["status"]
                    self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
                else:
                    self.text += message.get("body", b"").decode()
                    self.over = not message.get("more_body", False)
        return self.text

    async def leave(self) -> None:
        await self.communicator.send_input({"type": "http.disconnect"})
        await self.communicator.wait(timeout=PATIENCE)


def listen(url: str, client: Client, **headers: str) -> Listener:
    path, _, query = url.partition("?")
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value if client.cookies else ""
    sent = {"host": "localhost", "cookie": f"{settings.SESSION_COOKIE_NAME}={cookie}", **headers}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items()],
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 1),
    }
    return Listener(ApplicationCommunicator(application, scope))  # type: ignore[no-untyped-call]


async def connect(listener: Listener) -> Listener:
    await listener.communicator.send_input({"type": "http.request", "body": b"", "more_body": False})
    return listener


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A story of the browser's side, in a loop of its own; the rows are written from here."""
    asyncio.run(story())


def later(write: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Write to the database from inside a loop."""

    def alone(*args: Any, **kwargs: Any) -> Any:
        try:
            return write(*args, **kwargs)
        finally:
            connections.close_all()

    return sync_to_async(alone, thread_sensitive=False)


def events_of(session: Session) -> str:
    return reverse("admin:schedules_session_events", args=(session.pk,))


def ids(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"^id: (\d+)$", text, re.MULTILINE)]


def test_what_happens_is_told_as_it_happens_until_the_end(console: Client, now: datetime) -> None:
    session = make_session(now=now, status="running", activity="Reading", turns=1)
    make_event(session, now=now, seq=1, text="It begins")

    async def story() -> None:
        listener = await connect(listen(events_of(session), console))
        await listener.hear(lambda text: "It begins" in text and "event: state" in text)
        await later(make_event)(session, now=now, seq=2, text="It goes **on**")
        await listener.hear(lambda text: "<strong>on</strong>" in text)
        await later(Session.objects.filter(pk=session.pk).update)(turns=2, activity="Writing")
        await listener.hear(lambda text: '"turns": "2"' in text and "Writing" in text)
        await later(make_event)(session, now=now, seq=3, kind="note", text="The last word")
        await later(Session.objects.finish)(session.pk, status="succeeded", reason="ok", now=now)
        await listener.hear(lambda text: False)

        assert listener.status == 200
        assert listener.headers["content-type"] == "text/event-stream"
        assert listener.headers["cache-control"] == "no-store"
        assert ids(listener.text) == [1, 2, 3]
        assert "The last word" in listener.text
        assert listener.text.rstrip().endswith("event: end\ndata: {}")

    run(story)


def test_a_listener_that_comes_back_hears_what_it_missed_and_nothing_twice(console: Client, now: datetime) -> None:
    session = make_session(now=now, status="succeeded")
    for seq in range(1, 5):
        make_event(session, now=now, seq=seq, text=f"Number {seq}.")

    async def story() -> None:
        returned = await connect(listen(f"{events_of(session)}?after=0", console, last_event_id="3"))
        await returned.hear(lambda text: False)
        newcomer = await connect(listen(f"{events_of(session)}?after=1", console))
        await newcomer.hear(lambda text: False)

        assert "Number 4." in returned.text
        assert "Number 3." not in returned.text
        assert "Number 2." in newcomer.text
        assert "Number 1." not in newcomer.text

    run(story)


@pytest.mark.parametrize("last", ["", "x", "-1", "9" * 30, "²"])
def test_a_last_event_that_is_none_is_the_beginning(console: Client, now: datetime, last: str) -> None:
    session = make_session(now=now, status="succeeded")
    make_event(session, now=now, seq=1, text="From the beginning")

    async def story() -> None:
        headers = {"last_event_id": last} if last.isascii() else {}
        listener = await connect(listen(f"{events_of(session)}?after=", console, **headers))
        assert "From the beginning" in await listener.hear(lambda text: False)

    run(story)


def test_a_long_past_comes_in_batches(console: Client, now: datetime) -> None:
    session = make_session(now=now, status="succeeded")
    for seq in range(1, live.BATCH * 2 + 2):
        make_event(session, now=now, seq=seq, kind="output", text=".")

    async def story() -> None:
        listener = await connect(listen(events_of(session), console))
        await listener.hear(lambda text: False)

        assert ids(listener.text) == [live.BATCH, live.BATCH * 2, live.BATCH * 2 + 1]

    run(story)


def test_what_is_told_is_escaped_and_one_line(console: Client, now: datetime) -> None:
    session = make_session(now=now, status="succeeded", activity="<script>", model="<b>\n\ndata: x")
    make_event(session, now=now, seq=1, text="<script>alert(1)</script>\n\nevent: end\ndata: {}")

    async def story() -> None:
        listener = await connect(listen(events_of(session), console))
        await listener.hear(lambda text: False)

        for line in listener.text.splitlines():
            assert re.match(r"(id|event|data|retry): |$", line)
        told = [json.loads(line[6:]) for line in listener.text.splitlines() if line.startswith("data: ")]
        assert "&lt;script&gt;" in told[0]["html"]
        assert "<script" not in told[0]["html"]
        assert told[1]["facts"]["activity"] == "<script>"  # a text, for textContent
        assert [line for line in listener.text.splitlines() if line.startswith("event: end")] == ["event: end"]

    run(story)


def test_a_session_that_is_not_there_ends_at_once(console: Client) -> None:
    async def story() -> None:
        listener = await connect(listen(reverse("admin:schedules_session_events", args=(999,)), console))
        await listener.hear(lambda text: False)

        assert "event:" not in listener.text

    run(story)


def test_nobody_listens_without_the_right_to(now: datetime) -> None:
    session = make_session(now=now, status="running")
    make_event(session, now=now, seq=1, text="Secret")
    lou = User.objects.create_user("lou", is_staff=True)
    eve = User.objects.create_user("eve")
    eve.user_permissions.add(Permission.objects.get(codename="view_session", content_type__app_label="schedules"))
    clients = [Client(), Client(), Client()]
    clients[1].force_login(lou)
    clients[2].force_login(eve)

    async def story() -> None:
        for client in clients:
            listener = await connect(listen(events_of(session), client))
            await listener.hear(lambda text: False)

            assert listener.status == 403
            assert "Secret" not in listener.text

    run(story)


def test_who_may_look_may_listen(onlooker: Client, now: datetime) -> None:
    session = make_session(now=now, status="succeeded")

    async def story() -> None:
        listener = await connect(listen(events_of(session), onlooker))
        await listener.hear(lambda text: False)

        assert listener.status == 200

    run(story)


def open_connections() -> int:
    """How many connections to the database this process has, but for the one that asks."""
    if connection.vendor == "sqlite":
        name = connection.settings_dict["NAME"]
        return sum(file.path == name for file in psutil.Process().open_files())
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = current_database()")
        (count,) = cursor.fetchone()
    connections.close_all()
    return int(count)


def test_listeners_to_whom_nothing_happens_hold_no_connection(console: Client, now: datetime) -> None:
    session = make_session(now=now, status="running")
    connections.close_all()
    gc.collect()  # SQLite's file stays open while there is a cursor, that of an error in another test say

    async def story() -> None:
        listeners = [await connect(listen(events_of(session), console)) for _ in range(3)]
        for listener in listeners:
            await listener.hear(lambda text: "event: state" in text)
        async with asyncio.timeout(PATIENCE):
            while await later(open_connections)():
                await asyncio.sleep(0.01)
        for listener in listeners:
            await listener.leave()

    run(story)


def test_only_a_get_is_answered(console: Client, now: datetime) -> None:
    assert console.post(events_of(make_session(now=now))).status_code == 405
