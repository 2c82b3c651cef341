#!/usr/bin/env python
"""Django's commands; settings that are wrong are told in one sentence. See bin/manage."""

import os
import sys

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import ManagementUtility


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        settings.configured or settings.INSTALLED_APPS  # noqa: B018 - to read them is enough
    except ImproperlyConfigured as error:
        sys.exit(f"{error}")
    utility = ManagementUtility(sys.argv)
    utility.prog_name = "bin/manage"  # as people start it, and as all pages write it
    utility.execute()


if __name__ == "__main__":
    main()
