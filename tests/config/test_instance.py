"""One Rota per var folder, and the end of what a killed one left running."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.instance import AlreadyRuns, Instance


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_a_second_one_is_told_where_the_first_is(tmp_path: Path) -> None:
    with Instance(tmp_path) as first:
        first.note(url="http://127.0.0.1:8700/", pids={})
        with pytest.raises(AlreadyRuns) as refusal, Instance(tmp_path):
            pass
    assert str(refusal.value) == (
        "Rota runs here already, at http://127.0.0.1:8700/: use that one, "
        f"or end it first (Ctrl-C, or kill {os.getpid()})."
    )


def test_the_folder_is_free_again_when_the_first_has_ended(tmp_path: Path) -> None:
    with Instance(tmp_path):
        pass
    with Instance(tmp_path) as second:
        assert second.end_leftovers() == []


def test_what_was_left_running_is_ended(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    with Instance(tmp_path) as killed:
        killed.note(url="", pids={"web": sleeper.pid})
    with Instance(tmp_path) as following:
        assert following.end_leftovers() == ["web"]
    assert sleeper.wait(timeout=5) == -signal.SIGTERM


def test_who_does_not_listen_is_killed(tmp_path: Path) -> None:
    stubborn = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"], stdout=subprocess.PIPE
    )
    assert stubborn.stdout
    with stubborn, Instance(tmp_path) as killed:
        assert stubborn.stdout.readline() == b"up\n"
        killed.note(url="", pids={"sessions": stubborn.pid})
        assert killed.end_leftovers(patience=0.3) == ["sessions"]
        assert stubborn.wait(timeout=5) == -signal.SIGKILL


def test_a_stranger_with_the_same_pid_is_left_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    with Instance(tmp_path) as killed:
        killed.note(url="", pids={"web": sleeper.pid})
    record = json.loads((tmp_path / "up.json").read_text())
    record["processes"]["web"]["start_ticks"] -= 1
    (tmp_path / "up.json").write_text(json.dumps(record))
    with Instance(tmp_path) as following:
        assert following.end_leftovers() == []
    assert sleeper.poll() is None


@pytest.mark.parametrize("content", ["", "{", '{"pid": 1}'])
def test_a_record_that_was_not_written_whole_is_no_obstacle(tmp_path: Path, content: str) -> None:
    (tmp_path / "up.json").write_text(content)
    with Instance(tmp_path) as instance:
        assert instance.end_leftovers() == []
        instance.note(url="http://[::1]:80/", pids={})
    assert json.loads((tmp_path / "up.json").read_text())["url"] == "http://[::1]:80/"
