"""The web, where the database does not answer: a page that says so, what it means, and what to do."""

from __future__ import annotations

import logging

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.deprecation import MiddlewareMixin

logger = logging.getLogger(__name__)

_AGAIN_IN = 5  # seconds


class Unavailable(MiddlewareMixin):
    """Locked for longer than anybody waits, restarted, or away: 503 instead of an error of the server.

    Why is in the log alone, for nobody knows who asks: that is in the database.
    """

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, (OperationalError, InterfaceError)):
            return None
        logger.warning(
            "%s %s: the database does not answer",
            *(request.method, request.path),
            exc_info=exception,
            extra={"action": "database_unavailable"},
        )
        page = render_to_string("503.html", {"sent": request.method not in ("GET", "HEAD")})
        return HttpResponse(page, status=503, headers={"Retry-After": str(_AGAIN_IN)})
