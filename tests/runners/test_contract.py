"""What every runner must do, whatever it drives: the same cases for each, with real programs, through the door."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings

from runners import Archive, Cache, OptionsInvalid, SessionResult, archive, prepare
from tests.runners.contract import FLOOD_CAP, SUBJECTS, Subject, carry_out, some_conversation
from tests.runners.repositories import Source

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Subject:
    found = SUBJECTS[request.param]
    if obstacle := found.obstacle():
        pytest.skip(obstacle)
    return found


def verdict(result: SessionResult) -> tuple[str, str]:
    return result.outcome, result.reason


def test_success_has_its_result(subject: Subject, tmp_path: Path) -> None:
    with subject.ask("succeed", tmp_path) as asked:
        session = carry_out(subject.runner, asked.spec)

    assert verdict(session.result) == ("succeeded", "ok"), session.result.message
    assert (session.result.result, session.result.summary) == ("I am Ada.", "I am Ada.")
    assert (session.ending.exit_code, session.ending.ended_by) == (0, "")
    assert not session.ending.truncated
    assert not (session.spec.folder / "launch.json").exists(), "it may hold secrets"
    assert [path.name for path in session.spec.workspace.iterdir()] == ["README.md"]


def test_an_edit_is_in_the_checkout_and_in_the_archive(
    subject: Subject, tmp_path: Path, repository: Callable[[], Source]
) -> None:
    source = repository()
    source.commit({"README.md": "A small project.\n"})
    cache = Cache(tmp_path / "cache")
    cache.refresh("acme", source.url)
    workspace = prepare(cache, "acme", ref="main", branch="rota/contract/1-1", into=tmp_path / "checkout")
    with subject.ask("edit", tmp_path / "1", workspace=workspace.path) as asked:
        session = carry_out(subject.runner, asked.spec)
    kept: Archive = archive(workspace, cache, into=tmp_path / "changes.patch")

    assert verdict(session.result) == ("succeeded", "ok"), session.result.message
    assert (workspace.path / "notes.md").read_text() == "Written.\n"
    assert (kept.changed_files, kept.insertions, kept.left_out) == (1, 1, ())
    assert "+Written." in (tmp_path / "changes.patch").read_text()


def test_a_failure_has_its_own_reason_and_a_sentence(subject: Subject, tmp_path: Path) -> None:
    with subject.ask("fail", tmp_path) as asked:
        session = carry_out(subject.runner, asked.spec)

    assert verdict(session.result) == ("failed", subject.failure), session.result.message
    assert session.result.message
    assert session.ending.ended_by == ""


def test_too_long_a_session_is_timed_out(subject: Subject, tmp_path: Path) -> None:
    with subject.ask("hang", tmp_path) as asked:
        session = carry_out(subject.runner, asked.spec, timeout=2)

    assert verdict(session.result) == ("timed_out", "timed_out")
    assert "The limit is 2 s." in session.result.message


def test_too_silent_a_session_is_stalled(subject: Subject, tmp_path: Path) -> None:
    with subject.ask("hang", tmp_path) as asked:
        session = carry_out(subject.runner, asked.spec, silence=2)

    assert verdict(session.result) == ("timed_out", "stalled")
    assert "The limit is 2 s." in session.result.message


def test_a_cancelled_session_ends(subject: Subject, tmp_path: Path) -> None:
    with subject.ask("hang", tmp_path) as asked:
        session = carry_out(subject.runner, asked.spec, cancel=True)

    assert verdict(session.result) == ("cancelled", "cancelled")
    assert session.result.message


def test_a_flood_is_cut_with_a_marker_and_the_session_judged_all_the_same(subject: Subject, tmp_path: Path) -> None:
    with subject.ask("flood", tmp_path) as asked:
        session = carry_out(subject.runner, asked.spec, output_bytes=FLOOD_CAP)

    assert verdict(session.result) == ("succeeded", "ok"), session.result.message
    assert session.result.result == "Done."
    assert "It printed more than is kept." in session.result.message
    assert session.ending.truncated
    assert session.ending.output_bytes > 5 * FLOOD_CAP
    marks = [line.data for line in session.lines if line.stream == "shim"]
    assert marks == [b"truncated: The output passed %d bytes. The rest is not kept." % FLOOD_CAP]
    results = sum(len(line.data) for line in session.lines[-1:])
    assert sum(len(line.data) for line in session.lines) <= FLOOD_CAP + results + len(marks[0])


def test_a_conversation_is_gone_on_with_or_refused(subject: Subject, tmp_path: Path) -> None:
    """Where a runner keeps none, nobody is left in the belief that it went on with one."""
    runner = subject.runner
    with subject.ask("succeed", tmp_path / "1") as asked:
        assert carry_out(runner, asked.spec).result.reason == "ok"
        kept = runner.conversation(asked.spec)

    assert (kept is not None) == subject.resumes
    if kept is None:
        given = some_conversation(tmp_path)
        with (
            subject.ask("succeed", tmp_path / "2", conversation=given) as asked,
            pytest.raises(OptionsInvalid) as refused,
        ):
            runner.launch(asked.spec)
        assert list(refused.value.problems) == ["conversation"]
        return
    with subject.ask("succeed", tmp_path / "2", conversation=kept, prompt="And your last name?") as asked:
        session = carry_out(runner, asked.spec)

    assert verdict(session.result) == ("succeeded", "ok"), session.result.message
    words = ["Who are you?", "I am Ada.", "And your last name?"]
    assert sorted(words, key=asked.heard().index) == words


def test_every_runner_that_ships_is_here() -> None:
    assert set(settings.ROTA_RUNNERS.values()) <= {subject.path for subject in SUBJECTS.values()}
