import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from runners import rehearsal, rehearsals, scripted_model
from runners.rehearsal import API_KEY
from tests.runners.claude_sessions import make_spec, run, use

PYTHON = [sys.executable, "-I", "-S"]
ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


@pytest.fixture
def own_signals() -> Iterator[None]:
    """For a test in whose own process the program around runs: signals mean afterwards what they did before."""
    before = [signal.getsignal(number) for number in ASKING]
    yield
    for number, handler in zip(ASKING, before, strict=True):
        signal.signal(number, handler)


# The program that stands around an agent program


def start(folder: Path, command: Sequence[str], **more: Any) -> subprocess.Popen[str]:
    script = folder / "script.json"
    script.write_text("[]")
    environment = {
        "PATH": os.defpath,
        "ANTHROPIC_API_KEY": "real",
        "ANTHROPIC_AUTH_TOKEN": "real",
        "CLAUDE_CODE_OAUTH_TOKEN": "real",
        "CLAUDE_CODE_USE_BEDROCK": "1",
        "AWS_SECRET_ACCESS_KEY": "real",
        "https_proxy": "http://real",
        "TEAM": "a",
    }
    return subprocess.Popen(
        [*PYTHON, rehearsal.__file__, str(script), "--", *command],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def python(code: str) -> list[str]:
    return [*PYTHON, "-c", code]


def test_the_program_gets_the_scripted_model_and_no_real_key(tmp_path: Path) -> None:
    code = "import os, json; print(json.dumps(dict(os.environ)))"
    out, _ = start(tmp_path, python(code)).communicate(timeout=10)
    environment = json.loads(out)

    assert not [value for value in environment.values() if "real" in value]
    assert environment["ANTHROPIC_BASE_URL"].startswith("http://127.0.0.1:")
    assert environment["ANTHROPIC_API_KEY"] == API_KEY
    assert environment["TEAM"] == "a"
    assert "CLAUDE_CODE_USE_BEDROCK" not in environment


def test_the_model_answers_as_long_as_the_program_runs(tmp_path: Path) -> None:
    code = (
        "import os, urllib.request as r; url = os.environ['ANTHROPIC_BASE_URL'] + '/v1/messages'\n"
        "print(r.urlopen(url, b'{\"tools\": [1]}').read().decode())"
    )
    out, _ = start(tmp_path, python(code)).communicate(timeout=10)

    assert json.loads(out)["content"] == [{"type": "text", "text": scripted_model.USED_UP}]


def test_streams_and_the_exit_code_are_handed_on(tmp_path: Path) -> None:
    code = "import sys; print(sys.stdin.read().upper()); print('oh', file=sys.stderr); sys.exit(3)"
    process = start(tmp_path, python(code))

    assert process.communicate("hello", timeout=10) == ("HELLO\n", "oh\n")
    assert process.returncode == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_it_dies_of_what_the_program_died_of(tmp_path: Path, number: int) -> None:
    process = start(tmp_path, python(f"import os; os.kill(os.getpid(), {int(number)})"), cwd=tmp_path)
    process.communicate(timeout=10)

    assert process.returncode == -number
    assert not list(tmp_path.glob("core*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_the_program(tmp_path: Path, number: int) -> None:
    code = (
        "import os, signal, time\n"
        f"signal.signal({int(number)}, lambda *_: (os.write(1, b'told'), os._exit(5)))\n"
        "os.write(1, b'ready\\n')\ntime.sleep(20)"
    )
    process = start(tmp_path, python(code))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)

    assert process.communicate(timeout=10)[0] == "told"
    assert process.returncode == 5


@pytest.mark.usefixtures("own_signals")
def test_a_signal_is_not_lost_before_the_program_is_there() -> None:
    program = rehearsal.Program()
    program.hand_on(signal.SIGTERM)
    program.start(python("import time; time.sleep(20)"), {})

    assert program.wait() == -signal.SIGTERM


@pytest.mark.usefixtures("own_signals")
def test_who_asks_us_to_end_asks_the_program(tmp_path: Path) -> None:
    code = "import os, signal, time; os.kill(os.getppid(), signal.SIGHUP); time.sleep(20)"
    (tmp_path / "script.json").write_text("[]")

    assert rehearsal.main([str(tmp_path / "script.json"), "--", *python(code)]) == -signal.SIGHUP


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    process = start(tmp_path, ["/nowhere/claude"])

    assert "/nowhere/claude could not be started" in process.communicate(timeout=10)[1]
    assert process.returncode == 127


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "Usage:"),
        (["SCRIPT", "claude"], 2, "Usage:"),
        (["/nowhere.json", "--", "true"], 2, "can't be played"),
        (["SCRIPT", "--", "/nowhere/claude"], 127, "could not be started"),
        (["SCRIPT", "--", *python("import sys; sys.exit('well')")], 1, "well"),
    ],
)
def test_how_it_is_called(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    (tmp_path / "script.json").write_text("[]")
    given = [str(tmp_path / "script.json") if argument == "SCRIPT" else argument for argument in arguments]

    assert rehearsal.main(given) == code
    assert words in capfd.readouterr().err


# With the real program


def test_a_rehearsal_of_a_schedule_that_edits(tmp_path: Path) -> None:
    spec = make_spec(
        tmp_path,
        rehearse=True,
        prompt="Tidy up.\nThen rest.",
        options={"allowed_tools": ["Bash", "Write"], "max_turns": 3},
        environment={"ANTHROPIC_API_KEY": "real-key", "HTTPS_PROXY": "http://192.0.2.1:3128"},
    )
    git = ["git", "-C", str(spec.workspace), "-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "First light"], check=True)
    session = run(spec)

    assert (session.result.outcome, session.result.reason) == ("succeeded", "ok")
    assert session.result.result.startswith("This was a rehearsal.")
    assert "> Tidy up.\n> Then rest." in session.result.result
    assert "First light" in session.result.result
    assert (session.result.cost_usd, session.result.turns) == (0, 3)
    assert session.result.model.startswith("claude-haiku")
    assert (spec.workspace / rehearsals.WRITTEN_FILE).is_file()
    assert not {"ANTHROPIC_API_KEY", "HTTPS_PROXY"} & set(session.launch.environment)


@pytest.mark.parametrize(
    ("options", "turns", "words"),
    [
        ({}, 2, "A small project."),
        ({"max_turns": 1}, 1, "(nothing)"),
        ({"permission_mode": "plan", "model": "claude-haiku-5-5"}, 2, "A small project."),
    ],
)
def test_a_rehearsal_keeps_to_what_is_allowed(tmp_path: Path, options: dict[str, Any], turns: int, words: str) -> None:
    session = run(make_spec(tmp_path, rehearse=True, options=options))

    assert (session.result.reason, session.result.turns) == ("ok", turns)
    assert words in session.result.result
    assert sorted(file.name for file in session.spec.workspace.iterdir()) == ["README.md"]


def test_no_real_key_is_within_reach_of_a_rehearsed_agent(tmp_path: Path) -> None:
    look = use(("Bash", {"command": "env; cat /proc/$PPID/environ"}))
    spec = make_spec(
        tmp_path,
        rehearse=True,
        options={"allowed_tools": ["Bash"], "rehearsal_script": {"turns": [look], "end": "{{ results }}"}},
        environment={"ANTHROPIC_API_KEY": "key-4711", "CLAUDE_CODE_OAUTH_TOKEN": "token-4711", "TEAM": "a"},
    )
    session = run(spec)
    seen = next(event.text for event in session.events if event.kind == "tool_result")

    assert "TEAM=a" in seen
    assert API_KEY in seen
    assert "4711" not in seen


def test_a_rehearsal_that_hangs_is_ended_with_its_program(tmp_path: Path) -> None:
    session = run(make_spec(tmp_path, rehearse=True, options={"rehearsal_script": "hangs"}), seconds=1.5)

    assert (session.result.outcome, session.result.reason) == ("timed_out", "timed_out")
    assert session.ending.exit_code == 143
