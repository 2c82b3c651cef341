"""Agents whose service turns them away because a quota is used up, as it was recorded. For tests."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from runners import Launch, SessionSpec
from runners.claude import ClaudeRunner

_RECORDED = Path(__file__).parent.parent / "runners/streams/usage-limit.jsonl"
_SAID = "1795200000"  # when its quota is given anew, says the recording
_PROGRAM = """
import sys, time
lines = open(sys.argv[1]).read().replace(sys.argv[2], str(int(time.time()) + 63)).splitlines()[1:]
count = int(sys.argv[3])
print(*lines[:count or None], sep="\\n", flush=True)
if count:
    time.sleep(60)
sys.exit(1)
"""


class LimitedRunner(ClaudeRunner):
    """In 63 seconds, it is told, and it ends."""

    name: ClassVar[str] = "limited"
    lines: ClassVar[int] = 0  # of the recording; all of them

    def launch(self, spec: SessionSpec) -> Launch:
        arguments = (str(_RECORDED), _SAID, str(self.lines))
        return replace(super().launch(spec), argv=[sys.executable, "-I", "-S", "-c", _PROGRAM, *arguments])


class PatientRunner(LimitedRunner):
    """It is told the same, and waits."""

    name: ClassVar[str] = "patient"
    lines: ClassVar[int] = 2
