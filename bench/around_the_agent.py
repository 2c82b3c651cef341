"""What Rota adds to an agent's own time: a session from its claim to its finished row, less the bare `claude -p`.

Both run the same program with the same arguments, environment, prompt, repository and script of the model. They take
turns, so that what else the machine does meets both.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.conf import settings
from django.utils import timezone

from bench.figures import spread, spreads
from bench.rows import small_repository
from runners import SessionSpec, load_runner
from runners.scripted_model import ScriptedModel
from schedules.firing import trigger
from schedules.folders import session_folder
from schedules.models import Schedule, Session
from schedules.tasks import dispatch
from tests.processes import until
from tests.runners.repositories import run_git

_NOTE = "Nothing is amiss here.\n"
_LOOKS = {"type": "tool_use", "name": "Read", "input": {"file_path": "{{ workspace }}/README.md"}}
_WRITES = {"type": "tool_use", "name": "Write", "input": {"file_path": "{{ workspace }}/note.md", "content": _NOTE}}
_SAYS = {"type": "text", "text": "I have looked. All is well."}
SCRIPTS: Mapping[str, list[list[dict[str, Any]]]] = {
    "reads": [[_LOOKS], [_SAYS]],
    "writes": [[_LOOKS], [_WRITES], [_SAYS]],
}


def measure(*, quick: bool) -> dict[str, object]:
    """For an agent that changes nothing and for one whose work is kept: milliseconds, and of what they consist."""
    turns = 2 if quick else 10
    return {name: _measure(_schedule(name), turns) for name in SCRIPTS}


def _measure(schedule: Schedule, turns: int) -> dict[str, object]:
    example = _by_rota(schedule)  # beforehand, for what is only done once
    _bare(example)
    rota, bare = [], []
    for _ in range(turns):
        bare.append(_in_the_end(lambda: _bare(example)))
        rota.append(_steps(_by_rota(schedule)))
    steps, alone = spreads(rota), spread(bare)
    return {
        "overhead_ms": round(steps["claimed_to_finished"]["p50"] - alone["p50"], 1),
        "overhead_of_fastest_ms": round(steps["claimed_to_finished"]["min"] - alone["min"], 1),
        "program_beyond_bare_ms": round(steps["program"]["p50"] - alone["p50"], 1),
        "bare_ms": alone,
        "steps_ms": steps,
    }


def _in_the_end(measure: Callable[[], float]) -> float:
    """The agent program has been seen to abort (SIGABRT) on a busy machine: that is not measured."""
    for _ in range(2):
        try:
            return measure()
        except subprocess.CalledProcessError as error:
            print(f"Again: {error}", file=sys.stderr)
    return measure()


def _schedule(name: str) -> Schedule:
    schedule = Schedule.objects.create(
        name=f"bench-{name}",
        runner="claude",
        prompt="Look at {{ repository }} and say what is amiss.",
        model="haiku",
        allowed_tools=["Read", "Write"],
        rehearsal_script=SCRIPTS[name],
    )
    schedule.repositories.add(small_repository())
    return schedule


@dataclass(frozen=True)
class _Done:
    """A session that is over, and when somebody who looks could see that."""

    session: Session
    seen_at: datetime


def _by_rota(schedule: Schedule) -> _Done:
    run = trigger(schedule, by="bench", now=timezone.now())[0]
    dispatch()
    sessions = Session.objects.filter(run=run, finished_at__isnull=False)
    until(sessions.exists, within=60, what="the session has finished")
    seen_at = timezone.now()
    session = sessions.select_related("run", "repository").get()
    if session.status != Session.Status.SUCCEEDED:
        raise RuntimeError(f"{session} {session.status}: {session.message}")
    return _Done(session, seen_at)


def _bare(example: _Done) -> float:
    """The same conversation with nothing around it, in milliseconds: from its start to its end, as a shell sees it."""
    session = example.session
    assert session.repository
    runner = load_runner(settings.ROTA_RUNNERS["claude"])
    with TemporaryDirectory(prefix="rota-bare-") as name:
        folder = Path(name)
        checkout = folder / "checkout"
        run_git(folder, "clone", "--quiet", session.repository.url, str(checkout))
        options = session.run.snapshot["options"]
        with ScriptedModel(options["rehearsal_script"], workspace=str(checkout), keep_requests=False) as model:
            spec = SessionSpec(
                agent_session_id=str(uuid.uuid4()),
                folder=folder,
                home=folder / "home",
                workspace=checkout,
                prompt=session.prompt,
                options=options,
                environment={"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "made-up"},
            )
            launch = runner.launch(spec)
            (spec.home / "tmp").mkdir(parents=True)
            for file, content in launch.files.items():
                (spec.home / file).write_bytes(content)
            with (spec.home / launch.stdin_file).open("rb") as prompt, (folder / "out").open("wb") as out:
                began = time.perf_counter()
                subprocess.run(
                    launch.argv,
                    cwd=checkout,
                    env=dict(launch.environment),
                    stdin=prompt,
                    stdout=out,
                    stderr=subprocess.DEVNULL,
                    check=True,
                    timeout=60,
                )
                return (time.perf_counter() - began) * 1000


def _steps(done: _Done) -> dict[str, float]:
    """Milliseconds of each step, by what the row, the events, the shim and the files of the session tell."""
    session, folder = done.session, session_folder(done.session.pk)
    assert session.claimed_at
    assert session.finished_at
    ending = json.loads((folder / "ending.json").read_bytes())
    prepared = session.events.filter(kind="note").earliest("seq").at
    instants = [
        ("workspace_and_prompt", prepared),
        ("shim_starts_program", _instant(ending["started_at_ms"] / 1000)),
        ("program", _instant(ending["ended_at_ms"] / 1000)),
        ("shim_ends", _written(folder / "ending.json")),
        ("worker_notices", _written(folder / "conversation.jsonl")),
        ("keeps_transcript", _written(folder / "transcript.log.gz")),
        ("keeps_changes_and_clears", session.finished_at),
    ]
    steps, before = {}, session.claimed_at
    for name, instant in instants:
        steps[name] = _ms(instant - before)
        before = instant
    steps["claimed_to_finished"] = _ms(session.finished_at - session.claimed_at)
    steps["finished_to_seen"] = _ms(done.seen_at - session.finished_at)
    return steps


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)


def _written(path: Path) -> datetime:
    """When a file was last written; the file system counts in steps of about 4 ms."""
    return _instant(path.stat().st_mtime)


def _ms(span: timedelta) -> float:
    return span / timedelta(milliseconds=1)
