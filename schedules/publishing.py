"""Admitted sessions go to the broker in one round trip: one message each, that carries an id and nothing else."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from celery import Task
from kombu.exceptions import BatchPublishError, OperationalError  # type: ignore[attr-defined]
from kombu.serialization import dumps

_MANY = 100  # from so many on it is worth to leave kombu's way
_AT_ONCE = 1000  # messages in one command
_AHEAD = 1000  # messages: from so many on they are written while their sessions are being marked
_NOBODY, _NO_TASK = 0, "the-task-of-nobody"  # what the sample is about


@dataclass(slots=True)
class Outbox:
    """Of one queue. One thread at a time."""

    queue: str
    _form: _Form | None = None  # of the messages that were sent last
    _ahead: _Ahead | None = None

    def write_ahead(self, ids: Sequence[int]) -> None:
        """They are about to be published, if all goes well. Returns at once."""
        self._ahead = _Ahead.begin(self._form, ids) if self._form and len(ids) >= _AHEAD else None

    def publish(self, task: Task[Any, Any], ids: Sequence[int]) -> None:
        """Raises as `publish` does."""
        ahead, self._ahead = self._ahead, None
        self._form = publish(task, ids, queue=self.queue, ahead=ahead) or self._form


def publish(task: Task[Any, Any], ids: Sequence[int], *, queue: str, ahead: _Ahead | None = None) -> _Form | None:
    """A message for each id, as `task.apply_async((id,))` would send it, at a fraction of its cost.

    What Celery makes of a call is made once, and filled in for each. Returns the form that was filled in, if it was.
    Raises kombu's OperationalError when the broker does not take them: some may have arrived all the same.
    """
    with task.app.producer_or_acquire() as producer:
        connection = producer.connection
        try:
            is_redis = connection.transport.driver_type == "redis"
            if len(ids) >= _MANY and is_redis and (form := _push(producer.channel, task, ids, queue, ahead)):
                return form
            with producer.batch():
                for session_id in ids:
                    producer.publish(**_message(task, session_id, str(uuid.uuid4())), routing_key=queue)
        except BatchPublishError as error:
            raise OperationalError(f"{error}: {error.__cause__}") from error
        except (*connection.connection_errors, *connection.channel_errors) as error:
            raise OperationalError(str(error)) from error
    return None


def _message(task: Task[Any, Any], session_id: int, task_id: str) -> dict[str, Any]:
    """The arguments of `Producer.publish`."""
    made = task.app.amqp.as_task_v2(task_id, task.name, args=(session_id,), ignore_result=task.ignore_result)
    return {
        "body": made.body,
        "exchange": "",
        "serializer": "json",
        "headers": made.headers,
        "correlation_id": task_id,
        "reply_to": "",
        "delivery_mode": 2,
    }


# --- Redis ------------------------------------------------------------------------------------------------------------


class _Wire:
    """Takes the commands that kombu's channel would send."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, tuple[Any, ...]]] = []

    def add(self, name: str, *arguments: Any) -> None:
        self.commands.append((name, arguments))


def _push(channel: Any, task: Task[Any, Any], ids: Sequence[int], queue: str, ahead: _Ahead | None) -> _Form | None:
    """kombu writes one message, and its text is that of all the others but for what tells them apart.

    None, and nothing was sent, where Celery writes it in a way that is not known here.
    """
    (_, (key, sample)), *further = _sampled(channel, task, queue)
    form = _form_of(sample)
    if form is None:
        return None
    written = ahead.messages(form, ids) if ahead else form.fill(ids)
    with channel.conn_or_acquire() as client:
        for _ in range(0, len(ids), _AT_ONCE):
            client.lpush(key, *islice(written, _AT_ONCE))
        for name, arguments in further:
            getattr(client, name)(*arguments)
    return form


def _sampled(channel: Any, task: Task[Any, Any], queue: str) -> list[tuple[str, tuple[Any, ...]]]:
    message = _message(task, _NOBODY, _NO_TASK)
    content_type, content_encoding, body = dumps(message["body"], serializer=message["serializer"])
    properties = {name: message[name] for name in ("correlation_id", "reply_to", "delivery_mode")}
    made = channel.prepare_message(body, 0, content_type, content_encoding, message["headers"], properties)
    wire = _Wire()
    channel.basic_publish(made, "", queue, _publish_batch=wire)
    return wire.commands


class _Form(NamedTuple):
    """A message with gaps: called, told, tag and task. `rest` is what follows the id in what is called."""

    text: str
    rest: str

    def fill(self, session_ids: Sequence[int]) -> Iterator[bytes]:
        """Sessions → their messages."""
        fill, rest = self.text.format, self.rest
        tags, tasks = _new_ids(len(session_ids)), _new_ids(len(session_ids))
        for session_id, tag, task in zip(session_ids, tags, tasks, strict=True):
            called = binascii.b2a_base64(f"[[{session_id}]{rest}".encode(), newline=False).decode()
            yield fill(called, f"({session_id},)", tag, task).encode()


def _form_of(sample: str) -> _Form | None:
    """`sample`: the text of a message about nobody."""
    message = json.loads(sample)
    body, told, tag = message["body"], message["headers"]["argsrepr"], message["properties"]["delivery_tag"]
    opening, rest = f"[[{_NOBODY}]", base64.b64decode(body).decode()[len(f"[[{_NOBODY}]") :]
    if base64.b64encode(f"{opening}{rest}".encode()).decode() != body:
        return None
    # What is to be filled in, each with its place among the arguments of `format`.
    gaps = {text: f"{{{place}}}" for place, text in enumerate((body, told, tag, _NO_TASK))}
    parts = re.split(f"({'|'.join(map(re.escape, gaps))})", sample)
    return _Form("".join(gaps.get(part) or part.replace("{", "{{").replace("}", "}}") for part in parts), rest)


@dataclass(slots=True)
class _Ahead:
    """Messages that a thread writes while their sessions are being marked, which is the database's work."""

    form: _Form
    ids: Sequence[int]
    _written: list[bytes] = field(default_factory=list)
    _thread: threading.Thread = field(init=False)

    @classmethod
    def begin(cls, form: _Form, ids: Sequence[int]) -> _Ahead:
        ahead = cls(form, ids)
        ahead._thread = threading.Thread(target=ahead._write, name="rota-messages", daemon=True)
        ahead._thread.start()
        return ahead

    def _write(self) -> None:
        self._written = list(self.form.fill(self.ids))

    def messages(self, form: _Form, ids: Sequence[int]) -> Iterator[bytes]:
        """Those of these ids in this form; written now, where others were expected."""
        if form != self.form or list(ids) != list(self.ids):
            return form.fill(ids)
        self._thread.join()
        return iter(self._written) if len(self._written) == len(ids) else form.fill(ids)


def _new_ids(count: int) -> Iterator[str]:
    """UUIDs of version 4, as `uuid.uuid4` makes them, in a fifth of the time."""
    digits = os.urandom(16 * count).hex()
    for at in range(0, 32 * count, 32):
        one = digits[at : at + 32]
        yield f"{one[:8]}-{one[8:12]}-4{one[13:16]}-a{one[17:20]}-{one[20:]}"
