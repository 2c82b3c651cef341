"""Where a session works, and what it takes there: folder, HOME, checkout, prompt, limits; and what is kept of it."""

from __future__ import annotations

import gzip
import logging
import time
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings

from runners import (
    Cache,
    Conversation,
    Kept,
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
    diff_text,
    find_start,
    prepare,
    remove,
    wrap_in_sandbox,
)
from schedules import vault
from schedules.models import Repository, Run, Schedule, Session
from schedules.prompts import build_prompt, session_environment
from schedules.transcript import Transcript

logger = logging.getLogger(__name__)

OUTPUT = "output.log"
GIVEN = "given"  # the values of its secrets, sealed, for as long as what it printed and left may hold them
TRANSCRIPT = "transcript.log.gz"
CONVERSATION = "conversation.jsonl"
PATCH = "changes.patch"
HOME = "home"
MOST_PATCH = 1_000_000  # bytes of it in the row; the file has all


def session_folder(session_id: int) -> Path:
    """The session's own folder on its machine."""
    return Path(settings.ROTA_SESSIONS_DIR) / str(session_id)


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
        self.seconds: dict[str, float] = {}  # that the preparation took, by its parts
        self.tally = Tally()
        self.resumed_from: Session | None = None
        self.leaked: tuple[str, ...] = ()  # names of the secrets in what it changed
        self._given = self._secrets()
        self._hidden = vault.hidden(self._given)
        self.redactor = Redactor(self._hidden.values())
        self.transcript = Transcript(session, self.redactor, next_seq=1)
        self.spec = self._spec(None)

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

    def prepare(self) -> None:
        """Make the folder, the checkout and the prompt. Raises RunnerError."""
        try:
            self.folder.mkdir(parents=True, mode=0o700)
        except FileExistsError as error:
            raise WorkspaceError(f"{self.folder} is there already. Move away what another database left.") from error
        self.is_ours = True
        (self.folder / GIVEN).touch(mode=0o600)
        (self.folder / GIVEN).write_bytes(vault.seal(self._given))
        begun = time.monotonic()
        if self._session.repository:
            self._check_out(self._session.repository)
        else:
            self.spec.workspace.mkdir(parents=True, mode=0o700)
        self.spec.home.mkdir(mode=0o700)
        self.spec = self._spec(self._last_success())
        self.seconds["in all"] = time.monotonic() - begun
        if self._session.is_rehearsal:
            self.notes.append(
                "Rehearsed: a scripted model on this machine answers. No model is asked and nothing is spent."
            )

    def launch(self) -> Launch:
        """How its process is started, in a sandbox where the schedule wants one. Raises RunnerError."""
        launch = self._runner.launch(self.spec)
        if self._snapshot.get("sandbox", Schedule.Sandbox.NONE) == Schedule.Sandbox.NONE:
            return launch
        repository = self._session.repository
        sandbox = Sandbox(
            network=self._snapshot["network"],
            allowed_hosts=self._snapshot["allowed_hosts"],
            objects=_cache().objects(repository.slug) if repository else None,
        )
        wrapped = wrap_in_sandbox(launch, spec=self.spec, sandbox=sandbox)
        self.notes.append(f"In a sandbox. Its network: {Schedule.Network(sandbox.network).label}.")
        return wrapped

    def reopen(self, *, written: int) -> None:
        """Find everything again, for a worker that takes over. `written`: the last event in the database."""
        self.is_ours = True
        if self._session.repository:
            self._workspace = Workspace.open(self._checkout_folder)
        self.transcript = Transcript(self._session, self.redactor, next_seq=1, written=written)
        self.spec = self._spec(self._last_success())

    def keep(self) -> dict[str, Any]:
        """Keep what the session did and said. Returns the columns of its row that tell of its changes."""
        conversation = self._runner.conversation(self.spec)
        if conversation:
            self._keep_conversation(conversation.file)
        keep_transcript(self.folder, self.redactor)
        return self._keep_changes()

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
            run.commit = Run.objects.pin_commit(run.pk, start.commit)
        if run.commit != start.commit:  # another session was quicker, perhaps on another machine
            start = _start(cache, repository, run.commit)
        if start.stale:
            self.remark = start.stale
            self.notes.append(start.stale)
            logger.warning("Session %d: %s", self._session.pk, start.stale, extra={"action": "stale_workspace"})
        warm = repository.workspaces == Repository.Workspaces.WARM
        branch = f"rota/{self._snapshot['schedule']}/{run.pk}-{self._session.number}"
        fetched = time.monotonic()
        self._workspace = prepare(
            cache,
            repository.slug,
            ref=run.commit,
            branch=branch,
            into=self._checkout_folder,
            default_branch=start.branch,
            kept=kept_checkouts() if warm else None,
        )
        self.seconds |= {"fetch": fetched - begun, "checkout": time.monotonic() - fetched}
        self._session.base_commit = run.commit
        kept = ", in a kept checkout that was reset" if self._workspace.renewed else ""
        self.notes.append(f"Workspace of {repository} at {run.commit[:12]} on the branch {branch}{kept}.")

    def _last_success(self) -> Session | None:
        return Session.objects.last_success(self._session)

    def _spec(self, last_success: Session | None) -> SessionSpec:
        workspace = self._workspace.path if self._workspace else self._checkout_folder
        return SessionSpec(
            agent_session_id=str(self._session.agent_session_id),
            folder=self.folder,
            home=self.folder / HOME,
            workspace=workspace,
            prompt=build_prompt(self._session, last_success) if self._runner.is_agent else "",
            options=self._snapshot["options"],
            environment=self._environment(last_success),
            program=settings.ROTA_PROGRAMS.get(self._runner.name, ""),
            conversation=self._conversation(last_success),
            rehearse=self._session.is_rehearsal,
            path=settings.ROTA_SESSION_PATH,
            redactor=self.redactor,
        )

    def _conversation(self, last_success: Session | None) -> Conversation | None:
        """The one to go on with: where the schedule wants that, and its file is on this machine."""
        if last_success is None or self._snapshot["persistence"] != Schedule.Persistence.RESUME:
            return None
        file = session_folder(last_success.pk) / CONVERSATION
        if not file.is_file():
            return None
        self.resumed_from = last_success
        return Conversation(agent_session_id=str(last_success.agent_session_id), file=file)

    def _environment(self, last_success: Session | None) -> dict[str, str]:
        facts = session_environment(self._session, last_success)
        return {**facts, **self._snapshot["environment"], **self._given}

    def _secrets(self) -> dict[str, str]:
        """What the schedule names, and the runner's own credentials unless nobody is to be asked.

        Who takes a session over goes by what it was given, whatever has been set meanwhile.
        """
        try:
            if given := given_to(self.folder):
                return given
            named = vault.values(self._snapshot["secrets"])
        except vault.VaultError as error:
            raise OptionsInvalid({"secrets": str(error)}) from error
        if self._session.is_rehearsal:
            return named
        known = settings.ROTA_CREDENTIALS
        return {name: known[name] for name in self._runner.credentials if known.get(name)} | named

    # --- going

    def _keep_conversation(self, file: Path) -> None:
        with file.open("rb") as lines, (self.folder / CONVERSATION).open("wb") as kept:
            kept.writelines(self.redactor.line(line) for line in lines)

    def _keep_changes(self) -> dict[str, Any]:
        if self._workspace is None:
            return {}
        kept = archive(self._workspace, _cache(), into=self.folder / PATCH, secrets=self._hidden)
        self.leaked = kept.leaked
        self._archived = not kept.leaked
        if kept.leaked:
            self.remark = f"{self.remark} {_leaked(kept.leaked)}".strip()
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


def given_to(folder: Path) -> dict[str, str]:
    """The values that the session of a folder was given; none where it is over. Raises vault.Unreadable."""
    try:
        return vault.unseal((folder / GIVEN).read_bytes())
    except FileNotFoundError:
        return {}


def keep_transcript(folder: Path, redactor: Redactor) -> None:
    """The whole of what it printed, redacted and compressed. What the shim wrote stays for who may take over."""
    if not (folder / OUTPUT).exists():
        return
    with gzip.open(folder / TRANSCRIPT, "wb", compresslevel=5) as kept:
        kept.writelines(redactor.log(folder / OUTPUT))


def holds_raw(folder: Path) -> bool:
    """Whether there is something to `remove_raw`."""
    return any((folder / name).exists() for name in (HOME, OUTPUT, GIVEN))


def remove_raw(folder: Path) -> None:
    """Remove what may hold secrets: HOME, what was printed, what was given. Raises RunnerError, OSError."""
    remove(folder / HOME)
    for name in (OUTPUT, GIVEN):
        (folder / name).unlink(missing_ok=True)


def _leaked(names: Collection[str]) -> str:
    told = ", ".join(names)
    return (
        f"What it changed holds {told}: so no branch is kept, and the patch says [redacted] where it stood. "
        f"Whoever could read the workspace may know it: set it anew."
    )


def kept_checkouts() -> Kept:
    """Those that wait on this machine for the next session of their repository."""
    return Kept(Path(settings.ROTA_WORKSPACES_DIR) / "kept")


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
