"""What the launches of all agents have in common: what has to be there, and the scripted model around a rehearsal."""

from __future__ import annotations

import json
import os
import stat
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from runners import mcp_servers, rehearsal
from runners.base import AnswerRule, Conversation, Launch, SessionSpec
from runners.environment import OF_EVERY_SESSION, session_environment

REHEARSAL_FILE: Final = "rehearsal.json"
CONVERSATION_BYTES: Final = 64 * 1024 * 1024  # of a file that an agent left: what is larger is no conversation


def open_conversation(conversation: Conversation) -> IO[bytes]:
    """Its file, of an agent that is at work: it may have put a link or a pipe there since the file was found.

    A link leads out of its sandbox, and nobody writes to the pipe. Raises OSError.
    """
    descriptor = os.open(conversation.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb") if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    if file and Path(f"/proc/self/fd/{descriptor}").readlink() == conversation.file:
        return file
    os.close(descriptor)
    raise OSError(f"{conversation.file.name} is another file now.")


def problems(spec: SessionSpec) -> dict[str, str]:
    """What is wrong with a session of any agent, its options apart: field → sentence."""
    found = {}
    if unset := mcp_servers.wanted(spec.options.get("mcp_servers")) - {*spec.environment, *OF_EVERY_SESSION}:
        found["mcp_servers"] = f"{', '.join(sorted(unset))}: is not in the session's environment."
    if not spec.prompt.strip():
        found["prompt"] = "There is nothing to ask the agent: the prompt is empty."
    if not is_uuid(spec.agent_session_id):
        found["agent_session_id"] = f"{spec.agent_session_id!r} is no UUID."
    if spec.conversation and not spec.conversation.file.is_file():
        found["conversation"] = f"The conversation to go on with is gone: {spec.conversation.file}"
    return found


def is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def launch(
    spec: SessionSpec,
    *,
    argv: Sequence[str],
    extra: Mapping[str, str],
    files: Mapping[str, bytes],
    script: Callable[[SessionSpec], object],
    result_type: str,
    stdin_file: str,
    reads: Sequence[str],
    answers: AnswerRule | None = None,
) -> Launch:
    """`argv` as it is, or as a rehearsal: then a program around it plays the `script` in place of a model.

    `extra`: the variables that the session has besides those of every session. For the others, see Launch.
    """
    if spec.rehearse:
        argv = [sys.executable, "-I", "-S", rehearsal.__file__, str(spec.home / REHEARSAL_FILE), "--", *argv]
        files = {**files, REHEARSAL_FILE: json.dumps(script(spec)).encode()}
        extra = rehearsal.without_models(extra)
    return Launch(
        argv=argv,
        environment=session_environment(home=spec.home, extra=extra, path=spec.path),
        files=files,
        result_type=result_type,
        answers=answers,
        stdin_file=stdin_file,
        reads=reads,
    )
