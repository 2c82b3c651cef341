"""The report on documents that lag behind the code they name, from real repositories."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from runners.functions import FunctionContext, FunctionResult, docs_freshness
from tests.runners.repositories import IDENTITY, Source, run_git

NOW = datetime(2026, 11, 20, 6, 45, tzinfo=UTC)


@pytest.fixture
def source(repository: Callable[[], Source]) -> Source:
    return repository()


def commit(source: Source, files: dict[str, str | bytes], *, days_ago: int) -> None:
    for name, content in files.items():
        path = source.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    at = (NOW - timedelta(days=days_ago)).isoformat()
    dates = {"GIT_AUTHOR_DATE": at, "GIT_COMMITTER_DATE": at}
    source.git("add", "--all")
    run_git(source.path, "commit", "--quiet", "-m", "Change", environment={**IDENTITY, **dates})


def report(source: Source, **arguments: object) -> FunctionResult:
    context = FunctionContext(workspace=source.path, scheduled_for=NOW)
    return docs_freshness.report(context, **arguments)  # type: ignore[arg-type]


def rows(result: FunctionResult) -> list[str]:
    return [line for line in result.text.splitlines() if line.startswith("|")][2:]


def test_the_furthest_behind_comes_first_with_what_changed(source: Source) -> None:
    commit(source, {"README.md": "See `src/a.py`.", "docs/b.md": "In [b](../src/b.py#L3)."}, days_ago=100)
    commit(source, {"src/a.py": "1", "src/b.py": "1", "src/c.py": "1"}, days_ago=100)
    commit(source, {"docs/c.md": "`src/c.py` and `src/a.py:12`"}, days_ago=90)
    commit(source, {"src/b.py": "2"}, days_ago=40)
    commit(source, {"src/a.py": "2"}, days_ago=70)
    result = report(source)
    assert rows(result) == [
        "| `docs/b.md` | 2026-08-12 | `src/b.py` (2026-10-11) | 60 |",
        "| `README.md` | 2026-08-12 | `src/a.py` (2026-09-11) | 30 |",
        "| `docs/c.md` | 2026-08-22 | `src/a.py` (2026-09-11) | 20 |",
    ]
    assert result.summary == (
        "3 of 3 documents that name files of the code were not touched since it changed; docs/b.md is 60 days behind."
    )


def test_a_document_that_was_touched_with_or_after_its_code_is_fresh(source: Source) -> None:
    commit(source, {"a.py": "1", "README.md": "`a.py`"}, days_ago=50)
    commit(source, {"a.py": "2", "README.md": "`a.py` anew"}, days_ago=20)
    result = report(source)
    assert rows(result) == []
    assert result.summary == "No document is behind the code it names. Looked at 1 document."


def test_no_document_that_names_code_is_said_to_be_so(source: Source) -> None:
    commit(source, {"a.py": "1", "README.md": "Words, and ```\n`a.py`\n```"}, days_ago=50)
    commit(source, {"README.md": "Words.\n\n```sh\ncat `a.py`\n```\nhttps://example.org/a.py\n"}, days_ago=40)
    assert report(source).summary == "No document names a file of the code. Looked at 1 document."


@pytest.mark.parametrize(
    "named",
    [
        "`src/deep/a.py`",
        "`./src/deep/a.py`",
        "`/src/deep/a.py`",
        "`src/deep/a.py:12`",
        "`src/deep/a.py:12-20`",
        "`a.py`",
        "``python src/deep/a.py --all``",
        "[here](src/deep/a.py)",
        "[here](<src/deep/a.py>)",
        '[here](src/deep/a.py#L10 "Title")',
        "[here](src/deep/a%2epy)",
        "[ref]: src/deep/a.py",
    ],
)
def test_a_file_is_known_however_it_is_named(source: Source, named: str) -> None:
    commit(source, {"README.md": f"See\n{named}\n"}, days_ago=9)
    commit(source, {"src/deep/a.py": "1"}, days_ago=5)
    assert len(rows(report(source))) == 1


@pytest.mark.parametrize(
    "named", ["src/a.py", "`src`", "`src/`", "`a`", "`twice.py`", "`https://x/src/a.py`", "``", "`.`"]
)
def test_what_is_only_like_a_name_is_not_taken_for_one(source: Source, named: str) -> None:
    commit(source, {"README.md": f"See {named}."}, days_ago=9)
    commit(source, {"src/a.py": "1", "src/twice.py": "1", "lib/twice.py": "1", "a": "x"[:0]}, days_ago=5)
    source.git("rm", "--quiet", "a")
    commit(source, {}, days_ago=4)
    assert rows(report(source)) == []


def test_what_tells_of_the_past_is_left_out_and_patterns_can_be_chosen(source: Source) -> None:
    commit(source, {"CHANGELOG.md": "`a.py`", "notes.txt": "`a.py`", "README.md": "`a.py`"}, days_ago=9)
    commit(source, {"a.py": "1"}, days_ago=5)
    assert [row.split("`")[1] for row in rows(report(source))] == ["README.md"]
    assert [row.split("`")[1] for row in rows(report(source, documents=["*.txt"], ignore=[]))] == ["notes.txt"]


def test_only_so_many_are_shown(source: Source) -> None:
    commit(source, {f"docs/{number}.md": "`a.py`, `b.py`, `c.py`, `d.py`, `e.py`" for number in range(5)}, days_ago=9)
    commit(source, {f"{name}.py": "1" for name in "abcde"}, days_ago=5)
    result = report(source, limit=2)
    assert len(rows(result)) == 2
    assert "and 2 more | 4 |" in rows(result)[0]
    assert "The other 3 are less far behind." in result.text


def test_odd_names_and_contents_do_no_harm(source: Source) -> None:
    files: dict[str, str | bytes] = {
        "-x.md": "`:(glob)*.py`",
        "new\nline.md": "[x](--all)",
        os.fsdecode(b"caf\xe9.md"): b"\xff `caf\xe9.py` \x00",
        "big.md": b"`a.py` " * 200_000,
    }
    commit(source, files, days_ago=9)
    (source.path / "link.md").symlink_to("/etc/passwd")
    commit(source, {":(glob)*.py": "1", "--all": "1", os.fsdecode(b"caf\xe9.py"): "1", "a.py": "1"}, days_ago=5)
    assert sorted(row.split("`")[1] for row in rows(report(source))) == ["-x.md", "caf?.md", "new line.md"]


@pytest.mark.parametrize("arguments", [{"documents": "*.md"}, {"ignore": "*.md"}, {"limit": 0}])
def test_arguments_that_make_no_sense_are_refused(source: Source, arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="lists of patterns"):
        report(source, **arguments)
