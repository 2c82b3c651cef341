"""`runschedule` as a process of its own: on a terminal, in a pipe, interrupted, and with nothing to work with."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schedules.models import Run, Schedule, Session, WorkerHeartbeat
from tests.processes import end, until
from tests.schedules.factories import make_schedule, make_worker
from tests.schedules.management.running import claim, finishing, working
from tests.schedules.management.terminal import OnTerminal, without_terminal

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("broker")]

CTRL_C = "\x03"


@pytest.fixture
def greeting() -> Schedule:
    make_worker(now=datetime.now(UTC))
    return make_schedule("greeting", now=datetime.now(UTC))


def the_run() -> Run:
    until(lambda: Session.objects.exists(), within=15, what="the run is recorded")
    return Run.objects.get()


@pytest.mark.usefixtures("greeting")
def test_on_a_terminal_progress_is_live_and_the_result_is_set() -> None:
    def act(session: Session, worker: WorkerHeartbeat) -> None:
        claim(session, worker)
        Session.objects.progress(session.pk, worker=worker, activity="Bash(git log)", turns=2, cost_usd="0.0123")
        terminal.shows("Bash(git log)")
        terminal.shows("2 turns, 0.0123 USD")
        result = "# Briefing\n\nSee [here](https://example.org/there)\x1b]0;owned\x07."
        Session.objects.finish(session.pk, status="succeeded", reason="ok", now=datetime.now(UTC), result=result)

    with OnTerminal("runschedule", "greeting") as terminal:
        with working(act):
            pass
        assert terminal.ends() == 0
    assert "\x1b[?25l" in terminal.screen
    assert "\x1b[?25h" in terminal.screen, "the cursor is back"
    assert "Briefing" in terminal.screen
    assert "# Briefing" not in terminal.screen
    assert "https://example.org/there" in terminal.screen
    assert "\x1b]" not in terminal.screen, "no word of an agent's steers the terminal"
    assert f"Run {Run.objects.get().pk} succeeded" in terminal.screen


@pytest.mark.parametrize(("answer", "status"), [("y\n", "cancelled"), ("n\n", "queued"), ("\n", "queued")])
@pytest.mark.usefixtures("greeting")
def test_ctrl_c_on_a_terminal_asks_whether_to_cancel_the_run_too(answer: str, status: str) -> None:
    with OnTerminal("runschedule", "greeting") as terminal:
        terminal.shows("queued")
        terminal.types(CTRL_C)
        terminal.shows(f"Cancel run {the_run().pk} too? [y/N] ")
        terminal.types(answer)
        assert terminal.ends() == 130
    assert the_run().status == status


@pytest.mark.usefixtures("greeting")
def test_a_second_ctrl_c_ends_at_once_and_cancels_nothing() -> None:
    with OnTerminal("runschedule", "greeting") as terminal:
        terminal.shows("queued")
        terminal.types(CTRL_C)
        terminal.shows("[y/N] ")
        terminal.types(CTRL_C)
        assert terminal.ends() == 130
    assert "Traceback" not in terminal.screen
    assert the_run().is_open


@pytest.mark.usefixtures("greeting")
def test_without_a_terminal_an_interrupt_asks_nothing_and_cancels_nothing() -> None:
    process = without_terminal("runschedule", "greeting", "--json")
    try:
        run = the_run()
        assert process.stderr is not None
        assert process.stderr.readline().startswith(f"run {run.pk} prompt: queued".encode())
        # As a terminal's Ctrl-C comes through a program in between: more than once, at any distance.
        for _ in range(200):
            process.send_signal(signal.SIGINT)
            if process.poll() is not None:
                break
            time.sleep(0.001)
        out, err = process.communicate(timeout=15)
    finally:
        end(process)
    assert process.returncode == 130
    assert b'"exit_code": 130' in out
    assert b"Cancel" not in err
    assert b"Traceback" not in err
    assert the_run().is_open


@pytest.mark.usefixtures("greeting")
def test_a_reader_that_leaves_does_not_change_the_exit_code() -> None:
    process = without_terminal("runschedule", "greeting")
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stderr.close()
        with working(finishing("failed", "exit_code", result="word " * 50_000)):
            pass
        assert process.wait(timeout=15) == 1
    finally:
        end(process)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///{folder}/new.sqlite3", "The database is not set up: "),
        ("sqlite:///{folder}/none/new.sqlite3", "The database does not answer: unable to open database file."),
        ("postgresql://u:p@127.0.0.1:1/rota", "The database does not answer: connection failed"),
    ],
)
def test_without_a_database_it_says_what_to_do(tmp_path: Path, url: str, message: str) -> None:
    process = without_terminal("runschedule", "greeting", DATABASE_URL=url.format(folder=tmp_path))
    try:
        out, err = process.communicate(timeout=30)
    finally:
        end(process)
    assert (process.returncode, out) == (5, b"")
    assert err.decode().startswith(message)
    assert "bin/up" in err.decode()
    assert len(err.splitlines()) == 1


def test_help_lists_the_exit_codes_and_a_wrong_option_is_usage() -> None:
    process = without_terminal("runschedule", "--help")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    codes = [line.split()[0] for line in out.decode().partition("exit codes:")[2].splitlines() if line.startswith("  ")]
    assert codes[:8] == ["0", "1", "2", "3", "4", "5", "124", "130"]

    process = without_terminal("runschedule", "greeting", "--waite")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert b"unrecognized arguments: --waite" in err or b"ambiguous option" in err
    assert err.startswith(b"usage: bin/manage runschedule")

    process = without_terminal("runshedule")
    _, err = process.communicate(timeout=30)
    assert (process.returncode, b"Type 'bin/manage help' for usage." in err) == (1, True)
