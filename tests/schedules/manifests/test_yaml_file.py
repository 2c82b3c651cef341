"""A YAML file becomes values, or a list of all that is wrong with it, by line and key."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from schedules.manifests import ManifestError, read
from schedules.manifests.yaml_file import COMMAND_KEYS, MOST_BYTES, SCHEDULE_KEYS
from schedules.models import Command, Schedule

WHOLE = """\
commands:
  issue/look:
    name: Look
    target: issues
    prompt: |
      Look at {{ title }}.
schedules:
  look:
    runner: claude
    command: issue/look
    model: haiku
    allowed_tools: [Read, Bash(git log *)]
    repositories: [web-shop]
    cron: "0 9 * * *"
    starts_at: 2027-01-31T09:00+01:00
    timeout: 1h30m
    silence: null
    jitter: 5m
    max_turns: 30
    max_budget_usd: 0.50
    tolerate_denied: true
    environment: {DAYS: 7, ON: on, VERSION: 1.10}
    variables: {tone: brief}
    plugins: [tools/reviewer]
    mcp_servers: {forge: {command: forge-mcp, args: [-v], env: {TOKEN: "${TOKEN}"}}}
    json_schema: {type: object, properties: {n: {type: integer, minimum: 1}}, additionalProperties: false}
  count:
    runner: script
    argv: [head, -n, 5]
    arguments: {limit: 50, deep: {ratio: 0.5, names: [a, null, true, 0x10]}, day: 2027-01-01}
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "team.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problems(folder: Path, text: str | bytes) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        read(written(folder, text))
    return str(caught.value).splitlines()


def test_values_have_the_types_of_the_models_fields(tmp_path: Path) -> None:
    manifest = read(written(tmp_path, WHOLE))

    assert manifest.source == "team.yaml"
    assert [entry.name for entry in manifest.commands] == ["issue/look"]
    assert manifest.commands[0].values == {"name": "Look", "target": "issues", "prompt": "Look at {{ title }}.\n"}
    look, count = manifest.schedules
    assert look.values == {
        "runner": "claude",
        "command": "issue/look",
        "model": "haiku",
        "allowed_tools": ["Read", "Bash(git log *)"],
        "repositories": ["web-shop"],
        "cron": "0 9 * * *",
        "starts_at": datetime(2027, 1, 31, 8, tzinfo=UTC),
        "timeout": timedelta(minutes=90),
        "silence": None,
        "jitter": timedelta(minutes=5),
        "max_turns": 30,
        "max_budget_usd": Decimal("0.50"),
        "tolerate_denied": True,
        "environment": {"DAYS": "7", "ON": "on", "VERSION": "1.10"},
        "variables": {"tone": "brief"},
        "plugins": ["tools/reviewer"],
        "mcp_servers": {"forge": {"command": "forge-mcp", "args": ["-v"], "env": {"TOKEN": "${TOKEN}"}}},
        "json_schema": {
            "type": "object",
            "properties": {"n": {"type": "integer", "minimum": 1}},
            "additionalProperties": False,
        },
    }
    assert count.values["argv"] == ["head", "-n", "5"]
    assert count.values["arguments"] == {
        "limit": 50,
        "deep": {"ratio": 0.5, "names": ["a", None, True, 16]},
        "day": "2027-01-01",
    }


def test_an_entry_knows_its_lines(tmp_path: Path) -> None:
    look = read(written(tmp_path, WHOLE)).schedules[0]

    assert look.line == 8
    assert look.lines["cron"] == 14


def test_an_empty_section_is_no_error(tmp_path: Path) -> None:
    manifest = read(written(tmp_path, "schedules: {}\n"))

    assert (manifest.commands, manifest.schedules) == ((), ())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "team.yaml: holds nothing to read. Begin with commands: or schedules:"),
        ("- a\n", "team.yaml: holds nothing to read. Begin with commands: or schedules:"),
        ("# only a word\n", "team.yaml: holds nothing to read. Begin with commands: or schedules:"),
        (b"\xff\xfe", "team.yaml: is not UTF-8 (byte 1). Save it as UTF-8."),
        (b"#" * (MOST_BYTES + 1), "team.yaml: has 1048577 bytes, more than the 1048576 that are read. Split it."),
        ("a: [\n", "team.yaml, line 2: is not YAML: expected the node content, but found '<stream end>'."),
        ("schedules: {}\n---\nschedules: {}\n", "team.yaml, line 2: is not YAML: but found another document."),
        ("schedules:\n\tx: 1\n", "team.yaml, line 2: is not YAML: found character '\\t' that cannot start any token."),
        ("[" * 3000 + "]" * 3000, "team.yaml, line 1: is nested more than 50 levels deep."),
        (
            "schedules:\n  a: &one {cron: '@daily'}\n  b: *one\n",
            "team.yaml, line 3: *one is an alias. Write the value out.",
        ),
        ("schedule: {}\n", "team.yaml, line 1, schedule: This is not a key of a manifest. Did you mean schedules?"),
        ("jobs: {}\n", "team.yaml, line 1, jobs: This is not a key of a manifest. There are: commands, schedules."),
        (
            "schedules: [a]\n",
            "team.yaml, line 1, schedules: Write a mapping here: a name, a colon, and its keys below.",
        ),
        ("schedules:\n  a: 1\n", "team.yaml, line 2, schedules.a: Write a mapping here: its keys, each with a value."),
        (
            "schedules:\n  a: {runner: script}\n  b: {runner: script}\n  a: {runner: function}\n",
            "team.yaml, line 4, schedules.a: This is here twice, first on line 2. Keep one.",
        ),
    ],
)
def test_a_file_of_the_wrong_shape_is_refused(tmp_path: Path, text: str | bytes, problem: str) -> None:
    assert problems(tmp_path, text) == [problem]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("modle: haiku", "modle: This is not a key of a schedule. Did you mean model?"),
        ("status: paused", "status: This is not a key of a schedule."),
        ("next_run_at: 2027-01-01", "next_run_at: This is not a key of a schedule."),
        ("timeout: 30", "timeout: “30” is not a duration. Say its unit. Write it like 90s, 30m, 1h30m or 2d."),
        ("timeout: null", 'timeout: Write a text here, "" for an empty one.'),
        ("model: [haiku]", 'model: Write a text here, "" for an empty one.'),
        ("model:", 'model: Write a text here, "" for an empty one.'),
        ("model: !!binary aGk=", "model: The tag binary is not read here. Leave it out."),
        ("model: !env MODEL", "model: The tag !env is not read here. Leave it out."),
        ("max_turns: many", "max_turns: Write a whole number here."),
        ("max_turns: 1.5", "max_turns: Write a whole number here."),
        ("max_turns: true", "max_turns: Write a whole number here."),
        ("max_budget_usd: much", "max_budget_usd: Write an amount here, such as 0.50."),
        ("max_budget_usd: inf", "max_budget_usd: Write an amount here, such as 0.50."),
        ("tolerate_denied: yes", "tolerate_denied: Write true or false here."),
        ("allowed_tools: Read", "allowed_tools: Write a list here, such as [one, two], [] for an empty one."),
        ("allowed_tools: [[Read]]", 'allowed_tools: Write a text here, "" for an empty one.'),
        ("environment: [A]", "environment: Write a mapping here, such as NAME: value, {} for an empty one."),
        ("environment: {A: 1, A: 2}", "environment: “A” is here twice. Keep one."),
        ("environment: {A: null}", 'environment: Write a text here, "" for an empty one.'),
        ("arguments: [1]", "arguments: Write a mapping here, such as NAME: value, {} for an empty one."),
        ("arguments: {a: .inf}", "arguments: .inf is not a number that JSON knows."),
        ("arguments: {a: !!set {b}}", "arguments: The tag set is not read here. Leave it out."),
        ("rehearsal_script: hello", "rehearsal_script: Write a list here, [] for an empty one."),
        ("starts_at: tomorrow", "starts_at: “tomorrow” is not an instant. Write date, time and offset, such as"),
        ("starts_at: 2027-01-31T09:00", "starts_at: “2027-01-31T09:00” is not an instant."),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_at_its_line(tmp_path: Path, line: str, problem: str) -> None:
    (found,) = problems(tmp_path, f"schedules:\n  look:\n    runner: claude\n    {line}\n")

    assert found.startswith(f"team.yaml, line 4, schedules.look.{problem}")


def test_all_problems_of_a_file_are_told_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    found = problems(
        tmp_path, "schedules:\n  a: {timeout: 5}\n  b: {modle: x}\ncommands:\n  c: {prompt: []}\njobs: 1\n"
    )

    assert [line.split(",")[1].strip() for line in found] == ["line 2", "line 3", "line 5", "line 6"]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.yaml: can't be read: No such file or directory\."):
        read(tmp_path / "none.yaml")


def test_everything_that_a_person_may_edit_can_be_written() -> None:
    """Also what a later version adds: its type needs a reader, or the import fails."""
    assert {"name", "description", "prompt", "target"} == set(COMMAND_KEYS)
    kept_out = {"name", "status", "status_reason", "status_by", "status_at"}
    editable = {field.name for field in [*Schedule._meta.fields, *Schedule._meta.many_to_many] if field.editable}
    assert set(SCHEDULE_KEYS) == editable - kept_out - {"id"}
    assert set(COMMAND_KEYS) == {field.name for field in Command._meta.fields if field.editable} - {"id"}
