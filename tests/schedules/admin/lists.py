"""What holds of each list of the console, and of pages that show lists."""

from collections.abc import Callable
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext


def costs_the_same(client: Client, url: str, more: Callable[[int], object]) -> Any:
    """A list takes as many queries for 30 rows as for three, of which `more` makes so many. Returns the last answer."""
    response = page_costs_the_same(client, url, more, few=3, many=30)
    assert len(response.context["cl"].result_list) == 30
    return response


def page_costs_the_same(client: Client, url: str, more: Callable[[int], object], *, few: int, many: int) -> Any:
    """So with any page, for `many` of what `more` makes and for `few` of them."""
    more(few)
    client.get(url)
    with CaptureQueriesContext(connection) as of_few:
        client.get(url)
    more(many - few)
    with CaptureQueriesContext(connection) as of_many:
        response = client.get(url)
    assert len(of_many) == len(of_few)
    return response
