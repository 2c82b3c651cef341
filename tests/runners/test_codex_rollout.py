import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from runners.codex_rollout import account, as_conversation, find, thread_id

OWN, OTHER = "01a1f8bd-3e7a-7502-9acb-0ea1c103bc22", "01a1f8bd-4871-7810-8e97-2a9392850632"
ROTA = "bcc79e58-c290-4776-b11c-e0bf2fc05656"
CONTEXT = ("turn_context", {"turn_id": "t", "model": "gpt-5.5"})


def usage(answer: str, thread: str = OWN, turn: str = "t", **tokens: Any) -> tuple[str, dict[str, Any]]:
    return "token_usage_record", {"thread_id": thread, "turn_id": turn, "response_id": answer, "usage": tokens}


def write(folder: Path, thread: str, records: Sequence[tuple[str, Any] | str], day: str = "20") -> Path:
    file = folder / "sessions" / "2026" / "11" / day / f"rollout-2026-11-{day}T11-00-00-{thread}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = (r if isinstance(r, str) else json.dumps({"type": r[0], "payload": r[1]}) for r in records)
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def test_each_answer_is_told_once_with_its_tokens(tmp_path: Path) -> None:
    spent = usage("a", input_tokens=100, cached_input_tokens=40, cache_write_input_tokens=10, output_tokens=7)
    told = account([write(tmp_path, OWN, [CONTEXT, spent])], thread=OWN)

    assert told.model == "gpt-5.5"
    assert [dict(answer.data) for answer in told.answers] == [
        {
            **{"answer_id": "a", "model": "gpt-5.5", "subagent": False},
            **{"input_tokens": 50, "output_tokens": 7, "cached_tokens": 50, "cache_write_tokens": 10},
        }
    ]


def test_a_subagent_has_a_rollout_and_a_model_of_its_own(tmp_path: Path) -> None:
    own = write(tmp_path, OWN, [CONTEXT, usage("a")])
    other = write(tmp_path, OTHER, [("turn_context", {"model": "gpt-6-luna"}), usage("b", OTHER, "u")], day="21")
    told = account([own, other], thread=OWN)

    assert [(a.data["model"], a.data["subagent"]) for a in told.answers] == [("gpt-5.5", False), ("gpt-6-luna", True)]
    assert told.model == "gpt-5.5"


def test_what_an_earlier_session_used_is_not_this_ones(tmp_path: Path) -> None:
    earlier = write(tmp_path / "1", OWN, [CONTEXT, usage("a")])
    now = write(tmp_path / "2", OWN, [CONTEXT, usage("a"), usage("b", turn="u")])

    assert [a.data["answer_id"] for a in account([now], thread=OWN, earlier=earlier).answers] == ["b"]
    assert len(account([now], thread=OWN, earlier=tmp_path / "gone").answers) == 2


def test_the_last_words_are_those_of_the_last_turn(tmp_path: Path) -> None:
    first = [
        ("event_msg", {"type": "task_started"}),
        ("response_item", {"type": "function_call_output", "output": "Output:\nbwrap: no\n"}),
        ("event_msg", {"type": "task_complete", "last_agent_message": "First."}),
    ]
    begun = write(tmp_path / "1", OWN, [*first, ("event_msg", {"type": "task_started"})])
    ended = write(tmp_path / "2", OWN, [*first, ("event_msg", {"type": "task_started"}), first[2]])

    told = account([begun], thread=OWN)
    assert (told.is_complete, told.last_words, told.no_sandbox) == (False, "", "")
    told = account([ended], thread=OWN)
    assert (told.is_complete, told.last_words) == (True, "First.")


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (
            "Output:\nbwrap: setting up uid map: Operation not permitted\n",
            "bwrap: setting up uid map: Operation not permitted",
        ),
        ([{"type": "input_text", "text": '{"exit_code":1,"output":"bwrap: no\\n"}'}], "bwrap: no"),
        ("Output:\nno bwrap: here\n", ""),
        ([3], ""),
        (None, ""),
    ],
)
def test_that_no_sandbox_can_be_made_is_seen(tmp_path: Path, output: object, why: str) -> None:
    returned = ("response_item", {"type": "function_call_output", "output": output})

    assert account([write(tmp_path, OWN, [returned])], thread=OWN).no_sandbox == why


def test_what_is_no_record_is_left_out(tmp_path: Path) -> None:
    odd = ["not json", "[]", '{"type": "turn_context"}', '{"payload": {}}', '{"type": 3, "payload": {"usage": 3}}']
    told = account([write(tmp_path, OWN, [*odd, ("token_usage_record", {}), CONTEXT])], thread=OWN)

    assert told.model == "gpt-5.5"
    assert len(told.answers) == 1


def test_the_first_rollout_is_the_sessions_own(tmp_path: Path) -> None:
    own, other = write(tmp_path, OWN, [CONTEXT]), write(tmp_path, OTHER, [CONTEXT])

    assert find(tmp_path) == [own, other]
    assert [thread_id(file) for file in (own, other, tmp_path)] == [OWN, OTHER, ""]


def test_a_link_is_no_rollout(tmp_path: Path) -> None:
    secret = write(tmp_path / "secrets", OWN, [CONTEXT])
    (tmp_path / "home" / "sessions").mkdir(parents=True)
    (tmp_path / "home" / "sessions" / secret.name).symlink_to(secret)
    (tmp_path / "home" / "sessions" / "folder").symlink_to(secret.parent)
    (tmp_path / "home" / "sessions" / "rollout-x.jsonl").write_text("{}")

    assert find(tmp_path / "home") == []
    assert find(tmp_path / "nowhere") == []


def test_a_conversation_is_moved_to_another_id_without_its_surroundings(tmp_path: Path) -> None:
    said = ("response_item", {"type": "message", "role": "user"})
    records = [
        ("session_meta", {"id": OWN, "cwd": "/w"}),
        ("response_item", {"type": "message", "role": "developer"}),
        ("world_state", {}),
        CONTEXT,
        said,
        usage("a"),
    ]
    path, moved = as_conversation(write(tmp_path, OWN, records).read_bytes(), thread=ROTA)

    assert path.parts[0] == "sessions"
    assert thread_id(Path(path)) == ROTA
    assert [tuple(json.loads(line).values()) for line in moved.splitlines()] == [
        ("session_meta", {"id": ROTA, "cwd": "/w"}),
        said,
        usage("a", ROTA),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}\n",
        b'{"type":"session_meta"}\n',
        b'{"type":"session_meta","payload":{"id":"x"}}\n',
        b'{"sessionId":"a"}',
    ],
)
def test_what_is_no_rollout_is_no_conversation(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"rollout|UUID"):
        as_conversation(data, thread=ROTA)
