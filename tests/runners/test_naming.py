"""What a process is called, seen from outside."""

import json
import subprocess
import sys
from pathlib import Path

from runners import naming

_RENAMED = """
import json, os, sys
from runners import naming

def words():
    return open("/proc/self/cmdline").read().rstrip("\\0").split("\\0")

done = naming.rename(["one", "two words", "dreißig"])
after = words()
child = os.fork()
if child == 0:
    os._exit(0 if naming.rename(["child"]) and words() == ["child"] else 1)
status = os.waitpid(child, 0)[1]
long = naming.rename(["x" * 5000])
naming.rename_thread("a name of more than fifteen bytes")
print(json.dumps([done, after, status, words() == after, long, open("/proc/self/comm").read()]))
"""


def test_a_process_and_those_forked_from_it_take_another_command_line() -> None:
    done, after, child, unchanged, long, comm = json.loads(
        subprocess.run(
            [sys.executable, "-c", _RENAMED, naming.PADDING],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
    )
    assert (done, after) == (True, ["one", "two words", "dreißig"])
    assert child == 0
    assert (long, unchanged) == (False, True), "what does not fit changes nothing"
    assert comm == "a name of more \n"
