"""Where a session works, and what it takes there: folder, HOME, checkout, prompt, limits; and what is kept of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings

from runners import (
    Cache,
    Launch,
    Limits,
    OptionsInvalid,
    Runner,
    Sandbox,
    SessionSpec,
    StartPoint,
    Tally,
    Workspace,
    WorkspaceError,
    archive,
    check_folder,
    check_launch,
    diff_text,
    find_start,
    is_begun,
    plain_errors,
    prepare,
    remove,
    start,
    wrap_in_sandbox,
)
from schedules import conversations
from schedules.belongings import Belongings
from schedules.conversations import Earlier
from schedules.folders import (
    CONVERSATION,
    EARLIER,
    HOME,
    PATCH,
    cache,
    keep_transcript,
    kept_checkouts,
    remove_raw,
    session_folder,
    workspace_folder,
)
from schedules.interrupted import attempt_before, branch_of, left_by_attempts_before
from schedules.models import Repository, Run, Schedule, Session
from schedules.patience import patiently
from schedules.prompts import build_prompt
from schedules.transcript import Transcript

logger = logging.getLogger(__name__)

_GO_ON = (
    "A session that worked on this was interrupted, for its worker or its machine went away. Look at what is done "
    "already, in this conversation and in the workspace, and go on where it stopped. It was asked for this:"
)
MOST_PATCH = 1_000_000  # bytes of it in the row; the file has all


class Workplace:
    """The places and belongings of one session on this machine."""

    def __init__(self, session: Session, runner: Runner) -> None:
        self._session = session
        self._runner = runner
        self._snapshot: dict[str, Any] = session.run.snapshot
        self.workspace: Workspace | None = None
        self.folder = session_folder(session.pk)
        self.notes: list[str] = []
        self.remark = ""  # what belongs into the session's message, however it ends
        self.is_ours = False  # the folder, and so what belongs to it
        self._archived = False
        self.seconds: dict[str, float] = {}  # that the preparation took, by its parts
        self.tally = Tally()
        self.program_version = ""
        self.program_before = ""  # the version in the session before, where that was another one
        self._earlier = Earlier()
        self.leaked: tuple[str, ...] = ()  # names of the secrets in what it changed
        self._belongings = Belongings(session, runner, self.folder)
        self.hidden, self.redactor = self._belongings.hidden, self._belongings.redactor
        self.transcript = Transcript(session, self.redactor, next_seq=1)
        self.spec = self._spec(None)

    @property
    def resumed_from(self) -> Session | None:
        return self._earlier.session

    def clean(self, text: str) -> str:
        """Without secrets."""
        return self.redactor.text(text) if text else text

    @property
    def limits(self) -> Limits:
        silence = self._snapshot["silence"]
        return Limits(
            timeout=timedelta(seconds=self._snapshot["timeout"]),
            silence=None if silence is None else timedelta(seconds=silence),
            turns=self._snapshot["options"].get("max_turns"),
            memory_bytes=settings.ROTA_SESSION_MEMORY_MB * 2**20 or None,
            tasks=settings.ROTA_SESSION_PROCESSES or None,
            nice=settings.ROTA_SESSION_NICE,
            cgroup=settings.ROTA_SESSION_CGROUP,
        )

    @plain_errors("Preparing the session")
    def prepare(self) -> None:
        """Make the folder, the checkout and the prompt. Raises RunnerError."""
        try:
            self.folder.mkdir(parents=True, mode=0o700)
        except FileExistsError as error:
            raise WorkspaceError(f"{self.folder} is there already. Move away what another database left.") from error
        self.is_ours = True
        self._belongings.seal()
        begun = time.monotonic()
        if self._session.repository:
            self._check_out(self._session.repository)
        else:
            self.spec.workspace.mkdir(parents=True, mode=0o700)
        self.spec.home.mkdir(mode=0o700)
        if before := attempt_before(self._session):
            self._earlier = patiently(lambda: conversations.of(before, runner=self.runs_with, into=self._earlier_file))
        elif self.resumes:
            self._earlier = patiently(
                lambda: conversations.find(self._session, runner=self.runs_with, into=self._earlier_file)
            )
        self.spec = self._spec(self._last_success())
        self.seconds["in all"] = time.monotonic() - begun
        if self._session.is_rehearsal:
            self.notes.append(
                "Rehearsed: a scripted model on this machine answers. No model is asked and nothing is spent."
            )

    def launch(self) -> Launch:
        """How its process is started, in a sandbox where the schedule wants one. Raises RunnerError."""
        launch = self._launch()
        self._look_at_program()
        self._tell_earlier()
        if not self._is_sandboxed:
            return launch
        self.notes.append(f"In a sandbox. Its network: {Schedule.Network(self._snapshot['network']).label}.")
        return self._sandboxed(launch)

    @property
    def checks(self) -> list[str]:
        """Commands that have to succeed where the session says that it did."""
        return list(self._snapshot.get("checks", ()))

    def start_check(self, number: int, command: str) -> Path:
        """Have a check run, in a sandbox as the session did, unless it was started already. Raises RunnerError."""
        folder = check_folder(self.folder, number)
        self.notes.append(f"Check {number}: {self.redactor.text(command)}")
        if not is_begun(folder):
            launch = check_launch(self.spec, command, without=self._runner.credentials)
            if self._is_sandboxed:
                launch = self._sandboxed(launch)
            start(folder, launch, cwd=self.spec.workspace, limits=replace(self.limits, turns=None))
        return folder

    @property
    def _is_sandboxed(self) -> bool:
        return bool(self._snapshot.get("sandbox", Schedule.Sandbox.NONE) != Schedule.Sandbox.NONE)

    def _sandboxed(self, launch: Launch) -> Launch:
        repository = self._session.repository
        sandbox = Sandbox(
            network=self._snapshot["network"],
            allowed_hosts=self._snapshot["allowed_hosts"],
            objects=cache().objects(repository.slug) if repository else None,
        )
        return wrap_in_sandbox(launch, spec=self.spec, sandbox=sandbox)

    def reopen(self, *, written: int) -> None:
        """Find everything again, for a worker that takes over. `written`: the last event in the database."""
        self.is_ours = True
        if self._session.repository:
            self.workspace = Workspace.open(self._checkout_folder)
        self.transcript = Transcript(self._session, self.redactor, next_seq=1, written=written)
        self.remark = self._session.run.stale
        self.program_version = self._session.program_version
        self._earlier = conversations.found(self._session, at=self._earlier_file)
        self.spec = self._spec(self._last_success())

    @plain_errors("Keeping what it did")
    def keep(self) -> dict[str, Any]:
        """Keep what the session did and said. Returns the columns of its row that tell of its changes.

        Raises RunnerError.
        """
        conversation = self._runner.conversation(self.spec)
        if conversation:
            self._keep_conversation(conversation.file)
        keep_transcript(self.folder, self.redactor)
        return self._keep_changes()

    def share_conversation(self, *, interrupted: bool, now: datetime) -> None:
        """Keep for every worker what was kept here of a conversation that is to be gone on with."""
        file = self.folder / CONVERSATION
        if not (self.resumes or interrupted) or not file.is_file():
            return
        if obstacle := conversations.keep(self._session, file, runner=self.runs_with, now=now):
            self.notes.append(obstacle)
            self._remark(obstacle)

    # --- the end

    def clear(self) -> None:
        """Remove HOME, the checkout and what was printed: what is worth keeping is kept, or was never made.

        The checkout first: should it stay, the sweep that keeps its work must know what it may not tell.
        """
        self._clear_checkout()
        remove_raw(self.folder)

    def _clear_checkout(self) -> None:
        repository = self._session.repository
        if repository and self._archived and repository.workspaces == Repository.Workspaces.WARM:
            obstacle = kept_checkouts().give(self._checkout_folder, slug=repository.slug)
            if obstacle:
                logger.info("The checkout of session %d is not kept for the next one: %s", self._session.pk, obstacle)
            return
        remove(self._checkout_folder)

    # --- coming

    @property
    def _checkout_folder(self) -> Path:
        return workspace_folder(self._session.pk)

    def _check_out(self, repository: Repository) -> None:
        run, here = self._session.run, cache()
        begun = time.monotonic()
        start = _start(here, repository, run.commit)
        if not run.commit:
            run.commit, run.stale = patiently(lambda: Run.objects.pin_commit(run.pk, start.commit, stale=start.stale))
        if run.commit != start.commit:  # another session was quicker, perhaps on another machine
            start = _start(here, repository, run.commit)
        if run.stale:
            self._remark(run.stale)
            self.notes.append(run.stale)
            logger.warning("Session %d: %s", self._session.pk, run.stale, extra={"action": "stale_workspace"})
        warm = repository.workspaces == Repository.Workspaces.WARM
        branch = branch_of(self._session)
        left = left_by_attempts_before(self._session, here, repository.slug, folder=self.folder)
        self.notes += [left.note] if left.note else []
        self._remark(left.remark)
        base = left.commit or run.commit
        fetched = time.monotonic()
        self.workspace = prepare(
            here,
            repository.slug,
            ref=base,
            branch=branch,
            into=self._checkout_folder,
            default_branch=start.branch,
            kept=kept_checkouts() if warm else None,
        )
        self.seconds |= {"fetch": fetched - begun, "checkout": time.monotonic() - fetched}
        self._session.base_commit = base
        kept = ", in a kept checkout that was reset" if self.workspace.renewed else ""
        self.notes.append(f"Workspace of {repository} at {base[:12]} on the branch {branch}{kept}.")

    def _last_success(self) -> Session | None:
        return patiently(lambda: Session.objects.last_success(self._session))

    def _spec(self, last_success: Session | None) -> SessionSpec:
        workspace = self.workspace.path if self.workspace else self._checkout_folder
        return SessionSpec(
            agent_session_id=str(self._session.agent_session_id),
            folder=self.folder,
            home=self.folder / HOME,
            workspace=workspace,
            prompt=self._prompt(last_success) if self._runner.is_agent else "",
            options=self._options,
            environment=self._belongings.environment(last_success),
            program=settings.ROTA_PROGRAMS.get(self._runner.name, ""),
            conversation=self._earlier.conversation,
            rehearse=self._session.is_rehearsal,
            path=settings.ROTA_SESSION_PATH,
            redactor=self.redactor,
        )

    def _prompt(self, last_success: Session | None) -> str:
        prompt = build_prompt(self._session, last_success)
        return f"{_GO_ON}\n\n{prompt}" if attempt_before(self._session) else prompt

    @property
    def runs_with(self) -> str:
        """The name of its runner, as in the settings."""
        return str(self._snapshot["runner"])

    @property
    def resumes(self) -> bool:
        return self._runner.is_agent and self._snapshot["persistence"] == Schedule.Persistence.RESUME

    @property
    def _earlier_file(self) -> Path:
        return self.folder / EARLIER

    def _launch(self) -> Launch:
        """With a new conversation, where the runner can't start with the earlier one."""
        try:
            return self._runner.launch(self.spec)
        except OptionsInvalid as error:
            if set(error.problems) != {"conversation"} or not self._earlier.session:
                raise
            self._earlier = conversations.refused(self._earlier, error.problems["conversation"])
            self.spec = replace(self.spec, conversation=None)
        return self._runner.launch(self.spec)

    def _tell_earlier(self) -> None:
        if self._earlier.session:
            self.notes.append(f"It goes on with the conversation of session {self._earlier.session.pk}.")
        elif self._earlier.remark:
            self.notes.append(self._earlier.remark)
            self._remark(self._earlier.remark)

    def _look_at_program(self) -> None:
        """Note which version it is, and where the session before had another one. Raises ProgramMissing."""
        program = self._runner.program(self.spec.program)
        if program is None:
            return
        self.program_version = program.version
        before = patiently(lambda: Session.objects.version_before(self._session, runner=self.runs_with))
        if before and before != program.version:
            self.program_before = before
            self.notes.append(f"The program of {self.runs_with} changed: {before} → {program.version}.")
        if program.remark:
            self.notes.append(program.remark)

    def _remark(self, sentence: str) -> None:
        self.remark = f"{self.remark} {sentence}".strip()

    @property
    def _options(self) -> dict[str, Any]:
        """Where plugins may be, each machine says for itself."""
        options: dict[str, Any] = self._snapshot["options"]
        return {**options, "plugin_folders": settings.ROTA_PLUGIN_FOLDERS} if options.get("plugins") else options

    # --- going

    def _keep_conversation(self, file: Path) -> None:
        with file.open("rb") as lines, (self.folder / CONVERSATION).open("wb") as kept:
            kept.writelines(self.redactor.line(line) for line in lines)

    def _keep_changes(self) -> dict[str, Any]:
        if self.workspace is None:
            return {}
        kept = archive(self.workspace, cache(), into=self.folder / PATCH, secrets=self.hidden)
        self.leaked = kept.leaked
        self._archived = not kept.leaked
        if kept.leaked:
            self._remark(_leaked(kept.leaked))
        self.notes += [*kept.notes, *(f"Not kept: {path}" for path in kept.left_out)]
        return {
            "head_commit": kept.head,
            "branch": kept.branch or "",
            "commits": kept.commits,
            "files_changed": kept.changed_files,
            "insertions": kept.insertions,
            "deletions": kept.deletions,
            "patch_bytes": kept.patch_bytes,
            "patch": diff_text(kept, max_bytes=MOST_PATCH),
        }


def _leaked(names: Collection[str]) -> str:
    told = ", ".join(names)
    return (
        f"What it changed holds {told}: so no branch is kept, and the patch says [redacted] where it stood. "
        f"Whoever could read the workspace may know it: set it anew."
    )


def _start(here: Cache, repository: Repository, commit: str) -> StartPoint:
    """Where a run starts in a repository, by its policy; `commit` is what the run has pinned, if anything."""
    return find_start(
        here,
        repository.slug,
        repository.url,
        branch=repository.default_branch,
        commit=commit,
        timeout=settings.ROTA_FETCH_TIMEOUT,
        or_last_known=repository.on_fetch_failure == Repository.FetchFailure.LAST_KNOWN,
    )
