"""Settings, from the environment and from `.env` beside manage.py; .env.example lists them.

A value that can't be understood stops the program with one sentence that says which, and the mend.
"""

import logging
import os
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.templatetags.static import static

import runners
from config import env, var

BASE_DIR = Path(__file__).resolve().parent.parent

env.load(Path(os.environ.get("ROTA_ENV_FILE", BASE_DIR / ".env")))

# --- Where Rota keeps its things -------------------------------------------------------------

ROTA_VAR = var.private_directory(BASE_DIR / env.text("ROTA_VAR", "var"))
ROTA_SESSIONS_DIR = ROTA_VAR / "sessions"
ROTA_CACHE_DIR = ROTA_VAR / "repositories"
ROTA_WORKSPACES_DIR = ROTA_VAR / "workspaces"

# --- Who may come in, and how ----------------------------------------------------------------

DEBUG = env.flag("DEBUG", default=False)
# Pages that tell of a fault hide what is secret, with DEBUG too.
DEFAULT_EXCEPTION_REPORTER_FILTER = "config.faults.DiscreetFilter"
SECRET_KEY = env.text("SECRET_KEY") or var.secret_key(ROTA_VAR / "secret_key")
ALLOWED_HOSTS = env.listed("ALLOWED_HOSTS", default=("localhost", "127.0.0.1", "[::1]"))
CSRF_TRUSTED_ORIGINS = env.listed("CSRF_TRUSTED_ORIGINS")

# Behind a proxy that speaks HTTPS. Off, it works on http://localhost.
ROTA_HTTPS = env.flag("ROTA_HTTPS", default=False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ROTA_HTTPS else None
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ROTA_HTTPS
# Cookies know no ports: with names of its own, Rota shares localhost with other Django sites.
SESSION_COOKIE_NAME = "rota_sessionid"
CSRF_COOKIE_NAME = "rota_csrftoken"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# --- What it is made of ----------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold",  # before the admin, whose templates it replaces
    "unfold.contrib.filters",
    "django.contrib.admin.apps.SimpleAdminConfig",  # config/urls.py reads the console: beat and workers have none
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "django_celery_results",
    "schedules.apps.SchedulesConfig",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "config.unavailable.Unavailable",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# Files are served from where the packages keep them: no collectstatic step that one could forget.
STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True

TIME_ZONE = env.zone("TIME_ZONE", default="UTC")
USE_TZ = True
LANGUAGE_CODE = "en-us"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- The database ----------------------------------------------------------------------------


def _tuned(entry: dict[str, Any]) -> dict[str, Any]:
    """With the options under which many processes share it without errors."""
    options = entry.setdefault("OPTIONS", {})
    if entry["ENGINE"] == "django.db.backends.sqlite3":
        # IMMEDIATE: a transaction that turns into a write fails at once otherwise, timeout or not.
        options.setdefault("transaction_mode", "IMMEDIATE")
        options.setdefault("timeout", 20)
        options.setdefault("init_command", "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL")
        return entry
    # Threads come and go under ASGI, and a connection that outlives its request stays open with
    # nobody to close it: each request opens its own. Long-lived loops check theirs before use.
    entry["CONN_MAX_AGE"] = 0
    entry["CONN_HEALTH_CHECKS"] = True
    options.setdefault("connect_timeout", 5)
    # A server that went away without a word is noticed within half a minute, and not after two hours.
    for name, seconds in (("keepalives_idle", 10), ("keepalives_interval", 5), ("keepalives_count", 3)):
        options.setdefault(name, seconds)
    options.setdefault("tcp_user_timeout", 20_000)  # milliseconds
    return entry


DATABASES = {
    "default": _tuned(
        env.database("DATABASE_URL", default=f"sqlite:///{quote(str(ROTA_VAR))}/rota.sqlite3", relative_to=BASE_DIR)
    )
}

# --- The broker and Celery -------------------------------------------------------------------

REDIS_URL = env.broker("REDIS_URL")
# Without REDIS_URL, bin/up starts the Valkey that comes with Rota, on a socket and no port.
ROTA_VALKEY_SOCKET = None if REDIS_URL else var.socket_path(ROTA_VAR / "valkey", "valkey.sock")

CELERY_BROKER_URL = REDIS_URL or f"redis+socket://{quote(str(ROTA_VALKEY_SOCKET))}"
# A broker that is away must cost the caller about a second, for a message is only a hint and the
# database is the queue. A connection that died quietly is noticed.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 1,
    "socket_connect_timeout": 1,
    "socket_keepalive": True,
    "retry_on_timeout": False,
    "health_check_interval": 25,
    "visibility_timeout": 3600,
    "global_keyprefix": env.text("REDIS_KEY_PREFIX"),
    # For publishing alone, which would try for ever: a worker goes on reconnecting.
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.2,
    "interval_max": 0.2,
}
CELERY_TASK_PUBLISH_RETRY_POLICY = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.2,
    "interval_max": 0.2,
}
CELERY_BROKER_CONNECTION_TIMEOUT = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None

CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_EVENT_SERIALIZER = "json"
CELERY_TIMEZONE = TIME_ZONE

CELERY_TASK_DEFAULT_QUEUE = "control"
CELERY_TASK_ROUTES = {"schedules.tasks.execute_session": {"queue": "sessions"}}
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_TRACK_STARTED = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CONSUMER = "config.consumer:Consumer"
CELERY_WORKER_SEND_TASK_EVENTS = True
# There is nothing to cancel where messages are acknowledged early: Celery only stops warning of it.
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_REDIRECT_STDOUTS = False

CELERY_RESULT_BACKEND = "django-db"
CELERY_RESULT_EXTENDED = True

CELERY_BEAT_SCHEDULER = "schedules.beat.Scheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 1
# `expires`: while no worker takes them, one waits and not a pile.
CELERY_BEAT_SCHEDULE = {
    "rota-upkeep": {
        "task": "schedules.tasks.upkeep",
        "schedule": timedelta(seconds=10),
        "options": {"queue": "control", "expires": 10},
    },
    "rota-retention": {
        "task": "schedules.tasks.prune",
        "schedule": timedelta(hours=1),
        "options": {"queue": "control", "expires": 3600},
    },
}

# --- Rota ------------------------------------------------------------------------------------

# Name → dotted path. One line and one module each; what is not named here can't be chosen.
ROTA_RUNNERS = {
    "claude": "runners.claude.ClaudeRunner",
    "codex": "runners.codex.CodexRunner",
    "script": "runners.script.ScriptRunner",
    "function": "runners.function.FunctionRunner",
}
ROTA_FUNCTIONS = {
    "todo-report": "runners.functions.todo_report.report",
    "docs-freshness": "runners.functions.docs_freshness.report",
}

# What schedules may name plugins of by their absolute path. A plugin is code that runs as the worker's user.
ROTA_PLUGIN_FOLDERS = env.folders("ROTA_PLUGIN_FOLDERS")

ROTA_TARGETS = {
    "codebase": "schedules.targets.codebase.Codebase",
    "custom": "schedules.targets.custom.Custom",
}

ROTA_MAX_SESSIONS = env.number("ROTA_MAX_SESSIONS", default=4, least=1)
ROTA_MAX_SESSIONS_PER_REPOSITORY = env.number("ROTA_MAX_SESSIONS_PER_REPOSITORY", default=2, least=1)
# What a session without a money limit of its own reserves of the budgets, until what it cost is known.
ROTA_RESERVE_USD = env.amount("ROTA_RESERVE_USD", default="1.00")
# The longest wait for a forge to hand over what is new in a repository.
ROTA_FETCH_TIMEOUT = timedelta(seconds=env.number("ROTA_FETCH_TIMEOUT", default=300, least=1))
# Checkouts that wait for the next session, on each machine: how much room they may take, and for how long.
ROTA_WORKSPACES_MAX_BYTES = env.number("ROTA_WORKSPACES_MAX_MB", default=20_000, least=0) * 2**20
ROTA_WORKSPACES_MAX_BYTES_PER_REPOSITORY = (
    env.number("ROTA_WORKSPACES_MAX_MB_PER_REPOSITORY", default=10_000, least=0) * 2**20
)
ROTA_WORKSPACES_MAX_AGE = timedelta(hours=env.number("ROTA_WORKSPACES_MAX_HOURS", default=72, least=0))
# What one session may take of its machine; 0: no limit. Processes are counted with their threads.
ROTA_SESSION_MEMORY_MB = env.number("ROTA_SESSION_MEMORY_MB", default=8192, least=0)
ROTA_SESSION_PROCESSES = env.number("ROTA_SESSION_PROCESSES", default=2000, least=0)
# The higher, the more its processes leave to others: Rota's own, say.
ROTA_SESSION_NICE = env.number("ROTA_SESSION_NICE", default=5, least=0, most=19)
# A folder of the cgroup file system (version 2) that was delegated to Rota: there the kernel holds these two limits.
ROTA_SESSION_CGROUP = env.text("ROTA_SESSION_CGROUP")
ROTA_RETENTION_DAYS = env.number("ROTA_RETENTION_DAYS", default=90, least=1)
# bin/up sets it: with the worker its sessions end, instead of waiting for the next worker.
ROTA_END_SESSIONS_ON_EXIT = env.flag("ROTA_END_SESSIONS_ON_EXIT", default=False)
# At SIGTERM a worker waits for its sessions, as with its option --drain.
ROTA_DRAIN = env.flag("ROTA_DRAIN", default=False)
# A worker that could not say for so long that it is there has lost its sessions. It ends them itself a little before.
ROTA_LEASE = timedelta(seconds=env.number("ROTA_LEASE", default=60, least=30, most=3600))
# What a schedule that goes on after an interruption has come to is kept for other machines so often, while it runs.
ROTA_KEEP_CONVERSATION_EVERY = timedelta(seconds=env.number("ROTA_KEEP_CONVERSATION_EVERY", default=60, least=10))
ROTA_KEEP_WORK_EVERY = timedelta(seconds=env.number("ROTA_KEEP_WORK_EVERY", default=300, least=10))
# A worker whose disks have less than this takes no session.
ROTA_MIN_FREE_BYTES = env.number("ROTA_MIN_FREE_MB", default=500, least=0) * 2**20
ROTA_MIN_FREE_INODES = env.number("ROTA_MIN_FREE_INODES", default=10_000, least=0)
# An alarm says so when a session has waited for so many minutes.
ROTA_QUEUE_ALARM = timedelta(minutes=env.number("ROTA_QUEUE_ALARM", default=15, least=1))

# What an agent's program reads from its environment to be let in. Each runner names those it may have.
ROTA_CREDENTIALS = {
    name: env.text(name)
    for name in (
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BASE_URL",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CODEX_API_KEY",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
    )
}
# Runner → path of its agent program, where it is not the one that comes with Rota or on PATH.
ROTA_PROGRAMS = {"claude": env.text("ROTA_CLAUDE_PROGRAM"), "codex": env.text("ROTA_CODEX_PROGRAM")}
# Agents talk to a scripted model on this machine: no key, no cost, nothing delivered. None: those without a key do.
ROTA_REHEARSE = env.flag("ROTA_REHEARSE", default=None)
# PATH of sessions; empty: the system's own directories. Rota's virtual environment is not among them.
ROTA_SESSION_PATH = env.text("ROTA_SESSION_PATH")
# Name → value, for sessions whose schedule asks for that name: ROTA_SECRET_DEPLOY_TOKEN=… What the table of secrets has
# under the same name goes before.
ROTA_SECRETS = env.secrets("ROTA_SECRET_", shortest=runners.SHORTEST_SECRET)
# They encrypt that table: the first one encrypts, each of them decrypts.
ROTA_SECRETS_KEYS = env.keys("ROTA_SECRETS_KEY", shortest=var.SHORTEST_KEY) or [
    var.secrets_key(ROTA_VAR / "secrets_key")
]

# --- Logs and looks --------------------------------------------------------------------------

LOG_LEVEL = env.choice("LOG_LEVEL", default="INFO", of=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
# Celery speaks of every message at INFO, and upkeep is one every ten seconds.
_CHATTY = "INFO" if LOG_LEVEL == "DEBUG" else "WARNING"


def _worth_a_line(record: logging.LogRecord) -> bool:
    """/readyz says 503 while Rota starts, and is asked again and again: that is no error."""
    return getattr(getattr(record, "request", None), "path", "") != "/readyz"


def _in_one_line(record: logging.LogRecord) -> bool:
    """Whoever asks under a strange name gets a refusal and no traceback in the log."""
    record.exc_info = None
    return True


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "worth_a_line": {"()": "django.utils.log.CallbackFilter", "callback": _worth_a_line},
        "in_one_line": {"()": "django.utils.log.CallbackFilter", "callback": _in_one_line},
    },
    "formatters": {
        "line": {"format": "{levelname:<7} {name}: {message}", "style": "{"},
        "dated": {"format": "{asctime} {levelname:<7} {name}: {message}", "style": "{"},
    },
    "handlers": {
        "console": {
            "class": "config.console.Console",
            # bin/up writes the time in front of every line.
            "formatter": "dated" if env.flag("LOG_TIMES", default=True) else "line",
        }
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        # Django gives these handlers of their own; one line each is enough.
        "django": {"handlers": [], "level": LOG_LEVEL, "propagate": True},
        "django.server": {"handlers": [], "level": LOG_LEVEL, "propagate": True},
        "django.request": {"filters": ["worth_a_line"]},
        "django.security.DisallowedHost": {"filters": ["in_one_line"]},
        **{
            name: {"level": _CHATTY}
            for name in (
                "celery.app.trace",
                "celery.beat",
                "celery.worker.strategy",
                "django_celery_beat.schedulers",
                "django.db.backends",
                "django.template",
                "asyncio",
            )
        },
    },
}

UNFOLD = {
    "SITE_TITLE": "Rota",
    "SITE_HEADER": "Rota",
    "SITE_URL": None,  # the console is the site
    "SITE_SUBHEADER": "put your agents on the rota",
    "SITE_SYMBOL": "event_repeat",
    "STYLES": [lambda request: static("rota/rota.css")],
    "SCRIPTS": [lambda request: static("rota/rota.js")],
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": lambda request: static("rota/favicon.svg"),
        }
    ],
    "SHOW_VIEW_ON_SITE": False,
    "SIDEBAR": {"navigation": "schedules.admin.navigation.sidebar"},
    "DASHBOARD_CALLBACK": "schedules.admin.dashboard.dashboard",
    "GLOBAL_CALLBACK": "schedules.admin.navigation.everywhere",
}
