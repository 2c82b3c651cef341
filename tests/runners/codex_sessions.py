"""Sessions of the real Codex against a scripted model, under the real shim, for tests and for recording streams.

Codex is looked for on PATH, where `.ci/run` puts it (var/codex), and among npm's global packages. Started by hand this
records the streams anew, which a new version of the program calls for:

    python -m tests.runners.codex_sessions
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from runners import codex_rollout, rehearsals, supervision
from runners.base import Launch, Line, ProgramMissing, SessionSpec
from runners.codex import CodexRunner
from runners.scripted_model import ScriptedModel
from tests.runners import claude_sessions
from tests.runners.claude_sessions import Session, make_ending, say, use
from tests.runners.held import Held, limits_of

STREAMS = Path(__file__).parent / "streams"
PREFIX = "codex-"
ROOT = Path(__file__).parent.parent.parent
OPTIONS: Mapping[str, Any] = {"model": "gpt-5.5"}
NEWER = "gpt-6-luna"  # is offered one tool, in which it calls the others from JavaScript
NO_CODEX = "There is no Codex here: npm install --prefix var/codex @openai/codex"

# What of a rollout a recording keeps: the rest is long, and nothing reads it.
_KEPT = frozenset({"session_meta", "turn_context", "token_usage_record", "task_started", "task_complete"})
_KEPT_FIELDS = frozenset(
    {"id", "type", "turn_id", "thread_id", "response_id", "usage", "model", "last_agent_message", "output"}
)
# Starts a program where no namespaces can be made, and so no sandbox.
WITHOUT_NAMESPACES = ("unshare", "-Ur", "sh", "-c", 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"', "-")


@cache
def program() -> str:
    """The path of Codex, or an empty text."""
    for found in _candidates():
        try:
            return CodexRunner().program(found).path
        except ProgramMissing:
            continue
    return ""


def _candidates() -> list[str]:
    npm = shutil.which("npm")
    said = subprocess.run([npm, "root", "-g"], capture_output=True, text=True, check=False) if npm else None
    everywhere = [Path(said.stdout.strip(), "@openai/codex/bin/codex.js")] if said and said.stdout.strip() else []
    here = ROOT / "var" / "codex" / "node_modules" / ".bin" / "codex"
    return ["", *(str(file) for file in (here, *everywhere) if file.is_file())]


def make_spec(folder: Path, **changes: Any) -> SessionSpec:
    """A spec whose workspace is a folder with a README. Options are added to OPTIONS."""
    changes["options"] = {**OPTIONS, **changes.get("options", {})}
    return claude_sessions.make_spec(folder, **{"program": program(), **changes})


def run(spec: SessionSpec, *, around: Sequence[str] = (), **limits: float | None) -> Session:
    """See a session through. Codex asks again a few times only, to be quick. `around`: a program that starts it."""
    launch = CodexRunner().launch(spec)
    at = launch.argv.index("resume") if "resume" in launch.argv else -1
    fewer = [f"--config=model_providers.rota.{name}_max_retries=1" for name in ("request", "stream")]
    launch = replace(launch, argv=[*around, *launch.argv[:at], *fewer, *launch.argv[at:]])
    shim = supervision.start(spec.folder, launch, cwd=spec.workspace, limits=limits_of(**limits))
    held = Held(folder=spec.folder, shim=shim)
    ending = held.end(within=30)
    return Session(runner=CodexRunner(), spec=spec, launch=launch, lines=held.read(), ending=ending)


def converse(
    folder: Path,
    script: object,
    *,
    around: Sequence[str] = (),
    limits: Mapping[str, float] | None = None,
    **changes: Any,
) -> Session:
    """A session against a scripted model in this process: what the model was asked is in `requests`.

    Whatever else Codex might talk to, it would ask a proxy that is not there.
    """
    workspace = folder / "workspace"
    with ScriptedModel(rehearsals.script(script), workspace=str(workspace)) as model:
        here = {"OPENAI_BASE_URL": f"{model.url}/v1", "OPENAI_API_KEY": "made-up"}
        elsewhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
        changes["environment"] = {**here, **elsewhere, **changes.get("environment", {})}
        session = run(make_spec(folder, **changes), around=around, **(limits or {}))
        session.requests = model.requests
    return session


def recorded(name: str, folder: Path, **changes: Any) -> Session:
    """What came of a session as it was recorded. `folder` gets what it kept.

    `changes` are to its options or, where it has such a field, to its ending.
    """
    head, *rest = (STREAMS / f"{PREFIX}{name}.jsonl").read_text().splitlines()
    ended = json.loads(head)
    logged, rollouts = ended.pop("stderr"), ended.pop("rollouts")
    ended |= {key: changes.pop(key) for key in (*ended, "truncated", "message") if key in changes}
    options = {**RECORDED[name][1].get("options", {}), **changes}
    spec = make_spec(folder, options=options)
    for file, records in rollouts.items():
        path = spec.home / ".codex" / "sessions" / "2026" / "11" / "20" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    lines = [Line(at_ms=1, stream="out", data=text.encode()) for text in rest]
    lines += [Line(at_ms=1, stream="err", data=text.encode()) for text in logged]
    launch = Launch(argv=(), environment={})
    return Session(runner=CodexRunner(), spec=spec, launch=launch, lines=lines, ending=make_ending(0, **ended))


def _error(status: int, kind: str, message: str, **more: str | int) -> dict[str, Any]:
    return {"error": {"status": status, "type": kind, "message": message, **more}, "times": 9}


_LS = ("Bash", {"command": "ls"})
_SPAWN = ("spawn_agent", {"task_name": "a", "message": "Hi."})
_WRITE = ("Write", {"file_path": "{{ workspace }}/notes.md", "content": "Written.\n"})
_NO_MODEL = "The model `gpt-5.5` does not exist or you do not have access to it."

# name → what to play and with what
RECORDED: Mapping[str, tuple[object, dict[str, Any]]] = {
    "success": ([say("All is well. Nothing to do.")], {}),
    "writes-a-file": ("writes-a-file", {}),
    "newer-model": ("writes-a-file", {"options": {"model": NEWER}}),
    "thinks": ([{"content": [{"type": "thinking", "thinking": "Hm."}, *say("Well.")["content"]]}], {}),
    "many-tools-at-once": ([use(_LS, ("Bash", {"command": "echo one; exit 3"}), _LS), say("Seen thrice.")], {}),
    "denied": ([use(_WRITE), say("I am done all the same.")], {"options": {"permission_mode": "plan"}}),
    "denied-to-newer-model": ([use(_WRITE), say("Done.")], {"options": {"permission_mode": "plan", "model": NEWER}}),
    "forbidden": ([use(("Bash", {"command": "rm -rf /usr/lib/x"})), say("Done.")], {}),
    "no-sandbox": ([use(_LS), use(_WRITE), say("Done.")], {"around": WITHOUT_NAMESPACES}),
    "no-sandbox-for-newer-model": (
        [use(_LS), use(_WRITE), say("Done.")],
        {"around": WITHOUT_NAMESPACES, "options": {"model": NEWER}},
    ),
    "subagent": (
        [
            {"content": [*say("I ask for help.")["content"], *use(_SPAWN)]},
            {"content": use(("Bash", {"command": "sleep 0.5"})), "times": 2},  # one of them is the subagent's
            say("We are done.", times=2),
        ],
        {"options": {"model": NEWER}},
    ),
    "says-nothing": ("says-nothing", {}),
    "ends-without-words": ([{"content": [*say("I look.")["content"], *use(_LS)]}, {"content": []}], {}),
    "another-model": ("another-model-answers", {}),
    "dated-model": ([say("Here.", model="gpt-5.5-2026-04-23")], {}),
    "refused": ([say("No.", stop_reason="refusal", times=9)], {}),
    "wrong-key": ("wrong-key", {}),
    "no-key": ([], {"environment": {"OPENAI_API_KEY": ""}}),
    "rate-limited": ("rate-limited", {}),
    "usage-limit": ([_error(429, "usage_limit_reached", "The usage limit has been reached")], {}),
    "usage-limit-until": (
        [_error(429, "usage_limit_reached", "Reached", plan_type="plus", resets_at=1798794000)],
        {},
    ),
    "no-quota": ([_error(429, "insufficient_quota", "You exceeded your current quota")], {}),
    "overloaded": ("overloaded", {}),
    "no-such-model": ([_error(404, "invalid_request_error", _NO_MODEL, code="model_not_found")], {}),
    "too-long": ([_error(400, "invalid_request_error", "Too long", code="context_length_exceeded")], {}),
    "server-error": ([_error(500, "server_error", "Oops")], {}),
    "connection-refused": ([], {"environment": {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}}),
    "cut-off": ([say("This is cut.", drop=True, times=9)], {}),
    "hangs": ("hangs", {"limits": {"timeout": 1.5}}),
}


def record(name: str) -> None:
    """Write streams/codex-NAME.jsonl: how it ended and what it kept, then what was printed, without a trace of here."""
    script, changes = RECORDED[name]
    with tempfile.TemporaryDirectory(prefix="rota-") as folder:
        session = converse(Path(folder), script, **changes)
        kept = {file.name: _kept(file) for file in codex_rollout.find(session.spec.home / ".codex")}
    ending = session.ending
    ended = {"exit_code": ending.exit_code, "signal": ending.signal, "ended_by": ending.ended_by}
    logged = [line.data.decode() for line in session.lines if line.stream == "err"]
    printed = [line.data.decode() for line in session.lines if line.stream == "out"]
    text = "\n".join([json.dumps({**ended, "stderr": logged, "rollouts": kept}), *printed])
    text = re.sub(re.escape(str(session.spec.workspace)), "/workspace", text)
    text = re.sub(re.escape(folder), "/session", text)
    text = re.sub(r"127\.0\.0\.1:\d{4,}", "127.0.0.1:8000", text)
    (STREAMS / f"{PREFIX}{name}.jsonl").write_text(f"{text}\n")


def _kept(rollout: Path) -> list[dict[str, Any]]:
    found = []
    for line in rollout.read_text().splitlines():
        record = json.loads(line)
        payload = {key: value for key, value in record["payload"].items() if key in _KEPT_FIELDS}
        if _KEPT & {record["type"], payload.get("type")} or "bwrap: " in str(payload.get("output")):
            found.append({"type": record["type"], "payload": payload})
    return found


if __name__ == "__main__":
    for name in RECORDED:
        record(name)
        print(name)
