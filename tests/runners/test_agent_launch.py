"""What an agent keeps is read while it is at work."""

import os
from pathlib import Path

import pytest

from runners import Conversation, open_conversation


@pytest.fixture
def conversation(tmp_path: Path) -> Conversation:
    file = tmp_path.resolve() / "projects" / "said.jsonl"
    file.parent.mkdir()
    file.write_bytes(b"{}\n")
    return Conversation(agent_session_id="a", file=file)


def test_its_conversation_is_read(conversation: Conversation) -> None:
    with open_conversation(conversation) as said:
        assert said.read() == b"{}\n"


@pytest.mark.parametrize("trap", ["link", "folder", "pipe"])
def test_what_it_puts_there_meanwhile_leads_nowhere(trap: str, conversation: Conversation, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    conversation.file.parent.rename(elsewhere)
    if trap == "folder":
        conversation.file.parent.symlink_to(elsewhere)
    else:
        conversation.file.parent.mkdir()
        os.mkfifo(conversation.file) if trap == "pipe" else conversation.file.symlink_to(elsewhere / "said.jsonl")
    with pytest.raises(OSError):  # noqa: PT011 (whichever the kernel gives)
        open_conversation(conversation)
