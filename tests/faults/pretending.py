"""An agent whose program says what a test wants it to. For tests."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from runners import Launch, SessionSpec
from runners.claude import ClaudeRunner


class PretendingRunner(ClaudeRunner):
    """Claude Code in all but its program, which is the shell script that the prompt names."""

    name: ClassVar[str] = "pretending"

    def launch(self, spec: SessionSpec) -> Launch:
        return replace(super().launch(spec), argv=["/bin/sh", spec.prompt])
