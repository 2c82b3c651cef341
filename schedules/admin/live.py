"""A session as it happens, as server-sent events.

    event: entries   id: the highest seq in it   data: {"html": …}
    event: state                                 data: {"pill": …, "facts": {…}}, when it changed
    event: end                                   data: {}; the session is over and all was sent

A listener that comes back sends Last-Event-ID and gets what it has not seen. While nothing happens it costs one short
read twice a second: no thread and no connection of the database is held for it in between.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.admin import AdminSite
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from schedules.admin import transcript
from schedules.admin.ids import row_id
from schedules.models import Session, SessionEvent
from schedules.rendering.display import amount, cost, pill
from schedules.rendering.visible import shorten, visible

POLL = 0.4  # seconds between two reads
HEARTBEAT = 15.0  # seconds of silence before a sign of life, for proxies
LIFE = 600.0  # seconds of one connection; the browser then opens the next
BATCH = 200  # events of one message

# Few, shared by all who watch: what they wait for is the database.
_readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="rota-live")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is new of a session: entries as HTML up to the event `last`, and its state as JSON."""

    html: str
    last: int
    more: bool
    state: str
    is_over: bool


def facts(session: Session) -> dict[str, str]:
    """What the head of the page shows and the stream renews, by the name of its place."""
    return {
        "activity": shorten(visible(session.activity), 160),
        "turns": str(session.turns),
        "input_tokens": amount(session.input_tokens),
        "output_tokens": amount(session.output_tokens),
        "cached_tokens": amount(session.cached_tokens),
        "cost": cost(session.cost_usd, session.cost_source),
        "model": visible(session.model or session.model_asked),
    }


def read(session_id: int, after: int) -> Reading | None:
    """What came after the event `after`; None where there is no such session."""
    session = Session.objects.filter(pk=session_id).defer("prompt", "result", "patch").first()
    if session is None:
        return None
    # After the session: when it is over, what is read now is all.
    events = list(SessionEvent.objects.filter(session=session_id, seq__gt=after).order_by("seq")[:BATCH])
    state = {"pill": pill(session.status), "status": session.status, "facts": facts(session)}
    return Reading(
        html=transcript.to_html(events) if events else "",
        last=events[-1].seq if events else after,
        more=len(events) == BATCH,
        state=json.dumps(state),
        is_over=not session.is_open,
    )


async def stream(session_id: int, after: int) -> AsyncIterator[bytes]:
    """The messages for one listener, until the session is over or the connection has lived its time."""
    loop = asyncio.get_running_loop()
    born = heard = loop.time()
    state = ""
    yield b"retry: 1000\n\n"
    while loop.time() - born < LIFE:
        reading = await loop.run_in_executor(_readers, _alone, session_id, after)
        if reading is None:
            return
        said = []
        if reading.last > after:
            after = reading.last
            said.append(_message("entries", json.dumps({"html": reading.html}), id=after))
        if reading.state != state:
            state = reading.state
            said.append(_message("state", state))
        if reading.is_over and not reading.more:
            said.append(_message("end", "{}"))
        if not said and loop.time() - heard > HEARTBEAT:
            said.append(b": still there\n\n")
        if said:
            heard = loop.time()
            yield b"".join(said)
        if reading.is_over and not reading.more:
            return
        if not reading.more:
            await asyncio.sleep(POLL)


def _alone(session_id: int, after: int) -> Reading | None:
    """In a thread of the readers, which keeps no connection."""
    try:
        return read(session_id, after)
    finally:
        close_old_connections()


def _message(event: str, data: str, *, id: int | None = None) -> bytes:
    head = f"id: {id}\n" if id is not None else ""
    return f"{head}event: {event}\ndata: {data}\n\n".encode()


def view(site: AdminSite) -> Any:
    """The endpoint. It is no `admin_view`, which knows no coroutines: it asks for the same permissions itself."""

    async def events(request: HttpRequest, pk: int) -> HttpResponseBase:
        if request.method != "GET":
            return HttpResponse(status=405, headers={"Allow": "GET"})
        if not await sync_to_async(_may_watch, thread_sensitive=False)(request, site):
            return JsonResponse({"error": "Sign in to the console with the right to view sessions."}, status=403)
        last = request.headers.get("Last-Event-ID") or request.GET.get("after", "")
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingHttpResponse(stream(pk, row_id(last)), content_type="text/event-stream", headers=headers)

    return events


def _may_watch(request: HttpRequest, site: AdminSite) -> bool:
    try:
        return site.has_permission(request) and request.user.has_perm("schedules.view_session")
    finally:
        close_old_connections()
