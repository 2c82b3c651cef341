"""What a process holds stays from its user's other processes. Root sees everything: these are nobody's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runners import privacy, processes

ROOT = Path(__file__).resolve().parents[2]

# One process looks at another of the same user, before and after that made itself private. As root both become nobody;
# then a process is not dumpable any more, until it executes something or says so itself.
_LOOK = """
import ctypes, json, os, subprocess
from runners import privacy, processes

def become_nobody():
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)

def may(action):
    try:
        action()
    except PermissionError:
        return False
    return True

def look(pid):
    return {
        "environ": may(lambda: b"CANARY" in open(f"/proc/{pid}/environ", "rb").read()),
        "mem": may(lambda: open(f"/proc/{pid}/mem", "rb").close()),
        "fd": may(lambda: os.listdir(f"/proc/{pid}/fd")),
        "cwd": may(lambda: os.readlink(f"/proc/{pid}/cwd")),
        "start_ticks": processes.start_ticks(pid) is not None,
        "cmdline": b"-c" in open(f"/proc/{pid}/cmdline", "rb").read(),
        "signal": may(lambda: os.kill(pid, 0)),
    }

told, tell = os.pipe()
heard, hear = os.pipe()
victim = os.fork()
if victim == 0:
    os.close(hear)
    become_nobody()
    privacy.prctl(privacy.PR_SET_DUMPABLE, 1)
    os.write(tell, b"1")
    os.read(heard, 1)
    held = privacy.make_private()
    own = open("/proc/self/stat").read() != "" and os.listdir("/proc/self/fd") != []
    child = subprocess.run(["grep", "-qz", "CANARY", "/proc/self/environ"]).returncode
    forked = os.fork()
    if forked:
        os.write(tell, json.dumps({"held": held, "own": own, "child": child, "forked": forked}).encode())
    os.read(heard, 1)
    if forked:
        os.waitpid(forked, 0)
    os._exit(0)
become_nobody()
os.read(told, 1)
before = look(victim)
os.write(hear, b"1")
said = json.loads(os.read(told, 1000))
after, forked = look(victim), look(said.pop("forked"))
os.close(hear)
os.waitpid(victim, 0)
print(json.dumps([before, said, after, forked]))
"""


@pytest.fixture
def _no_hidepid() -> None:
    if privacy._hides_processes():
        pytest.skip("/proc shows only what may be traced")


@pytest.mark.usefixtures("_no_hidepid")
def test_the_environment_and_memory_of_a_private_process_are_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOOK],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "CANARY": "x"},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    before, said, after, forked = json.loads(done.stdout)
    held_before = ["environ", "mem", "fd", "cwd"]
    needed = ["start_ticks", "cmdline", "signal"]
    assert [before[what] for what in held_before + needed] == [True] * 7
    assert [after[what] for what in held_before] == [False] * 4
    assert [after[what] for what in needed] == [True] * 3, "what supervision needs"
    assert forked == after, "what is forked from it is private from its birth"
    assert said == {"held": True, "own": True, "child": 0}, "it sees itself, and what it starts is an ordinary process"


def test_what_the_kernel_refuses_is_told() -> None:
    assert not privacy.prctl(-1, 0)


def test_a_process_is_known_by_stat_alone() -> None:
    assert processes.start_ticks(os.getpid())
