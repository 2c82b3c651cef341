"""An agent whose own caps do not hold: it asks its model once more as long as it lives. For tests."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import ClassVar

from runners import Launch, SessionSpec
from runners.claude import ClaudeRunner

# Each answer's prompt costs a dollar.
_ANSWER = {
    "type": "assistant",
    "message": {"id": "ID", "model": "claude-sonnet-5-5", "content": [], "usage": {"input_tokens": 500_000}},
}
_PROGRAM = f"""
import itertools, time
for number in itertools.count():
    print({json.dumps(_ANSWER)!r}.replace("ID", str(number)), flush=True)
    time.sleep(0.05)
"""


class WastefulRunner(ClaudeRunner):
    name: ClassVar[str] = "wasteful"

    def launch(self, spec: SessionSpec) -> Launch:
        launch = super().launch(spec)
        return replace(launch, argv=[sys.executable, "-I", "-S", "-c", _PROGRAM])
