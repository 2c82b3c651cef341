"""What the pages and mails that tell of a fault may show."""

import re

from django.http import HttpRequest
from django.views.debug import SafeExceptionReporterFilter


class DiscreetFilter(SafeExceptionReporterFilter):
    """Hides more than Django's: URLs that carry passwords, and with DEBUG, too, what code marks as sensitive."""

    hidden_settings = re.compile(
        r"API|AUTH|TOKEN|KEY|SECRET|PASS|SIGNATURE|HTTP_COOKIE|CREDENTIAL|BROKER|REDIS|DATABASE_URL", re.IGNORECASE
    )

    def is_active(self, request: HttpRequest | None) -> bool:
        return True
