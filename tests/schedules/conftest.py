"""What the tests of schedules share."""

import os
import signal
from collections.abc import Iterator

import pytest
import redis
from django.conf import settings


@pytest.fixture
def deaf_broker(broker: str) -> Iterator[str]:
    """A broker that takes connections and answers nobody, as one that is out of breath does."""
    with redis.Redis(unix_socket_path=str(settings.ROTA_VALKEY_SOCKET)) as client:
        server = client.info("server")["process_id"]
    os.kill(server, signal.SIGSTOP)
    yield broker
    os.kill(server, signal.SIGCONT)
