"""What holds of each list of the console."""

from collections.abc import Callable
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext


def costs_the_same(client: Client, url: str, more: Callable[[int], object]) -> Any:
    """A list takes as many queries for 30 rows as for three, of which `more` makes so many. Returns the last answer."""
    more(3)
    client.get(url)
    with CaptureQueriesContext(connection) as few:
        client.get(url)
    more(27)
    with CaptureQueriesContext(connection) as many:
        response = client.get(url)

    assert len(response.context["cl"].result_list) == 30
    assert len(many) == len(few)
    return response
