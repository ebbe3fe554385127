"""`browser.execute`: structured steps, each a child run with a decision of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, WithJsonSchema

from mcp_spaces.browser.acting import turn
from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.secrets.secret_rules import refuse_inside
from mcp_spaces.browser.steps.kinds import Kind
from mcp_spaces.browser.steps.method import Method
from mcp_spaces.browser.steps.model import Step
from mcp_spaces.browser.steps.paused import Paused
from mcp_spaces.browser.steps.planning import Planned, plan
from mcp_spaces.browser.steps.published import METHODS_OPERATION
from mcp_spaces.browser.steps.step import CHILDREN, StepOutput
from mcp_spaces.core.answer import Answer
from mcp_spaces.core.child_call import call_child
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import BrowserFacts
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.place import InRuntime
from mcp_spaces.core.policy import explain
from mcp_spaces.errors import ApprovalNeeded, InvalidInput, SpacesError

STEPS_MAX = 100
ANSWER_CHARACTERS = 14_000
"""Of all results together, as JSON; each child run's record has its own whole one."""
NOTED_CHARACTERS = 500
UNNAMED = "unnamed-"
"""Begins the handles of results that no step binds; they end with the call."""

_LISTED_AS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "call": {"type": "string"},
            "ref": {"type": "string"},
            "args": {"type": "array"},
            "bind": {"type": "string"},
            "options": {"type": "object"},
        },
        "required": ["call"],
    },
    "minItems": 1,
    "maxItems": STEPS_MAX,
}


class ExecuteInput(InRuntime):
    steps: Annotated[tuple[Any, ...], Field(min_length=1, max_length=STEPS_MAX), WithJsonSchema(_LISTED_AS)]
    """page.goto, page.click, locator.fill …: browser_methods lists them. options {timeoutMs, dryRun}."""
    mode: Literal["fail-fast", "continue"] = "fail-fast"


class StepProblem(Answer):
    code: str
    message: str
    hint: str
    rule: str | None = None
    """Of the policy that said no."""


class StepEvent(Answer):
    step: int
    """From 1."""
    call: str
    ok: bool
    bound: str | None = None
    page: str | None = None
    result: JsonValue = None
    cut: bool | None = None
    """The result is longer: run_get of this call's child has it, or the artifact."""
    artifact: str | None = None
    dialog: Mapping[str, str] | None = None
    opened: tuple[str, ...] | None = None
    downloads: tuple[str, ...] | None = None
    verdict: str | None = None
    """Of a dry run: allow, ask or deny."""
    error: StepProblem | None = None


class Waiting(Answer):
    step: int
    approval_id: str
    reason: str
    hint: str


class ExecuteOutput(Answer):
    status: Literal["completed", "failed", "awaiting_approval"]
    """failed: a step did, and the rest was not begun (fail-fast)."""
    events: tuple[StepEvent, ...]
    waiting: Waiting | None = None
    """Repeat the same call after the approval: it goes on from here."""


async def execute(context: Context, given: ExecuteInput) -> ExecuteOutput:
    """Repeating the same call goes on with steps that wait for a person, from the one that waits.

    Raises InvalidInput (fail-fast: nothing was begun), Conflict while another call goes on with the same steps.
    """
    planned = plan(given.steps)
    if given.mode == "fail-fast":
        for number, one in enumerate(planned, start=1):
            if one.problem is not None:
                raise InvalidInput(f"Step {number}: {one.problem.message}", hint=one.problem.hint)
    async with turn(context) as live:
        refuse_inside(live)
    fingerprint = _fingerprint(context, given)
    paused = live.handles.paused
    stands = paused.claim(fingerprint, run_id=context.run_id)
    running = _Running(context, live, planned, given.mode, stands)
    waits = False
    try:
        answer = await running.run()
        waits = answer.status == "awaiting_approval"
    finally:
        if waits:
            paused.keep(fingerprint, stands)
        else:
            paused.end(fingerprint)
            running.drop_made()
    return answer


@dataclass(slots=True)
class _Running:
    context: Context
    live: LiveBrowser
    planned: list[Planned]
    mode: Literal["fail-fast", "continue"]
    stands: Paused
    dry: dict[str, Kind] = field(default_factory=dict)
    """What dry runs would have bound."""

    async def run(self) -> ExecuteOutput:
        total = len(self.planned)
        if self.stands.position == 0:
            self.live.handles.taken_downloads.update(one.guid for one in self.live.downloads.all())
        while self.stands.position < total:
            number = self.stands.position + 1
            one = self.planned[self.stands.position]
            try:
                event = await self._one(number, one)
            except ApprovalNeeded as error:
                return self._told("awaiting_approval", self._waiting(number, one, error))
            except SpacesError as error:
                event = StepEvent(step=number, call=one.call, ok=False, error=_problem(error))
            self.stands.events.append(event.model_dump(mode="json"))
            self.stands.position = number
            self._note(event)
            await self.context.progress(number, total, f"{number}. {one.call}")
            if not event.ok and self.mode == "fail-fast":
                return self._told("failed")
        return self._told("completed")

    async def _one(self, number: int, one: Planned) -> StepEvent:
        if one.problem is not None or one.step is None or one.method is None:
            raise one.problem or InvalidInput("This is no step.", hint="A step is {call, ref, args, bind, options}.")
        step, method = one.step, one.method
        if step.options.dryRun:
            return self._dry(number, step, method)
        handles = self.live.handles
        ref = step.ref
        if method.on is not Kind.BROWSER and ref is None:
            ref = handles.only(method.on, self.stands.made)
        bind = step.bind
        if bind is None and method.returns in (Kind.LOCATOR, Kind.FRAME, Kind.DOWNLOAD):
            bind = f"{UNNAMED}{self.stands.label}-{number}"
        output = await call_child(
            self.context,
            CHILDREN[method.use].id,
            {
                "space": self.context.space.id,
                "runtime": self.context.runtime.id,
                "call": step.call,
                "ref": ref,
                "args": step.args,
                "bind": bind,
                "options": step.options.model_dump(),
            },
            progress=self.context.progress,
        )
        return self._event(number, method, output)

    def _event(self, number: int, method: Method, output: object) -> StepEvent:
        # Redaction may have taken the answer out of its model.
        told = output if isinstance(output, StepOutput) else StepOutput.model_validate(getattr(output, "root", {}))
        if told.bound is not None:
            self.stands.made.append(told.bound)
        return StepEvent(
            step=number,
            call=method.id,
            ok=True,
            bound=None if told.bound is None or told.bound.startswith(UNNAMED) else told.bound,
            page=told.page,
            result=told.result,
            cut=True if told.artifact else None,
            artifact=told.artifact,
            dialog=None if told.dialog is None else {"kind": told.dialog.kind, "message": told.dialog.message},
            opened=None if told.opened is None else tuple(told.opened),
            downloads=None if told.downloads is None else tuple(told.downloads),
        )

    def _dry(self, number: int, step: Step, method: Method) -> StepEvent:
        """Whether the step could be done: its handle is there, and policy's word. Nothing is asked for."""
        handles = self.live.handles
        if method.on is not Kind.BROWSER and self.dry.get(step.ref or "") is not method.on:
            if step.ref is not None:
                handles.named(step.ref, method.on)
            elif method.on not in self.dry.values():
                handles.only(method.on, self.stands.made)
        if step.bind is not None and isinstance(method.returns, Kind):
            self.dry[step.bind] = method.returns
        elif isinstance(method.returns, Kind):
            self.dry[f"{UNNAMED}{number}"] = method.returns
        child = CHILDREN[method.use]
        if refusal := child.refusal(self.context.scope):
            problem = StepProblem(
                code="denied", message=f"{child.id} is outside the scope here.", hint="context_get says what is in it.",
                rule=refusal,
            )  # fmt: skip
            return StepEvent(step=number, call=method.id, ok=False, verdict="deny", error=problem)
        said = explain(self.context.policy, operation_id=child.id, effect=child.effect, facts=BrowserFacts(method.use))
        verdict = said.decision.value
        if verdict == "allow":
            return StepEvent(step=number, call=method.id, ok=True, verdict="allow")
        code = "approval_needed" if verdict == "ask" else "denied"
        problem = StepProblem(code=code, message=said.reason, hint=said.suggestion, rule=said.rule)
        return StepEvent(step=number, call=method.id, ok=False, verdict=verdict, error=problem)

    def _waiting(self, number: int, one: Planned, error: ApprovalNeeded) -> Waiting:
        waiting = Waiting(step=number, approval_id=error.approval_id, reason=error.message, hint=error.hint)
        self.context.note("browserStep", {"step": number, "call": one.call, "waiting": waiting.model_dump()})
        return waiting

    def _note(self, event: StepEvent) -> None:
        told = event.model_dump(mode="json", exclude_none=True)
        shown = self.context.redactor.text(json.dumps(told.pop("result", None), ensure_ascii=False))
        if shown != "null":
            told["result"] = shown[:NOTED_CHARACTERS]
        self.context.note("browserStep", told)

    def drop_made(self) -> None:
        """Results that nobody named are for the steps of this call."""
        for name in self.stands.made:
            if name.startswith(UNNAMED):
                self.live.handles.drop(name)

    def _told(
        self, status: Literal["completed", "failed", "awaiting_approval"], waiting: Waiting | None = None
    ) -> ExecuteOutput:
        events = [StepEvent.model_validate(one) for one in self.stands.events]
        return ExecuteOutput(status=status, events=_fitted(events), waiting=waiting)


def _problem(error: SpacesError) -> StepProblem:
    return StepProblem(code=error.code, message=error.message, hint=error.hint, rule=error.details().get("rule"))


def _fitted(events: list[StepEvent]) -> tuple[StepEvent, ...]:
    """All of them, with the longest results cut so that they fit into one answer."""
    lengths = [0 if one.result is None else len(json.dumps(one.result)) for one in events]
    left, share = ANSWER_CHARACTERS, 0
    for position, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - position)
        left -= min(length, share)
    return tuple(
        one if length <= share else one.model_copy(update={"result": _start(one.result, share), "cut": True})
        for one, length in zip(events, lengths, strict=True)
    )


def _start(result: JsonValue, characters: int) -> str:
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
    return text[:characters]


def _fingerprint(context: Context, given: ExecuteInput) -> str:
    wanted = [context.caller.principal_id, context.runtime.id, given.steps, given.mode]
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="browser.execute",
        summary="Run several Playwright-like steps with named handles.",
        input=ExecuteInput,
        output=ExecuteOutput,
        effect=Effect.COMPOSES,
        handler=execute,
        needs_running_space=True,
        example={
            "space": "default",
            "steps": [
                {"call": "browser.newContext"},
                {"call": "context.newPage", "bind": "p"},
                {"call": "page.goto", "ref": "p", "args": ["https://example.com/"]},
                {"call": "page.content", "ref": "p"},
            ],
        },
    ),
    METHODS_OPERATION,
    *CHILDREN.values(),
)
