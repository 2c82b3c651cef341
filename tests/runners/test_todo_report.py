"""The report on what was left for later, from real repositories."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runners.base import RepositoryInvalid
from runners.functions import FunctionContext, FunctionResult, todo_report
from tests.runners.repositories import Source

NOW = datetime(2026, 11, 20, 6, 15, tzinfo=UTC)


@pytest.fixture
def source(repository: Callable[[], Source]) -> Source:
    return repository()


def commit(source: Source, files: dict[str, str | bytes], *, days_ago: int, author: str = "Ada") -> None:
    at = (NOW - timedelta(days=days_ago)).isoformat()
    source.commit(files)
    dates = [f"--date={at}", f"--author={author} <a@example.org>"]
    source.git("commit", "--quiet", "--amend", "--no-edit", *dates)


def report(source: Source, **arguments: object) -> FunctionResult:
    context = FunctionContext(workspace=source.path, scheduled_for=NOW)
    return todo_report.report(context, **arguments)  # type: ignore[arg-type]


def rows(result: FunctionResult) -> list[str]:
    table = result.text.partition("## The oldest first")[2]
    return [line for line in table.splitlines() if line.startswith("|")][2:]


def test_the_oldest_comes_first_with_its_age_place_author_and_text(source: Source) -> None:
    commit(source, {"b.py": "x = 1\n# TODO: mend this\n"}, days_ago=400)
    commit(source, {"docs/a.md": "FIXME soon\n"}, days_ago=20, author="Grace *H*")
    commit(source, {"c.py": "pass  # TODO(ada) later\n"}, days_ago=3)
    result = report(source)
    assert rows(result) == [
        "| 400 | 2025-10-16 | `b.py:2` | Ada | `# TODO: mend this` |",
        r"| 20 | 2026-10-31 | `docs/a.md:1` | Grace \*H\* | `FIXME soon` |",
        "| 3 | 2026-11-17 | `c.py:1` | Ada | `pass # TODO(ada) later` |",
    ]
    assert result.summary == "3 lines have TODO or FIXME, in 3 files; the oldest for 400 days."
    for bucket in ("| up to 30 days | 2 |", "| up to two years | 1 |", "| over two years | 0 |"):
        assert bucket in result.text


def test_a_line_keeps_its_age_when_only_its_indentation_changes(source: Source) -> None:
    commit(source, {"a.py": "# TODO: old\n"}, days_ago=900)
    commit(source, {"a.py": "if x:\n    # TODO: old\n"}, days_ago=1)
    assert rows(report(source))[0].startswith("| 900 |")


def test_only_words_of_their_own_in_text_files_count(source: Source) -> None:
    files: dict[str, str | bytes] = {
        "a.py": "TODOS = 1\ntodo = 2\nMY_TODO = 3\nAUTODOC\n",
        "b.bin": b"\x00\x01 TODO \x00",
        "c.py": "TODO\n",
    }
    commit(source, files, days_ago=1)
    assert len(rows(report(source))) == 1


def test_nothing_left_is_said_to_be_so(source: Source) -> None:
    commit(source, {"a.py": "x = 1\n"}, days_ago=1)
    assert report(source).text == "# Left for later\n\nNothing: no line has TODO or FIXME."


def test_markers_can_be_chosen(source: Source) -> None:
    commit(source, {"a.py": "HACK 1\nTODO 2\n"}, days_ago=1)
    assert [row.split("|")[5].strip() for row in rows(report(source, markers=["HACK", "XXX"]))] == ["`HACK 1`"]


@pytest.mark.parametrize(
    "arguments",
    [{"markers": "TODO"}, {"markers": []}, {"markers": ["--open-files"]}, {"markers": ["a|b"]}, {"limit": 0}],
)
def test_arguments_that_make_no_sense_are_refused(source: Source, arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="word"):
        report(source, **arguments)


def test_only_the_oldest_are_shown_and_the_others_counted(source: Source) -> None:
    commit(source, {"a.py": "# TODO\n" * 30}, days_ago=5)
    result = report(source, limit=10)
    assert len(rows(result)) == 10
    assert "The other 20 are younger." in result.text


def test_a_file_with_too_many_is_not_dated_to_the_end(source: Source) -> None:
    commit(source, {"a.py": "# TODO\n" * 250}, days_ago=5)
    result = report(source)
    assert "50 more were not dated: it would take too long." in result.text
    assert result.summary.startswith("200 lines have")


def test_in_no_time_at_all_nothing_is_dated(source: Source) -> None:
    commit(source, {"a.py": "# TODO\n" * 3}, days_ago=5)
    assert report(source, seconds=0).summary == "3 lines have TODO or FIXME; there was no time to ask for their age."


def test_odd_names_and_texts_do_no_harm(source: Source) -> None:
    files: dict[str, str | bytes] = {
        "-rf": "TODO one\n",
        "new\nline.py": "TODO two\n",
        ":(glob)*": "TODO three\n",
        "a|b.py": "TODO `four` | <b>five</b>\x1b[31m\n",
        os.fsdecode(b"caf\xe9.py"): "TODO six\n",
        "HEAD:x": "TODO seven\n",
    }
    commit(source, files, days_ago=2, author="Eve | `x`")
    told = "\n".join(rows(report(source)))
    assert len(told.splitlines()) == 6
    assert "`new line.py:1`" in told
    assert r"| `a\|b.py:1` | Eve \| \`x\` | ``TODO `four` \| <b>five</b> [31m`` |" in told
    assert "`caf?.py:1`" in told


def test_what_the_repository_configures_is_not_run(source: Source, tmp_path: Path) -> None:
    commit(source, {"a.py": "TODO\n", ".gitattributes": "*.py diff=evil filter=evil\n"}, days_ago=1)
    for name in ("core.fsmonitor", "diff.evil.textconv", "filter.evil.clean", "filter.evil.smudge", "core.pager"):
        source.git("config", name, f"touch {tmp_path / 'ran'}; cat")
    assert len(rows(report(source))) == 1
    assert not (tmp_path / "ran").exists()


def test_a_workspace_without_a_commit_is_told_so(source: Source, tmp_path: Path) -> None:
    with pytest.raises(RepositoryInvalid, match="no commit yet"):
        report(source)
    with pytest.raises(RepositoryInvalid, match="its schedule has none"):
        todo_report.report(FunctionContext(workspace=tmp_path, scheduled_for=NOW))
