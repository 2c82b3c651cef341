"""The settings as a process finds them, with an environment and a `.env` of its own."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

PRINT = """
import json
import re
import django
from django.conf import settings
django.setup()
from django.db import connection
print(json.dumps({name: getattr(settings, name) for name in dir(settings)}, default=str))
"""
LOG = """
import django
django.setup()
import logging
for name in ("rota.test", "django.request", "django.security.DisallowedHost", "celery.beat", "uvicorn.error"):
    logging.getLogger(name).warning("%s is heard", name)
    logging.getLogger(name).info("%s mutters", name)
"""
PUBLISH = """
import subprocess, time
import django
django.setup()
from config import valkey
from config.celery import app
from django.conf import settings
server = subprocess.Popen(valkey.command(settings.ROTA_VALKEY_SOCKET))
try:
    for _ in range(100):
        if settings.ROTA_VALKEY_SOCKET.exists():
            break
        time.sleep(0.05)
    app.send_task("anything", queue="control")
    with app.connection_for_read() as connection, connection.SimpleQueue("control") as queue:
        queue.get(timeout=2)
    print("received", settings.DATABASES["default"]["NAME"])
finally:
    server.terminate()
    server.wait()
"""


def run(program: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)


def settings_of(environment: dict[str, str]) -> dict[str, Any]:
    done = run(PRINT, environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_fresh_checkout_needs_no_setting(environment: dict[str, str]) -> None:
    found = settings_of(environment)
    var = Path(environment["ROTA_VAR"])
    assert not found["DEBUG"]
    assert found["ALLOWED_HOSTS"] == ["localhost", "127.0.0.1", "[::1]"]
    assert found["SECRET_KEY"] == (var / "secret_key").read_text() == settings_of(environment)["SECRET_KEY"]
    assert found["DATABASES"]["default"]["NAME"] == str(var / "rota.sqlite3")
    assert found["CELERY_BROKER_URL"] == f"redis+socket://{var / 'valkey' / 'valkey.sock'}"
    assert found["ROTA_REHEARSE"] is None, "each agent goes by its own key"
    assert not found["SESSION_COOKIE_SECURE"]


def test_the_environment_and_env_file_are_honoured(environment: dict[str, str]) -> None:
    Path(environment["ROTA_ENV_FILE"]).write_text(
        "ANTHROPIC_API_KEY=$made-up#key\nROTA_SECRET_TOKEN='$ecret'\nROTA_MAX_SESSIONS=9\nROTA_HTTPS=yes\n"
    )
    found = settings_of(
        environment
        | {
            "DATABASE_URL": "postgresql://rota:p%40ss@db.example:5433/rota?sslmode=require",
            "REDIS_URL": "rediss://:word@redis.example:6380/1",
            "ROTA_MAX_SESSIONS": "3",
        }
    )
    database = found["DATABASES"]["default"]
    assert database["ENGINE"] == "django.db.backends.postgresql"
    assert (database["HOST"], database["PORT"], database["PASSWORD"]) == ("db.example", 5433, "p@ss")
    assert database["OPTIONS"]["sslmode"] == "require"
    assert (database["OPTIONS"]["connect_timeout"], database["OPTIONS"]["tcp_user_timeout"]) == (5, 20_000)
    assert database["CONN_HEALTH_CHECKS"]
    assert found["CELERY_BROKER_URL"] == "rediss://:word@redis.example:6380/1"
    assert found["ROTA_VALKEY_SOCKET"] is None
    assert found["ROTA_CREDENTIALS"]["ANTHROPIC_API_KEY"] == "$made-up#key"
    assert found["ROTA_SECRETS"] == {"TOKEN": "$ecret"}
    assert found["ROTA_MAX_SESSIONS"] == 3, "the environment goes before the file"
    assert found["ROTA_REHEARSE"] is None
    assert found["SESSION_COOKIE_SECURE"]
    assert found["CSRF_COOKIE_SECURE"]


def test_manage_tells_a_wrong_setting_in_one_sentence(environment: dict[str, str]) -> None:
    Path(environment["ROTA_ENV_FILE"]).write_text("DEBUG=perhaps\n")
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=environment["PYTHONPATH"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "DEBUG is 'perhaps': give true or false.\n")


def test_each_log_record_is_one_line(environment: dict[str, str]) -> None:
    done = run(LOG, environment | {"LOG_TIMES": "no"})
    assert done.stderr.splitlines() == [
        "WARNING rota.test: rota.test is heard",
        "INFO    rota.test: rota.test mutters",
        "WARNING django.request: django.request is heard",
        "INFO    django.request: django.request mutters",
        "WARNING django.security.DisallowedHost: django.security.DisallowedHost is heard",
        "INFO    django.security.DisallowedHost: django.security.DisallowedHost mutters",
        "WARNING celery.beat: celery.beat is heard",
        "WARNING uvicorn.error: uvicorn.error is heard",
        "INFO    uvicorn.error: uvicorn.error mutters",
    ]


@pytest.mark.parametrize("path", ["with blank, at@sign and ü", "per%20cent, quest?ion, ha#sh and pl+s"])
def test_the_var_folder_may_have_any_name(environment: dict[str, str], path: str) -> None:
    environment["ROTA_VAR"] = str(Path(environment["ROTA_VAR"]) / path)
    done = run(PUBLISH, environment)
    assert done.stdout == f"received {environment['ROTA_VAR']}/rota.sqlite3\n", done.stderr


def test_the_example_file_names_every_setting_and_no_other() -> None:
    config = Path(settings.BASE_DIR, "config")
    read = re.findall(
        r'env\.(?:text|flag|number|amount|choice|zone|listed|folders|keys|database|broker)\(\s*"(\w+)"',
        (config / "settings.py").read_text() + (config / "up.py").read_text(),
    )
    credentials = settings.ROTA_CREDENTIALS
    set_by_programs = {"LOG_TIMES", "ROTA_END_SESSIONS_ON_EXIT"}
    named = re.findall(r"^#?(\w+)=", Path(settings.BASE_DIR, ".env.example").read_text(), re.MULTILINE)
    assert set(named) - {"ROTA_SECRET_DEPLOY_TOKEN"} == {*read, *credentials} - set_by_programs


def test_the_example_file_can_be_used_as_it_is(environment: dict[str, str]) -> None:
    example = Path(settings.BASE_DIR, ".env.example").read_text()
    filled_in = re.sub(r"^#(\w+=.+)$", r"\1", example, flags=re.MULTILINE)
    Path(environment["ROTA_ENV_FILE"]).write_text(filled_in)
    found = settings_of(environment)
    assert found["CSRF_TRUSTED_ORIGINS"] == ["https://rota.example.com"]
    assert found["REDIS_URL"] == "redis://localhost:6379/0"
