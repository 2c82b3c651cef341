"""Real sessions in real sandboxes: what they see, reach, leave and tell. bubblewrap makes them: skipped without."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runners import sandbox, supervision, tallying
from runners.base import Launch, OptionsInvalid, SandboxUnavailable, SessionSpec, Tally
from runners.claude import ClaudeRunner
from runners.codex import CodexRunner
from runners.environment import session_environment
from runners.function import FunctionRunner
from runners.sandbox import Sandbox
from runners.script import ScriptRunner
from runners.workspaces import Cache, prepare
from tests.processes import until
from tests.runners import claude_sessions, codex_sessions
from tests.runners.held import Held, limits_of, make_spec
from tests.runners.repositories import Source

_obstacle = sandbox.available()
needs_sandbox = pytest.mark.skipif(bool(_obstacle), reason=_obstacle)

CANARY = "canary-4f1d0c"
NO_NETWORK = Sandbox(network="none")


def hold(
    tmp_path: Path,
    program: str,
    *,
    within: Sandbox = NO_NETWORK,
    launch: dict[str, Any] | None = None,
    **limits: float | None,
) -> Held:
    """Start lines of shell in a sandbox."""
    spec = make_spec(tmp_path, options={})
    environment = session_environment(home=spec.home, extra={"MINE": "given"})
    given = Launch(argv=["sh", "-c", program], environment=environment, **(launch or {}))
    return begin(spec, given, within, **limits)


def begin(spec: SessionSpec, launch: Launch, within: Sandbox, **limits: float | None) -> Held:
    wrapped = sandbox.wrap(launch, spec=spec, sandbox=within)
    shim = supervision.start(spec.folder, wrapped, cwd=spec.workspace, limits=limits_of(**limits))
    return Held(folder=spec.folder, shim=shim)


def said(held: Held) -> str:
    """All that it printed, until it ended well."""
    ending = held.end()
    told = "\n".join(line.data.decode() for line in held.read())
    assert (ending.exit_code, ending.signal, ending.ended_by) == (0, None, ""), told
    return told


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the same user, with a secret in its environment."""
    with subprocess.Popen(["sleep", "300"], env={"SECRET": CANARY}) as process:
        yield process
        process.kill()


@needs_sandbox
class TestView:
    def test_the_checkout_and_home_are_there_to_write_to(self, tmp_path: Path) -> None:
        program = 'pwd; echo x > new; echo y > "$HOME/note"; echo z > "$TMPDIR/t"; cat /tmp/t; echo "$MINE"'
        assert said(hold(tmp_path, program)) == f"{tmp_path}/workspace\nz\ngiven"
        assert (tmp_path / "workspace" / "new").read_text() == "x\n"
        assert (tmp_path / "session" / "home" / "note").read_text() == "y\n"

    def test_nothing_else_of_the_machine_can_be_read(self, tmp_path: Path) -> None:
        secrets = [tmp_path / "secret", tmp_path / "session" / "secret", Path(__file__)]
        hold_folder = tmp_path / "session"
        hold_folder.mkdir(mode=0o700)
        for secret in secrets[:2]:
            secret.write_text(CANARY)
        others = [
            "/etc/shadow",
            "/etc/ssl/private",
            "/root/.ssh",
            "/home",
            "/sys",
            "/boot",
            "/var/lib",
            "/proc/1/root/home",
        ]
        program = f"for f in {' '.join(map(str, [*secrets, *others]))}; do ls -d $f 2>/dev/null; done; ls -A {tmp_path}"
        assert said(hold(tmp_path, program)).split() == ["session", "workspace"]

    def test_the_folder_of_the_session_shows_home_alone(self, tmp_path: Path) -> None:
        assert said(hold(tmp_path, f"ls -A {tmp_path}/session")) == "home"

    def test_the_system_is_there_for_reading_only(self, tmp_path: Path) -> None:
        program = (
            f"for f in /x /usr/x /etc/x /run/x /var/x {sys.prefix}/lib/x {Path(sandbox.__file__).parent}/x; do "
            "touch $f 2>/dev/null && echo wrote $f; done; git --version >/dev/null && echo works; head -c1 /etc/passwd"
        )
        assert said(hold(tmp_path, program)) == "works\nr"

    def test_shared_folders_for_temporary_files_are_its_own(self, tmp_path: Path) -> None:
        canary = Path("/tmp") / f"rota-{CANARY}"
        canary.write_text(CANARY)
        try:
            program = f"ls /tmp /var/tmp /dev/shm | grep {CANARY}; echo x > /tmp/x; echo x > /dev/shm/x; cat /var/tmp/x"
            assert said(hold(tmp_path, program)) == "x"
        finally:
            canary.unlink()
        assert (tmp_path / "session" / "home" / "tmp" / "x").exists()

    def test_processes_of_the_machine_and_their_environments_are_hidden(
        self, tmp_path: Path, stranger: subprocess.Popen[bytes]
    ) -> None:
        program = (
            f"cat /proc/*/environ | tr '\\0' '\\n' | grep -c {CANARY}; "
            "ls /proc | grep -c '^[0-9]'; kill -0 %d 2>&1 | grep -o 'No such process'" % stranger.pid
        )
        found, processes, kill = said(hold(tmp_path, program)).split("\n")
        assert (found, kill) == ("0", "No such process")
        assert int(processes) < 10

    def test_the_worker_is_not_told_of(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET_KEY", CANARY)
        assert CANARY not in said(hold(tmp_path, "env; cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'"))

    def test_it_has_no_capabilities_and_gains_none(self, tmp_path: Path) -> None:
        told = said(hold(tmp_path, "grep -E '^(Cap|NoNewPrivs)' /proc/self/status"))
        facts = dict(line.split(":\t") for line in told.split("\n"))
        assert facts.pop("NoNewPrivs") == "1"
        assert len(facts) == 5
        assert set(facts.values()) == {"0" * 16}

    def test_it_is_alone_in_every_namespace(self, tmp_path: Path) -> None:
        names = ["user", "mnt", "pid", "ipc", "uts", "cgroup", "net"]
        told = said(hold(tmp_path, f"hostname; for n in {' '.join(names)}; do readlink /proc/self/ns/$n; done"))
        hostname, *inside = told.split("\n")
        assert hostname == "rota"
        assert not set(inside) & {os.readlink(f"/proc/self/ns/{name}") for name in names}  # noqa: PTH115 - no path

    def test_the_sandbox_is_closed_from_within(self, tmp_path: Path) -> None:
        program = "mount -o remount,rw / 2>/dev/null; umount /proc 2>/dev/null; ls /proc/self/fd | wc -l; touch /x"
        held = hold(tmp_path, program)
        assert held.end().exit_code == 1
        assert held.texts() == [b"4"]  # the three, and the folder that is listed

    def test_a_working_directory_and_a_prompt_on_standard_input_stay(self, tmp_path: Path) -> None:
        (tmp_path / "workspace" / "docs").mkdir(parents=True)
        launch = {"working_directory": "docs", "files": {"in.txt": b"a prompt"}, "stdin_file": "in.txt"}
        assert said(hold(tmp_path, "basename $PWD; cat", launch=launch)) == "docs\na prompt"

    def test_folders_above_that_are_links_are_followed(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        program = f"pwd -P; echo x > {tmp_path}/link/workspace/x; cat {tmp_path}/real/workspace/x"
        assert said(hold(tmp_path / "link", program)) == f"{tmp_path}/real/workspace\nx"

    def test_git_knows_the_history_and_can_commit_but_not_write_to_the_cache(
        self, tmp_path: Path, repository: Callable[[], Source]
    ) -> None:
        source = repository()
        commit = source.commit({"README.md": "Hello\n"}, "Begin here")
        cache = Cache(tmp_path / "cache")
        cache.refresh("acme", source.url)
        workspace = prepare(cache, "acme", ref="main", branch="rota/x/1-1", into=tmp_path / "w")
        spec = make_spec(tmp_path, options={}, workspace=workspace.path)
        program = (
            "git log --format='%H %s' && git status --porcelain && echo more > more && git add more && "
            "git commit -qm More && git log --oneline | wc -l; "
            f"touch {cache.objects('acme')}/x; ls {cache.path('acme')}"
        )
        launch = Launch(argv=["sh", "-c", program], environment=session_environment(home=spec.home, extra={}))
        held = begin(spec, launch, Sandbox(objects=cache.objects("acme")))
        assert held.end().exit_code == 0
        assert held.texts() == [f"{commit} Begin here".encode(), b"2", b"objects"]
        assert b"Read-only file system" in held.texts("err")[0]


@needs_sandbox
class TestEnd:
    @pytest.mark.parametrize("code", [0, 1, 3, 126, 127, 137, 143, 255])
    def test_the_exit_code_is_the_program_s(self, tmp_path: Path, code: int) -> None:
        ending = hold(tmp_path, f"exit {code}").end()
        assert (ending.exit_code, ending.signal) == (code, None)

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT, signal.SIGPIPE])
    def test_the_signal_is_the_program_s(self, tmp_path: Path, number: signal.Signals) -> None:
        ending = hold(tmp_path, f"kill -{number} $$").end()
        assert (ending.exit_code, ending.signal, ending.ended_by) == (None, number, "")

    def test_a_program_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        spec = make_spec(tmp_path, options={})
        environment = session_environment(home=spec.home, extra={})
        held = begin(spec, Launch(argv=["no-such-program"], environment=environment), NO_NETWORK)
        assert held.end().exit_code == 127
        assert held.texts("err") == [b"no-such-program could not be started in the sandbox: No such file or directory."]

    def test_what_bubblewrap_says_of_its_own_failure_is_told(self, tmp_path: Path) -> None:
        held = hold(
            tmp_path, "true", within=Sandbox(network="allow_list", allowed_hosts=["x"], objects=tmp_path / "no")
        )
        assert held.end().exit_code == 1
        assert held.texts("err")[0].startswith(b"bwrap: ")

    def test_a_program_is_told_to_end_and_has_its_grace(self, tmp_path: Path) -> None:
        program = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
        held = hold(tmp_path, program, timeout=0.5)
        ending = held.end(within=4)
        assert (ending.exit_code, ending.ended_by) == (5, "timed_out")
        assert b"bye" in held.texts()

    def test_silence_ends_it(self, tmp_path: Path) -> None:
        ending = hold(tmp_path, "echo once; sleep 60", silence=0.3).end()
        assert (ending.ended_by, ending.signal) == ("stalled", signal.SIGTERM)

    def test_a_cancelled_one_ends(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "echo ready; sleep 60")
        until(lambda: held.texts() == [b"ready"], within=5, what="it runs")
        supervision.request_stop(held.folder, "cancelled")
        assert held.end().ended_by == "cancelled"

    @pytest.mark.parametrize("hides", ["setsid", "env -i setsid", "nohup"])
    def test_nothing_outlives_the_program(self, tmp_path: Path, hides: str) -> None:
        mark = f"{299 + os.getpid() / 1e7:.7f}"
        held = hold(
            tmp_path, f"trap '' TERM; ({hides} sh -c \"trap '' TERM HUP; sleep {mark}\" >/dev/null 2>&1 &) ; echo on"
        )
        held.end()
        assert not running(mark)

    @pytest.mark.parametrize("victim", ["shim", "keeper", "all"])
    def test_nothing_outlives_a_kill(self, tmp_path: Path, victim: str) -> None:
        mark = f"{399 + os.getpid() / 1e7:.7f}"
        held = hold(tmp_path, f"trap '' TERM; setsid sleep {mark} & echo ready; wait", kill_grace=1)
        until(lambda: running(mark), within=5, what="it runs")
        if victim == "all":
            assert supervision.kill(held.folder)
        else:
            keeper = next(one for one in supervision.current(held.folder) if b"sandbox_outside" in cmdline(one.pid))
            os.kill(held.shim.pid if victim == "shim" else keeper.pid, signal.SIGKILL)
        until(lambda: not running(mark), within=5, what="it is gone")
        until(lambda: supervision.ending_or_died(held.folder), within=5, what="that is known")
        until(lambda: supervision.current(held.folder) == [], within=5, what="the shim leaves, too")

    @pytest.mark.parametrize("milliseconds", [0, 10, 20, 40, 80])
    def test_nothing_outlives_its_shim_whenever_that_dies(self, tmp_path: Path, milliseconds: int) -> None:
        mark = f"{499 + milliseconds + os.getpid() / 1e7:.7f}"
        held = hold(tmp_path, f"trap '' TERM; (env -i setsid sleep {mark} &); sleep {mark} & wait")
        time.sleep(milliseconds / 1000)
        os.kill(held.shim.pid, signal.SIGKILL)
        with contextlib.suppress(AssertionError):
            until(lambda: not inside_of(held.folder), within=3, what="the sandbox is gone")
        assert not running(mark)
        supervision.kill(held.folder)  # bubblewrap that lost its parent at once waits for a word of it for ever
        assert not inside_of(held.folder)

    def test_what_the_program_left_to_end_by_itself_can_still_speak(self, tmp_path: Path) -> None:
        assert said(hold(tmp_path, "(sleep 0.1; echo late) & echo now")) == "now\nlate"

    def test_a_flood_is_cut_as_ever(self, tmp_path: Path) -> None:
        held = hold(tmp_path, "head -c 3000000 /dev/zero | tr '\\0' '\\n'", output_bytes=100_000)
        ending = held.end()
        assert (ending.exit_code, ending.truncated, ending.output_bytes) == (0, True, 3_000_000)


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def running(mark: str) -> list[int]:
    """Who sleeps for exactly so long."""
    wanted = f"sleep\0{mark}\0".encode()
    return [int(one.name) for one in Path("/proc").glob("[0-9]*") if cmdline(int(one.name)) == wanted]


def inside_of(folder: Path) -> list[int]:
    """Who was started with the session's HOME in its arguments: keeper and bubblewrap; inside, its first process."""
    home = os.fsencode(folder / "home")
    return [int(one.name) for one in Path("/proc").glob("[0-9]*") if home in cmdline(int(one.name))]


@pytest.fixture
def service() -> Iterator[int]:
    """A server on the machine's loopback that says hello: its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                with client:
                    client.recv(1000)
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


GET = """
import sys, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())
except OSError as error:
    print(error, error.read().decode() if hasattr(error, "read") else "")
"""

TUNNEL = """
import http.client, os, sys
host, _, port = os.environ["HTTPS_PROXY"].removeprefix("http://").partition(":")
connection = http.client.HTTPConnection(host, int(port), timeout=10)
connection.set_tunnel(sys.argv[1], int(sys.argv[2]))
try:
    connection.request("GET", "/")
    print(connection.getresponse().read().decode())
except OSError as error:
    print(error)
"""


@needs_sandbox
class TestNetwork:
    def python(self, tmp_path: Path, program: str, *arguments: object, within: Sandbox) -> Held:
        spec = make_spec(tmp_path, options={})
        argv = [sys.executable, "-I", "-S", "-c", program, *map(str, arguments)]
        environment = session_environment(home=spec.home, extra={})
        return begin(spec, Launch(argv=argv, environment=environment), within)

    def test_is_the_worker_s_where_nothing_else_is_said(self, tmp_path: Path, service: int) -> None:
        url = f"http://127.0.0.1:{service}/"
        assert said(self.python(tmp_path, GET, url, within=Sandbox())) == "hello"

    def test_none_has_loopback_alone_and_no_route(self, tmp_path: Path, service: int) -> None:
        program = "sed 1,2d /proc/net/dev | cut -d: -f1; sed 1d /proc/net/route; cat /etc/resolv.conf 2>/dev/null; "
        told = said(hold(tmp_path, f"{program} {sys.executable} -ISc '{GET}' http://127.0.0.1:{service}/"))
        assert " ".join(told.split()) == "lo <urlopen error [Errno 111] Connection refused>"

    def test_none_has_a_loopback_that_works(self, tmp_path: Path) -> None:
        program = (
            "import socket; s = socket.create_server(('127.0.0.1', 0)); "
            "socket.create_connection(s.getsockname()); print('met')"
        )
        assert said(self.python(tmp_path, program, within=NO_NETWORK)) == "met"

    def test_an_allow_list_lets_its_host_through(self, tmp_path: Path, service: int) -> None:
        within = Sandbox(network="allow_list", allowed_hosts=[f"localhost:{service}"])
        assert said(self.python(tmp_path, TUNNEL, "localhost", service, within=within)) == "hello"

    def test_an_allow_list_refuses_another_host_in_a_clear_line(self, tmp_path: Path, service: int) -> None:
        within = Sandbox(network="allow_list", allowed_hosts=["api.example.com", "localhost:1"])
        held = self.python(tmp_path, TUNNEL, "localhost", service, within=within)
        assert held.end().exit_code == 0
        assert held.texts() == [b"Tunnel connection failed: 403 Forbidden"]
        assert held.texts("err") == [
            f"Sandbox: localhost:{service} is not among the allowed hosts of this session's schedule: refused.".encode()
        ]

    def test_an_allow_list_has_no_way_around_it(self, tmp_path: Path, service: int) -> None:
        within = Sandbox(network="allow_list", allowed_hosts=[f"localhost:{service}"])
        told = said(self.python(tmp_path, GET, f"http://127.0.0.1:{service}/", within=within))
        assert "Connection refused" in told

    def test_programs_find_the_proxy_by_their_environment(self, tmp_path: Path, service: int) -> None:
        get = f"NO_PROXY= no_proxy= {sys.executable} -ISc '{GET}' http://localhost:{service}/"
        program = f"{get}; env | grep -ic '^https*_proxy='"
        within = Sandbox(network="allow_list", allowed_hosts=[f"localhost:{service}"])
        assert said(hold(tmp_path, program, within=within)) == "hello\n4"

    def test_the_way_out_ends_with_the_program_whatever_is_open(self, tmp_path: Path, service: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            program = "import os, threading, time\n" + TUNNEL.replace(
                'connection.request("GET", "/")', "connection.connect(); os._exit(0)"
            )
            within = Sandbox(network="allow_list", allowed_hosts=[f"localhost:{port}"])
            begun = time.monotonic()
            assert said(self.python(tmp_path, program, "localhost", port, within=within)) == ""
            assert time.monotonic() - begun < 10


@needs_sandbox
class TestRunners:
    def see_through(self, runner: Any, spec: SessionSpec, within: Sandbox, **limits: float | None) -> Any:
        held = begin(spec, runner.launch(spec), within, **limits)
        ending = held.end(within=50)
        return claude_sessions.Session(
            runner=runner, spec=spec, launch=runner.launch(spec), lines=held.read(), ending=ending
        )

    def test_a_script_writes_its_result(self, tmp_path: Path) -> None:
        program = 'echo "# Fine" > "$ROTA_RESULT_FILE"; cd "$ROTA_WORKSPACE" && touch made'
        spec = make_spec(tmp_path, options={"argv": ["sh", "-c", program]})
        runner = ScriptRunner()
        ended = self.see_through(runner, spec, NO_NETWORK)
        result = runner.judge(ended.ending, ended.tally, spec)
        assert (result.outcome, result.result) == ("succeeded", "# Fine")
        assert (tmp_path / "workspace" / "made").exists()

    def test_a_script_elsewhere_on_the_machine_is_shown_alone(self, tmp_path: Path) -> None:
        tools = tmp_path / "tools"
        tools.mkdir()
        (tools / "secret").write_text(CANARY)
        (tools / "report").write_text(f"#!/bin/sh\nls {tools}; touch {tools}/report || echo kept\n")
        (tools / "report").chmod(0o755)
        spec = make_spec(tmp_path, options={"argv": [str(tools / "report")]})
        ended = self.see_through(ScriptRunner(), spec, NO_NETWORK)
        assert [line.data for line in ended.lines if line.stream == "out"] == [b"report", b"kept"]

    def test_a_function_of_the_operator_s_runs_and_sees_its_own_code_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plugins = tmp_path / "plugins"
        plugins.mkdir()
        (plugins / "secret").write_text(CANARY)
        (plugins / "operators_sandboxed.py").write_text(
            "from pathlib import Path\n"
            "def it(context):\n    return ' '.join(p.name for p in Path(__file__).parent.iterdir())\n"
        )
        monkeypatch.syspath_prepend(plugins)
        spec = make_spec(tmp_path, options={"function": "it", "function_path": "operators_sandboxed.it"})
        runner = FunctionRunner()
        held = begin(spec, runner.launch(spec), NO_NETWORK)
        assert held.end().exit_code == 0
        (told,) = [event.text for line in held.read() for event in runner.read(line)]
        assert set(told.split()) - {"__pycache__"} == {"operators_sandboxed.py"}

    def test_what_a_function_needs_is_found_without_running_it(self, tmp_path: Path) -> None:
        spec = make_spec(tmp_path, options={"function": "it", "function_path": "no_such_module.it"})
        assert FunctionRunner().launch(spec).reads == ()
        with pytest.raises(OptionsInvalid):
            FunctionRunner().launch(make_spec(tmp_path, options={}))

    @pytest.mark.skipif(not codex_sessions.program(), reason=codex_sessions.NO_CODEX)
    def test_codex_rehearses_with_its_own_sandbox_inside(self, tmp_path: Path) -> None:
        spec = make_spec(
            tmp_path,
            options={"model": "gpt-5.5"},
            agent_session_id="12345678-1234-4234-8234-123456789012",
            prompt="Do it.",
            program=codex_sessions.program(),
            rehearse=True,
        )
        runner = CodexRunner()
        held = begin(spec, runner.launch(spec), NO_NETWORK, timeout=40)
        ending, tally = held.end(within=50), Tally()
        for line in held.read():
            for event in runner.read(line):
                tallying.add(tally, event)
        result = runner.judge(ending, tally, spec)
        assert (result.outcome, result.reason) == ("succeeded", "ok"), result.message
        assert list(spec.workspace.iterdir()), "it wrote no file"

    @pytest.mark.skipif(not codex_sessions.program(), reason=codex_sessions.NO_CODEX)
    @pytest.mark.parametrize("network", ["none", "host"])
    def test_codex_s_own_sandbox_holds_inside_of_ours(self, tmp_path: Path, network: Any) -> None:
        """It keeps more than ours does: the key, what the verdict is read from, and the checkout's git directory."""
        look = [
            "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -o -e ^MINE=.. -e ^OPENAI_API_KEY= | sort -u",
            'touch "$HOME/.codex/forged" "$HOME/forged" .git/forged; find .git "$HOME" -name forged',
            "touch made && echo it is made",
        ]
        # One command: of several that are asked for at once, Codex does not tell of each.
        turns = [[{"type": "tool_use", "name": "Bash", "input": {"command": "\n".join(look)}}]]
        source = Source(tmp_path / "workspace")
        spec = make_spec(
            tmp_path,
            options={"model": "gpt-5.5", "rehearsal_script": turns},
            agent_session_id="12345678-1234-4234-8234-123456789012",
            prompt="Do it.",
            program=codex_sessions.program(),
            environment={"MINE": "given"},
            rehearse=True,
        )
        runner = CodexRunner()
        held = begin(spec, runner.launch(spec), Sandbox(network=network), timeout=40)
        ending, tally, told = held.end(within=50), Tally(), ""
        for event in (event for line in held.read() for event in runner.read(line)):
            tallying.add(tally, event)
            told += f"{event.kind}: {event.text}\n"
        result = runner.judge(ending, tally, spec)
        assert (result.outcome, result.reason) == ("succeeded", "ok"), result.message
        assert "it is made" in told
        assert "MINE=gi\n" in told
        assert "OPENAI_API_KEY=\n" not in told
        assert told.count("Read-only file system") == 3
        assert (spec.workspace / "made").exists()
        assert not list(source.path.rglob("forged"))
        assert not list(spec.home.rglob("forged"))

    @pytest.mark.parametrize("network", ["none", "allow_list", "host"])
    def test_claude_rehearses(self, tmp_path: Path, network: Any) -> None:
        tmp_path.joinpath("session").mkdir(mode=0o700)
        spec = make_spec(
            tmp_path,
            options={"model": "haiku", "allowed_tools": ["Write", "Bash(cat:*)"], "rehearsal_script": "writes-a-file"},
            agent_session_id="12345678-1234-4234-8234-123456789012",
            prompt="Do it.",
            rehearse=True,
        )
        hosts = ["api.example.com"] if network == "allow_list" else []
        ended = self.see_through(ClaudeRunner(), spec, Sandbox(network=network, allowed_hosts=hosts), timeout=40)
        assert (ended.result.outcome, ended.result.reason) == ("succeeded", "ok"), ended.lines
        assert any(spec.workspace.iterdir()), "it wrote no file"
        assert ClaudeRunner().conversation(spec), "its conversation is not kept"


class TestAvailable:
    @pytest.mark.parametrize(
        ("program", "told"),
        [
            (None, "bubblewrap is not installed where this worker runs. Install the package bubblewrap"),
            (
                "echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1",
                "setting up uid map: Permission denied. Mend",
            ),
            ("exit 1", "on this machine: exit code 1. Mend"),
        ],
    )
    def test_a_session_that_wants_one_is_refused_with_the_reason(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None, told: str
    ) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        if program is not None:
            (folder / "bwrap").write_text(f"#!/bin/sh\n{program}\n")
            (folder / "bwrap").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        assert told in sandbox.available()
        with pytest.raises(SandboxUnavailable, match="bubblewrap") as refused:
            hold(tmp_path, "true")
        assert refused.value.reason == "sandbox_unavailable"
        assert "set the schedule's sandbox to none" in str(refused.value)

    def test_a_program_that_can_not_be_started_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "bwrap").write_bytes(b"\x7fELF")
        (tmp_path / "bwrap").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert "can't make a sandbox on this machine: [Errno 8]" in sandbox.available()

    @needs_sandbox
    def test_a_machine_that_forbids_user_namespaces_is_found_out(self) -> None:
        forbidden = ["bwrap", "--unshare-user", "--disable-userns", "--dev-bind", "/", "/", "--", sys.executable]
        program = "from runners import sandbox; print(sandbox.available())"
        answer = subprocess.run([*forbidden, "-c", program], capture_output=True, text=True, check=False)
        if "Unknown option" in answer.stderr:
            pytest.skip("this bubblewrap is too old to forbid them")
        assert "can't make a sandbox on this machine: bwrap: Creating new namespace failed" in answer.stdout

    @needs_sandbox
    def test_a_workplace_among_the_system_s_programs_would_be_open_to_all(self, tmp_path: Path) -> None:
        spec = make_spec(tmp_path, options={}, workspace=Path("/usr/lib"))
        launch = Launch(argv=["true"], environment={})
        with pytest.raises(SandboxUnavailable, match=r"/usr/lib lies where all sessions can read\. .* ROTA_VAR"):
            sandbox.wrap(launch, spec=spec, sandbox=NO_NETWORK)
