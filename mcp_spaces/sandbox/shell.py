"""Run a command in a sandbox: to its end, within its time and output, or as a background job."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from functools import partial
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from mcp_spaces.core.active import ActiveCalls
from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import ShellFacts
from mcp_spaces.core.operation import Operation
from mcp_spaces.core.place import InRuntime
from mcp_spaces.core.policy import Deny, decide
from mcp_spaces.core.policy.long_commands import judged
from mcp_spaces.errors import Denied, SpacesError
from mcp_spaces.sandbox.foreground import Ended, StoppedBy, run_to_end
from mcp_spaces.sandbox.images import Shell
from mcp_spaces.sandbox.output import Capture
from mcp_spaces.sandbox.path_grammar import FolderPath, encodable
from mcp_spaces.sandbox.plain import plain_words
from mcp_spaces.sandbox.port import Command, Sandbox
from mcp_spaces.sandbox.references import check_command, check_scope, resolve, wanted, well_formed
from mcp_spaces.sandbox.service import SandboxService

COMMAND_BYTES = 64 << 10
STDIN_BYTES = 1 << 20
VARIABLES = 64
VARIABLE_BYTES = 32 << 10
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def text_without_nul(text: str) -> str:
    """Raises ValueError."""
    if "\0" in encodable(text):
        raise ValueError("holds a NUL character")
    return text


def environment(variables: Mapping[str, str]) -> Mapping[str, str]:
    """Raises ValueError, naming at most the variable."""
    for name, value in variables.items():
        if not _VARIABLE.match(name) or len(name) > 255:
            raise ValueError("a variable's name is made of letters, digits and _")
        if len(text_without_nul(well_formed(value, where=name)).encode()) > VARIABLE_BYTES:
            raise ValueError(f"{name} has more than {VARIABLE_BYTES} bytes")
    return variables


def _command(text: str) -> str:
    if len(text_without_nul(text).encode()) > COMMAND_BYTES:
        raise ValueError(f"a command has at most {COMMAND_BYTES} bytes: put a longer one into a file")
    return text


def _stdin(text: str) -> str:
    if len(encodable(text).encode()) > STDIN_BYTES:
        raise ValueError(f"stdin has at most {STDIN_BYTES} bytes: write a file instead")
    return well_formed(text, where="stdin")


CommandText = Annotated[str, Field(min_length=1), AfterValidator(_command)]
Environment = Annotated[Mapping[str, str], Field(max_length=VARIABLES), AfterValidator(environment)]


class ShellInput(InRuntime):
    command: CommandText
    cwd: FolderPath = "."
    env: Environment = Field(default={})
    """{{vault:PATH#FIELD}} in a value, or in stdin, is a secret where raw reads are allowed."""
    stdin: Annotated[str, AfterValidator(_stdin)] | None = None
    timeout_s: float | None = Field(default=None, gt=0, le=86_400)
    """Default and most: the policy's. A background job has none."""
    background: bool = False
    """Answer at once with a job id."""

    @model_validator(mode="after")
    def _background_without_timeout(self) -> ShellInput:
        if self.background and self.timeout_s is not None:
            raise ValueError("a background job runs until it ends or job_stop: leave timeout_s out")
        return self


class ShellOutput(Answer):
    """What a command did. A non-zero exit code is no error of the call."""

    exit_code: int | None = None
    """124: it ran out of time. 128 + n: signal n ended it. Absent for a job."""
    stdout: str | None = None
    stderr: str | None = None
    """Absent when empty."""
    duration_ms: float | None = None
    timed_out: bool | None = None
    timeout_s: float | None = None
    """What it had, where it asked for more and ran out of it. A background job may run longer."""
    stopped_by: StoppedBy | None = None
    truncated: bool | None = None
    """Only head and tail are shown."""
    stdout_bytes: int | None = None
    stderr_bytes: int | None = None
    artifact: str | None = None
    """The full output, both streams as they came."""
    job: str | None = None


async def shell(context: Context, given: ShellInput) -> ShellOutput:
    """Raises WrongState, RuntimeUnavailable, QuotaExceeded (jobs)."""
    sandboxes = context.use(SandboxService)
    live = sandboxes.started(context.runtime.id)
    if not live.shell.is_bash:
        await judge_for_sh(context, given.command)
    await check_command(context, given.command)
    fed = await resolve(context, given, private_environment=live.sandbox.private_environment)
    command = Command(
        _argv(live.shell, given),
        cwd=given.cwd,
        env=fed.env,
        # A job may be written to later.
        stdin=bool(fed.stdin) or given.background,
    )
    if given.background:
        return await _start_job(context, sandboxes, live.sandbox, command, text=given.command, stdin=fed.stdin)
    capture = sandboxes.capture(context.redactor)
    timeout_s = allowed_seconds(context, given.timeout_s)
    try:
        ended = await run_to_end(live.sandbox, command, stdin=fed.stdin, timeout_s=timeout_s, capture=capture)
        told = await _told(context, sandboxes, capture, ended)
        is_less = told.timed_out and given.timeout_s is not None and timeout_s < given.timeout_s
        return told.model_copy(update={"timeout_s": timeout_s}) if is_less else told
    finally:
        capture.discard()


def _argv(shell: Shell, given: ShellInput) -> tuple[str, ...]:
    # A variable may change what bash makes of a word (BASH_ENV, exported functions).
    plain = plain_words(given.command) if shell.may_be_left_out and not given.env else None
    return plain or (shell.path, "-c", "--", given.command)


async def judge_for_sh(context: Context, command: str) -> None:
    """Policy read the command as bash does; a plain sh may read it otherwise, so it is judged as text for one.

    Raises Denied.
    """
    facts = ShellFacts(f"sh -c {shlex.quote(command)}")
    judge = partial(decide, context.policy, operation_id=SHELL.id, effect=SHELL.effect, facts=facts)
    decision = await judged(facts, judge)
    if isinstance(decision, Deny):
        raise Denied(decision.reason, hint=decision.suggestion, rule=decision.rule)


def allowed_seconds(context: Context, asked: float | None) -> float:
    """The least of what was asked, the policy's and the scope's. Raises Denied where the policy gives none."""
    policy_s = context.policy.shell.timeout_s
    if policy_s <= 0:
        raise Denied("The policy gives commands no time.", hint="Ask the operator.", rule="shell.timeout_s")
    call_s = context.scope.limits.call_seconds
    # The call itself ends at the scope's limit: the command ends before it, so that there is an answer to give.
    return min(asked or policy_s, policy_s, max(call_s - 1, call_s / 2))


async def _told(context: Context, sandboxes: SandboxService, capture: Capture, ended: Ended) -> ShellOutput:
    capture.finish()
    shown = capture.shown()
    artifact = await _kept(context, sandboxes, capture) if shown.truncated else None
    return ShellOutput(
        exit_code=ended.exit_code,
        stdout=shown.stdout,
        stderr=shown.stderr or None,
        duration_ms=round(ended.duration_ms, 1),
        timed_out=True if ended.stopped_by == "timeout" else None,
        stopped_by=ended.stopped_by,
        truncated=shown.truncated or None,
        stdout_bytes=capture.stdout_bytes if shown.truncated else None,
        stderr_bytes=capture.stderr_bytes if shown.truncated else None,
        artifact=artifact,
    )


async def _kept(context: Context, sandboxes: SandboxService, capture: Capture) -> str | None:
    path = capture.take_file()
    if path is None:
        return None
    try:
        artifact = await sandboxes.artifacts.keep(
            run_id=context.run_id, space_id=context.space.id, name="output.txt", content_type="text/plain", path=path
        )
    except SpacesError:
        # The command has run: its two ends are worth more than an error about the file.
        return None
    finally:
        path.unlink(missing_ok=True)
    return artifact.id


async def _start_job(
    context: Context, sandboxes: SandboxService, sandbox: Sandbox, command: Command, *, text: str, stdin: str | None
) -> ShellOutput:
    job = await sandboxes.jobs.start(
        sandbox,
        command,
        text=text,
        space_id=context.space.id,
        runtime_id=context.runtime.id,
        run_id=context.run_id,
        redactor=context.redactor,
    )
    sandboxes.jobs.hold(job, context.use(ActiveCalls), context.caller)
    if stdin:
        sandboxes.jobs.feed(job, stdin.encode())
    return ShellOutput(job=job.id)


SHELL = Operation(
    id="sandbox.shell",
    summary="Run a shell command in a sandbox.",
    input=ShellInput,
    output=ShellOutput,
    effect=Effect.EXECUTES,
    facts=lambda given: ShellFacts(given.command, wanted(given), given.cwd, tuple(given.env)),
    check_scope=check_scope,
    handler=shell,
    needs_running_space=True,
    example={"space": "default", "command": "python3 -m unittest"},
)
