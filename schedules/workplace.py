"""Where a session works, and what it takes there: folder, HOME, checkout, prompt, limits; and what is kept of it."""

from __future__ import annotations

import gzip
import logging
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings

from runners import (
    Cache,
    Conversation,
    Limits,
    OptionsInvalid,
    Redactor,
    Runner,
    SessionSpec,
    Tally,
    Workspace,
    archive,
    default_branch,
    diff_text,
    prepare,
    remove,
)
from schedules.models import Repository, Run, Schedule, Session
from schedules.prompts import build_prompt, session_environment
from schedules.transcript import Transcript

logger = logging.getLogger(__name__)

OUTPUT = "output.log"
TRANSCRIPT = "transcript.log.gz"
CONVERSATION = "conversation.jsonl"
PATCH = "changes.patch"
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
        self.tally = Tally()
        self.resumed_from: Session | None = None
        self.redactor = Redactor(self._secrets().values())
        self.transcript = Transcript(session, self.redactor, next_seq=1)
        self.spec = self._spec(None)

    @property
    def limits(self) -> Limits:
        silence = self._snapshot["silence"]
        return Limits(
            timeout=timedelta(seconds=self._snapshot["timeout"]),
            silence=None if silence is None else timedelta(seconds=silence),
        )

    def prepare(self) -> None:
        """Make the folder, the checkout and the prompt. Raises RunnerError."""
        self.folder.mkdir(parents=True, mode=0o700)
        if self._session.repository:
            self._check_out(self._session.repository)
        else:
            self.spec.workspace.mkdir(parents=True, mode=0o700)
        self.spec.home.mkdir(mode=0o700)
        self.spec = self._spec(self._last_success())
        if self._session.is_rehearsal:
            self.notes.append(
                "Rehearsed: a scripted model on this machine answers. No model is asked and nothing is spent."
            )

    def reopen(self, *, written: int) -> None:
        """Find everything again, for a worker that takes over. `written`: the last event in the database."""
        if self._session.repository:
            self._workspace = Workspace.open(self._checkout_folder)
        self.transcript = Transcript(self._session, self.redactor, next_seq=1, written=written)
        self.spec = self._spec(self._last_success())

    def keep(self) -> dict[str, Any]:
        """Keep what the session did and said. Returns the columns of its row that tell of its changes."""
        conversation = self._runner.conversation(self.spec)
        if conversation:
            shutil.copyfile(conversation.file, self.folder / CONVERSATION)
        self._keep_transcript()
        return self._keep_changes()

    def clear(self) -> None:
        """Remove HOME and the checkout: what is worth keeping is kept, or was never made."""
        remove(self.spec.home)
        remove(self._checkout_folder)

    # --- coming

    @property
    def _checkout_folder(self) -> Path:
        return Path(settings.ROTA_WORKSPACES_DIR) / str(self._session.pk)

    def _check_out(self, repository: Repository) -> None:
        run, cache = self._session.run, _cache()
        slug, url = repository.slug, repository.url
        start = repository.default_branch or default_branch(url)
        if not run.commit:
            cache.refresh(slug, url, timeout=settings.ROTA_FETCH_TIMEOUT)
            run.commit = Run.objects.pin_commit(run.pk, cache.resolve(slug, start))
        if not cache.holds(slug, run.commit):  # another machine pinned it
            cache.refresh(slug, url, timeout=settings.ROTA_FETCH_TIMEOUT)
        branch = f"rota/{self._snapshot['schedule']}/{run.pk}-{self._session.number}"
        self._workspace = prepare(
            cache,
            repository.slug,
            ref=run.commit,
            branch=branch,
            into=self._checkout_folder,
            default_branch=start,
        )
        self._session.base_commit = run.commit
        self.notes.append(f"Workspace of {repository} at {run.commit[:12]} on the branch {branch}.")

    def _last_success(self) -> Session | None:
        return Session.objects.last_success(self._session)

    def _spec(self, last_success: Session | None) -> SessionSpec:
        workspace = self._workspace.path if self._workspace else self._checkout_folder
        return SessionSpec(
            agent_session_id=str(self._session.agent_session_id),
            folder=self.folder,
            home=self.folder / "home",
            workspace=workspace,
            prompt=build_prompt(self._session, last_success) if self._runner.is_agent else "",
            options=self._snapshot["options"],
            environment=self._environment(last_success),
            program=settings.ROTA_PROGRAMS.get(self._runner.name, ""),
            conversation=self._conversation(last_success),
            rehearse=self._session.is_rehearsal,
            path=settings.ROTA_SESSION_PATH,
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
        return {**facts, **self._snapshot["environment"], **self._secrets()}

    def _secrets(self) -> dict[str, str]:
        """What the schedule names, and the runner's own credentials unless nobody is to be asked."""
        missing = [name for name in self._snapshot["secrets"] if name not in settings.ROTA_SECRETS]
        if missing:
            raise OptionsInvalid({"secrets": f"{', '.join(missing)}: not set where this worker runs."})
        named = {name: settings.ROTA_SECRETS[name] for name in self._snapshot["secrets"]}
        if self._session.is_rehearsal:
            return named
        known = settings.ROTA_CREDENTIALS
        return named | {name: known[name] for name in self._runner.credentials if known.get(name)}

    # --- going

    def _keep_transcript(self) -> None:
        """The whole of what it printed, redacted and compressed, instead of what the shim wrote."""
        output = self.folder / OUTPUT
        if not output.exists():
            return
        with (
            output.open("rb") as lines,
            gzip.open(self.folder / TRANSCRIPT, "wb", compresslevel=5) as kept,
        ):
            kept.writelines(self.redactor.data(line) for line in lines)
        output.unlink()

    def _keep_changes(self) -> dict[str, Any]:
        if self._workspace is None:
            return {}
        kept = archive(self._workspace, _cache(), into=self.folder / PATCH)
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


def _cache() -> Cache:
    return Cache(Path(settings.ROTA_CACHE_DIR))
