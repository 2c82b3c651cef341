"""config/settings.py, with nothing in it of the shell, home or `.env` of who runs the tests."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# Names by which the set-up of a developer, or of an agent, could reach a test.
_FOREIGN = ("ANTHROPIC_", "CELERY_", "CLAUDE", "CODEX_", "GIT_", "OPENAI_", "ROTA_", "XDG_")
_FOREIGN_NAMES = {
    *("ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS", "DATABASE_URL", "DEBUG", "HOST", "LOG_LEVEL"),
    *("LOG_TIMES", "PORT", "REDIS_KEY_PREFIX", "REDIS_URL", "SECRET_KEY", "TIME_ZONE"),
}
# Set by bin/test, and by the first process for the others of xdist.
_OURS = {"ROTA_TEST_DATABASE", "ROTA_TEST_FAULTS", "ROTA_TEST_POSTGRES"}

for name in set(os.environ) - _OURS:
    if name.startswith(_FOREIGN) or name in _FOREIGN_NAMES:
        del os.environ[name]


def _temporary_directory(prefix: str) -> Path:
    """One of this process, gone with it."""
    made = Path(tempfile.mkdtemp(prefix=prefix))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


_HOME = _temporary_directory("rota-tests-")

os.environ |= {
    "HOME": str(_HOME),
    "GIT_CONFIG_NOSYSTEM": "1",
    "ROTA_ENV_FILE": str(_HOME / "no.env"),
    "ROTA_VAR": str(_HOME / "var"),
    "SECRET_KEY": "of the tests alone, and worth nothing",
}
if os.environ.get("ROTA_TEST_DATABASE", "sqlite") == "postgres":
    # conftest.py starts the server in this folder.
    if "ROTA_TEST_POSTGRES" not in os.environ:
        os.environ["ROTA_TEST_POSTGRES"] = str(_temporary_directory("rota-pg-"))
    os.environ["DATABASE_URL"] = f"postgresql://postgres@/postgres?host={os.environ['ROTA_TEST_POSTGRES']}"

from config.settings import *  # noqa: E402, F403
from config.settings import DATABASES, ROTA_VAR  # noqa: E402

# A login costs 0.3 s with the real one.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # A file, as in real life: one in memory has neither WAL nor a second process.
    DATABASES["default"]["TEST"] = {"NAME": str(ROTA_VAR / "tests.sqlite3")}
