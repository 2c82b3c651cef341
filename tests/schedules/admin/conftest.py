"""Who visits the console in its tests, and at what time."""

from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone


@pytest.fixture
def now() -> datetime:
    """The clock's own, for the console reads it too."""
    return timezone.now().astimezone(UTC)


@pytest.fixture
def operator(db: None) -> User:
    return User.objects.create_superuser("olive", "olive@example.org", "secret")


@pytest.fixture
def console(operator: User) -> Client:
    """The console, signed in as one who may do everything."""
    client = Client()
    client.force_login(operator)
    return client


@pytest.fixture
def onlooker(db: None) -> Client:
    """One who may look at everything of Rota and change nothing."""
    user = User.objects.create_user("lou", password="secret", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="schedules", codename__startswith="view_")
    )
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def stranger(db: None) -> Client:
    """A member of staff without any permission."""
    client = Client()
    client.force_login(User.objects.create_user("sam", password="secret", is_staff=True))
    return client
