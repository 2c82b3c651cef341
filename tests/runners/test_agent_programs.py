"""What is said of an agent program that can't be looked at."""

from pathlib import Path

import pytest

from runners.base import ProgramMissing
from runners.claude import ClaudeRunner


def test_a_path_that_can_not_be_followed_is_a_program_that_is_missing(tmp_path: Path) -> None:
    """As one into a folder of somebody else is: the kernel refuses, and a session is told so in words."""
    with pytest.raises(ProgramMissing, match="There is no Claude Code at"):
        ClaudeRunner().program(str(tmp_path / ("x" * 300)))
