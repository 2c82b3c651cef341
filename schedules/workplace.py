"""Where a session works, and what it takes there: folder, HOME, checkout, prompt, limits; and what is kept of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

from django.conf import settings

from runners import (
    CONVERSATION_BYTES,
    Cache,
    Launch,
    Limits,
    OptionsInvalid,
    Redactor,
    Runner,
    Sandbox,
    SessionSpec,
    StartPoint,
    Tally,
    Workspace,
    WorkspaceError,
    archive,
    bundle,
    bundle_branch,
    check_folder,
    check_launch,
    diff_text,
    find_start,
    is_begun,
    mcp_variables,
    open_conversation,
    plain_errors,
    prepare,
    remove,
    start,
    unbundle,
    wrap_in_sandbox,
)
from schedules import conversations, vault
from schedules.conversations import Earlier
from schedules.folders import (
    GIVEN,
    HOME,
    PATCH,
    given_to,
    keep_transcript,
    kept_checkouts,
    remove_raw,
    session_folder,
)
from schedules.models import Repository, Run, Schedule, Session
from schedules.patience import patiently
from schedules.prompts import build_prompt, session_environment
from schedules.retrying import goes_on
from schedules.transcript import Transcript

logger = logging.getLogger(__name__)

_PARKED, _PARKED_WORK, _BUNDLE = "parked.jsonl", "parked.bundle", "work.bundle"  # there for a moment
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
        self._workspace: Workspace | None = None
        self.folder = session_folder(session.pk)
        self.notes: list[str] = []
        self.remark = ""  # what belongs into the session's message, however it ends
        self.is_ours = False  # the folder, and so what belongs to it
        self._archived = False
        self._is_over = False
        self._parked_size = 0  # bytes that the conversation had when it was last parked
        self.seconds: dict[str, float] = {}  # that the preparation took, by its parts
        self.tally = Tally()
        self.program_version = ""
        self.program_before = ""  # the version in the session before, where that was another one
        self._earlier = Earlier()
        self.leaked: tuple[str, ...] = ()  # names of the secrets in what it changed
        self._given = self._secrets()
        self._hidden = vault.hidden(self._given)
        self.redactor = Redactor(self._hidden.values()) if self._given else _redactor(*self._hidden.values())
        self.transcript = Transcript(session, self.redactor, next_seq=1)
        self.spec = self._spec(None)

    @property
    def resumed_from(self) -> Session | None:
        return self._earlier.session

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
        (self.folder / GIVEN).touch(mode=0o600)
        (self.folder / GIVEN).write_bytes(self._sealed())
        begun = time.monotonic()
        if self._session.repository:
            self._check_out(self._session.repository)
        else:
            self.spec.workspace.mkdir(parents=True, mode=0o700)
        self.spec.home.mkdir(mode=0o700)
        if before := self._interrupted:
            self._earlier = patiently(lambda: conversations.of(before, runner=self._runs_with, into=self._earlier_file))
        elif self.resumes:
            self._earlier = patiently(
                lambda: conversations.find(self._session, runner=self._runs_with, into=self._earlier_file)
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
            objects=_cache().objects(repository.slug) if repository else None,
        )
        return wrap_in_sandbox(launch, spec=self.spec, sandbox=sandbox)

    def reopen(self, *, written: int) -> None:
        """Find everything again, for a worker that takes over. `written`: the last event in the database."""
        self.is_ours = True
        if self._session.repository:
            self._workspace = Workspace.open(self._checkout_folder)
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
        self._is_over = True
        conversation = self._runner.conversation(self.spec)
        if conversation:
            self._keep_conversation(conversation.file)
        keep_transcript(self.folder, self.redactor)
        return self._keep_changes()

    def share_conversation(self, *, interrupted: bool, now: datetime) -> None:
        """Keep for every worker what was kept here of a conversation that is to be gone on with."""
        file = self.folder / conversations.FILE
        if not (self.resumes or interrupted) or not file.is_file():
            return
        if obstacle := conversations.keep(self._session, file, runner=self._runs_with, now=now):
            self.notes.append(obstacle)
            self._remark(obstacle)

    # --- for other machines, should this one go away

    @property
    def parks(self) -> bool:
        """Whether another machine is to go on with it."""
        return self._runner.is_agent and bool(self._snapshot.get("continue_interrupted"))

    def park_conversation(self, *, now: datetime) -> None:
        """Keep what it has said so far, up to the last whole line. Raises OSError."""
        conversation = self._runner.conversation(self.spec)
        size = conversation.file.stat().st_size if conversation else 0
        if conversation is None or size == self._parked_size or not self._still_runs():
            return
        parked, redactor = self.folder / _PARKED, Redactor(self._hidden.values())
        try:
            with open_conversation(conversation) as said, parked.open("wb") as file:
                lines = BytesIO(said.read(CONVERSATION_BYTES))
                file.writelines(redactor.line(line) for line in lines if line.endswith(b"\n"))
            if self._still_runs():
                conversations.keep(self._session, parked, runner=self._runs_with, now=now)
                self._parked_size = size
        finally:
            parked.unlink(missing_ok=True)

    def park_work(self, *, now: datetime) -> None:
        """Keep what it has changed so far. Raises RunnerError, OSError."""
        if self._workspace is None or not self._still_runs():
            return
        file, base = self.folder / _PARKED_WORK, self._session.run.commit
        try:
            made = bundle(self._workspace, _cache(), base=base, into=file, secrets=self._hidden)
            if made and self._still_runs():
                conversations.keep_work(self._session, file, now=now)
        finally:
            file.unlink(missing_ok=True)

    def share_work(self, *, branch: str, now: datetime) -> None:
        """Keep what it left on a branch of this machine's cache. Raises RunnerError, OSError."""
        repository, file = self._session.repository, self.folder / _BUNDLE
        if not (repository and branch):
            return
        try:
            if bundle_branch(_cache(), repository.slug, branch, base=self._session.run.commit, into=file):
                conversations.keep_work(self._session, file, now=now)
        finally:
            file.unlink(missing_ok=True)

    def forget_parked(self, *, shared: bool) -> None:
        """It ended by itself. `shared`: its conversation is gone on with by others."""
        conversations.forget(self._session, conversation=not shared)

    def _still_runs(self) -> bool:
        """Here. After its end what was parked before it is kept no more: somebody may have forgotten it already."""
        if self._is_over:
            return False
        running = Session.objects.filter(status=Session.Status.RUNNING, worker=self._session.worker_id)
        return running.filter(pk=self._session.pk).exists()

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
        return Path(settings.ROTA_WORKSPACES_DIR) / str(self._session.pk)

    def _check_out(self, repository: Repository) -> None:
        run, cache = self._session.run, _cache()
        begun = time.monotonic()
        start = _start(cache, repository, run.commit)
        if not run.commit:
            run.commit, run.stale = patiently(lambda: Run.objects.pin_commit(run.pk, start.commit, stale=start.stale))
        if run.commit != start.commit:  # another session was quicker, perhaps on another machine
            start = _start(cache, repository, run.commit)
        if run.stale:
            self._remark(run.stale)
            self.notes.append(run.stale)
            logger.warning("Session %d: %s", self._session.pk, run.stale, extra={"action": "stale_workspace"})
        warm = repository.workspaces == Repository.Workspaces.WARM
        branch = self._branch_of(self._session)
        base = self._left_by_interrupted(cache, repository) or run.commit
        fetched = time.monotonic()
        self._workspace = prepare(
            cache,
            repository.slug,
            ref=base,
            branch=branch,
            into=self._checkout_folder,
            default_branch=start.branch,
            kept=kept_checkouts() if warm else None,
        )
        self.seconds |= {"fetch": fetched - begun, "checkout": time.monotonic() - fetched}
        self._session.base_commit = base
        kept = ", in a kept checkout that was reset" if self._workspace.renewed else ""
        self.notes.append(f"Workspace of {repository} at {base[:12]} on the branch {branch}{kept}.")

    @property
    def _interrupted(self) -> Session | None:
        """The attempt before, where this one goes on with it."""
        return self._gone_on_with_by(self._session)

    def _gone_on_with_by(self, session: Session) -> Session | None:
        before = patiently(lambda: session.retry_of)
        return before if before and goes_on(self._snapshot, before.reason) else None

    def _branch_of(self, session: Session) -> str:
        attempt = f".{session.attempt}" if session.attempt > 1 else ""
        return f"rota/{self._snapshot['schedule']}/{session.run_id}-{session.number}{attempt}"

    def _left_by_interrupted(self, cache: Cache, repository: Repository) -> str:
        """The commit of what the attempts before had done: the newest that this machine has, or was kept; else ""."""
        before = last = self._interrupted
        while before:
            branch = self._branch_of(before)
            if commit := self._work_of(before, cache, repository, branch):
                self.notes.append(f"It goes on from the branch {branch} of session {before.pk}.")
                return commit
            before = self._gone_on_with_by(before)
        if last:
            branch = self._branch_of(last)
            self._remark(f"It begins without what session {last.pk} had done: {branch} is not kept on this machine.")
        return ""

    def _work_of(self, before: Session, cache: Cache, repository: Repository, branch: str) -> str:
        """The commit of its branch, which is on this machine or was kept for it; else ""."""
        with suppress(WorkspaceError):
            return cache.resolve(repository.slug, branch)
        file = self.folder / _BUNDLE
        try:
            if not patiently(lambda: conversations.work_of(before, into=file)):
                return ""
            unbundle(cache, repository.slug, file=file, branch=branch)
            return cache.resolve(repository.slug, branch)
        except WorkspaceError as error:
            self._remark(f"What was kept of the work of session {before.pk} can't be taken over: {error}")
            return ""
        finally:
            file.unlink(missing_ok=True)

    def _last_success(self) -> Session | None:
        return patiently(lambda: Session.objects.last_success(self._session))

    def _spec(self, last_success: Session | None) -> SessionSpec:
        workspace = self._workspace.path if self._workspace else self._checkout_folder
        return SessionSpec(
            agent_session_id=str(self._session.agent_session_id),
            folder=self.folder,
            home=self.folder / HOME,
            workspace=workspace,
            prompt=self._prompt(last_success) if self._runner.is_agent else "",
            options=self._options,
            environment=self._environment(last_success),
            program=settings.ROTA_PROGRAMS.get(self._runner.name, ""),
            conversation=self._earlier.conversation,
            rehearse=self._session.is_rehearsal,
            path=settings.ROTA_SESSION_PATH,
            redactor=self.redactor,
        )

    def _prompt(self, last_success: Session | None) -> str:
        prompt = build_prompt(self._session, last_success)
        return f"{_GO_ON}\n\n{prompt}" if self._interrupted else prompt

    @property
    def _runs_with(self) -> str:
        """The name of its runner, as in the settings."""
        return str(self._snapshot["runner"])

    @property
    def resumes(self) -> bool:
        return self._runner.is_agent and self._snapshot["persistence"] == Schedule.Persistence.RESUME

    @property
    def _earlier_file(self) -> Path:
        return self.folder / conversations.EARLIER

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
        before = patiently(lambda: Session.objects.version_before(self._session, runner=self._runs_with))
        if before and before != program.version:
            self.program_before = before
            self.notes.append(f"The program of {self._runs_with} changed: {before} → {program.version}.")
        if program.remark:
            self.notes.append(program.remark)

    def _remark(self, sentence: str) -> None:
        self.remark = f"{self.remark} {sentence}".strip()

    @property
    def _options(self) -> dict[str, Any]:
        """Where plugins may be, each machine says for itself."""
        options: dict[str, Any] = self._snapshot["options"]
        return {**options, "plugin_folders": settings.ROTA_PLUGIN_FOLDERS} if options.get("plugins") else options

    def _environment(self, last_success: Session | None) -> dict[str, str]:
        facts = session_environment(self._session, last_success)
        lacking: set[str] = set()  # by a rehearsal, whose servers want them: they begin with nothing
        if self._session.is_rehearsal:
            lacking = mcp_variables(self._snapshot["options"].get("mcp_servers")) & set(self._snapshot["secrets"])
        return {**dict.fromkeys(lacking, ""), **facts, **self._snapshot["environment"], **self._given}

    def _sealed(self) -> bytes:
        return vault.seal(self._given) if self._given else _sealed_nothing(*settings.ROTA_SECRETS_KEYS)

    def _secrets(self) -> dict[str, str]:
        """What the schedule names, and the runner's own credentials unless nobody is to be asked.

        Who takes a session over goes by what it was given, whatever has been set meanwhile.
        """
        try:
            if given := given_to(self.folder):
                return given
            named = patiently(lambda: vault.values(self._names_of_secrets()))
        except vault.VaultError as error:
            raise OptionsInvalid({"secrets": str(error)}) from error
        if self._session.is_rehearsal:
            return named
        known = settings.ROTA_CREDENTIALS
        return {name: known[name] for name in self._runner.credentials if known.get(name)} | named

    def _names_of_secrets(self) -> list[str]:
        """All that the schedule names; in a rehearsal those that are set, for its report tells the others."""
        names: list[str] = self._snapshot["secrets"]
        unset = vault.missing(names) if self._session.is_rehearsal else []
        return [name for name in names if name not in unset]

    # --- going

    def _keep_conversation(self, file: Path) -> None:
        with file.open("rb") as lines, (self.folder / conversations.FILE).open("wb") as kept:
            kept.writelines(self.redactor.line(line) for line in lines)

    def _keep_changes(self) -> dict[str, Any]:
        if self._workspace is None:
            return {}
        kept = archive(self._workspace, _cache(), into=self.folder / PATCH, secrets=self._hidden)
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


@lru_cache(maxsize=1)
def _redactor(*own: str) -> Redactor:
    """That of a session that was given nothing: of Rota's own secrets. To find all their spellings takes its time."""
    return Redactor(own)


@lru_cache(maxsize=1)
def _sealed_nothing(*keys: str) -> bytes:
    """No value at all, under these keys: nobody need make a new seal of that for each session."""
    return vault.seal({})


def _leaked(names: Collection[str]) -> str:
    told = ", ".join(names)
    return (
        f"What it changed holds {told}: so no branch is kept, and the patch says [redacted] where it stood. "
        f"Whoever could read the workspace may know it: set it anew."
    )


def _start(cache: Cache, repository: Repository, commit: str) -> StartPoint:
    """Where a run starts in a repository, by its policy; `commit` is what the run has pinned, if anything."""
    return find_start(
        cache,
        repository.slug,
        repository.url,
        branch=repository.default_branch,
        commit=commit,
        timeout=settings.ROTA_FETCH_TIMEOUT,
        or_last_known=repository.on_fetch_failure == Repository.FetchFailure.LAST_KNOWN,
    )


def _cache() -> Cache:
    return Cache(Path(settings.ROTA_CACHE_DIR))
