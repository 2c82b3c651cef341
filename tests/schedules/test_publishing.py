"""Messages that Celery's worker takes for its own, many in one round trip, and a broker that hangs up."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from django.conf import settings
from kombu import Connection
from kombu.exceptions import OperationalError

from schedules.publishing import Outbox, publish
from schedules.tasks import execute_session


def raw(count: int) -> list[dict[str, Any]]:
    """What lies in the queue, the oldest first."""
    with redis.Redis(unix_socket_path=str(settings.ROTA_VALKEY_SOCKET)) as client:
        return [json.loads(text) for text in reversed(client.lrange("sessions", 0, count))]


@pytest.mark.parametrize("count", [1, 200])
def test_a_message_is_what_celery_itself_would_send(broker: str, count: int) -> None:
    publish(execute_session, range(7, 7 + count), queue="sessions")
    execute_session.apply_async((7,))
    ours, *_, theirs = raw(count + 1)
    assert ours["body"] == theirs["body"]
    assert ours["content-type"] == theirs["content-type"]
    assert set(ours["properties"]) == set(theirs["properties"])
    told, expected = ours["headers"], theirs["headers"]
    unlike = {name for name in expected if told[name] != expected[name]}
    assert unlike == {"id", "root_id"}
    assert set(told) == set(expected)


@pytest.mark.no_cover
def test_many_go_in_their_order_and_each_under_an_id_of_its_own(broker: str) -> None:
    publish(execute_session, range(2500), queue="sessions")
    with Connection(broker) as connection:
        found = connection.SimpleQueue("sessions")
        messages = [found.get(block=False) for _ in range(2500)]
    assert [message.payload[0][0] for message in messages] == list(range(2500))
    assert len({message.headers["id"] for message in messages}) == 2500
    assert messages[5].properties["correlation_id"] == messages[5].headers["id"]
    assert messages[5].headers["argsrepr"] == "(5,)"


def sent() -> list[str]:
    """About which sessions messages lie in the queue, the oldest first. Takes them out."""
    told = [message["headers"]["argsrepr"] for message in raw(-1)]
    with redis.Redis(unix_socket_path=str(settings.ROTA_VALKEY_SOCKET)) as client:
        client.delete("sessions")
    return told


@pytest.mark.no_cover
def test_what_is_written_ahead_is_what_is_sent_if_it_is_what_was_expected(broker: str) -> None:
    outbox, many = Outbox("sessions"), range(1000, 2200)
    outbox.write_ahead(many)  # nothing is known of their form yet
    outbox.publish(execute_session, many)
    assert sent() == [f"({number},)" for number in many]

    outbox.write_ahead(many)
    outbox.publish(execute_session, many)
    publish(execute_session, many, queue="sessions")
    ahead, after = raw(-1)[0], raw(-1)[-1]
    assert set(ahead["headers"]) == set(after["headers"])
    assert sent() == [f"({number},)" for number in many] * 2

    outbox.write_ahead(many)
    outbox.publish(execute_session, range(1000, 2100))
    outbox.publish(execute_session, [7])
    assert sent() == [f"({number},)" for number in (*range(1000, 2100), 7)]


@pytest.mark.usefixtures("frozen_broker")
def test_a_broker_that_does_not_answer_is_one_error_of_one_kind() -> None:
    with pytest.raises(OperationalError):
        publish(execute_session, [1, 2], queue="sessions")


def test_a_connection_that_was_cut_is_made_again_or_told(broker: str) -> None:
    publish(execute_session, [1], queue="sessions")
    with redis.Redis(unix_socket_path=str(settings.ROTA_VALKEY_SOCKET)) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    for _ in range(3):
        try:
            publish(execute_session, [2], queue="sessions")
            break
        except OperationalError:
            continue
    last = raw(5)[-1]["headers"]
    assert last["argsrepr"] == "(2,)"
