"""Publishing over the real broker, and over one that is away."""

import json
import time

import pytest
import redis
from django.conf import settings
from kombu.exceptions import OperationalError

from config.celery import app


@pytest.mark.parametrize(
    ("task", "queue"), [("schedules.tasks.execute_session", "sessions"), ("schedules.tasks.upkeep", "control")]
)
def test_a_task_goes_to_its_queue_as_json(broker: str, task: str, queue: str) -> None:
    app.send_task(task, (7,))
    with redis.Redis(unix_socket_path=str(settings.ROTA_VALKEY_SOCKET)) as client:
        messages = client.lrange(queue, 0, -1)
    assert isinstance(messages, list)
    assert [json.loads(message)["content-type"] for message in messages] == ["application/json"]


@pytest.mark.parametrize("state", ["no_broker", "frozen_broker"])
def test_publishing_to_a_broker_that_is_away_fails_soon(state: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(state)
    began = time.monotonic()
    with pytest.raises(OperationalError), app.connection_for_write() as connection:
        app.send_task("schedules.tasks.upkeep", connection=connection)
    assert time.monotonic() - began < 3


def test_publishing_survives_a_connection_that_the_broker_dropped(broker: str) -> None:
    socket_path = str(settings.ROTA_VALKEY_SOCKET)
    with app.connection_for_write() as connection, redis.Redis(unix_socket_path=socket_path) as client:
        app.send_task("schedules.tasks.upkeep", connection=connection)
        client.client_kill_filter(_type="normal", skipme=True)
        app.send_task("schedules.tasks.upkeep", connection=connection)
        assert client.llen("control") == 2
