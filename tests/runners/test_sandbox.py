"""Real sessions in real sandboxes: what they see, and who can make one. bubblewrap does: skipped without."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runners import sandbox
from runners.base import Launch, SandboxUnavailable
from runners.environment import session_environment
from runners.sandbox import Sandbox
from runners.workspaces import Cache, prepare
from tests.runners.held import make_spec
from tests.runners.repositories import Source
from tests.runners.sandboxed import CANARY, NO_NETWORK, begin, hold, needs_sandbox, said


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
