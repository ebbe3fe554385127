"""The one way in which any operation runs: nine steps, in this order, for every caller and every transport.

record → parse → resolve → narrow → decide → approve → handle → redact → close
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import anyio
from pydantic import BaseModel, ValidationError

from mcp_spaces.core.active import ActiveCall, ActiveCalls
from mcp_spaces.core.approvals import ApprovalState, Approvals, fingerprint
from mcp_spaces.core.caller import Caller
from mcp_spaces.core.context import Context, Progress, Services, no_progress
from mcp_spaces.core.idempotency import MAXIMUM_KEY_LENGTH, Idempotency
from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.core.invalid_input import explain_validation
from mcp_spaces.core.journal import Journal, Run, RunState
from mcp_spaces.core.operation import AnyOperation, Audience
from mcp_spaces.core.place import Places, RuntimePlace, SpacePlace
from mcp_spaces.core.policy import Allow, Ask, Deny, Policy, decide
from mcp_spaces.core.redaction import Redactor
from mcp_spaces.core.scope import Scope, narrow
from mcp_spaces.errors import (
    ApprovalNeeded,
    Cancelled,
    Denied,
    Internal,
    InvalidInput,
    NotFound,
    OutOfMemory,
    RuntimeUnavailable,
    SpacesError,
    TimedOut,
    WrongState,
)
from mcp_spaces.state.chain import Link
from mcp_spaces.state.database import Database, Transaction

log = logging.getLogger(__name__)

UNCERTAIN = (TimedOut, Cancelled, RuntimeUnavailable, OutOfMemory, Internal)
"""After these nobody knows how much was done, so an idempotency key stays taken."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call answers. `receipt` is the head of the audit chain with this run's outcome in it."""

    run_id: str
    output: BaseModel
    receipt: str


@dataclass(frozen=True, slots=True)
class _Ready:
    """A call after its first five steps."""

    operation: AnyOperation
    input: BaseModel
    canonical: str
    scope: Scope
    policy: Policy
    space: SpacePlace | None
    runtime: RuntimePlace | None


class Pipeline:
    def __init__(
        self,
        operations: Iterable[AnyOperation],
        *,
        database: Database,
        places: Places,
        services: Services,
        clock: Clock,
    ) -> None:
        self.operations: Mapping[str, AnyOperation] = {operation.id: operation for operation in operations}
        self.active = ActiveCalls()
        self._database = database
        self._places = places
        self._services = services
        self._clock = clock
        self._journal = Journal(database, clock)
        self._approvals = Approvals(database, clock)
        self._idempotency = Idempotency(database, clock)

    async def call(
        self,
        caller: Caller,
        operation_id: str,
        arguments: Mapping[str, object],
        *,
        parent_id: str | None = None,
        scope: Scope | None = None,
        idempotency_key: str | None = None,
        progress: Progress = no_progress,
    ) -> Outcome:
        """Run one operation. `scope` narrows this call further; `parent_id` makes it a child run.

        Raises only SpacesError (and the cancellation of the surrounding task, after the record is closed).
        """
        redactor = Redactor()
        operation = self._known(caller, operation_id)
        run = await self._journal.open(
            operation.id, principal_id=caller.principal_id, parent_id=parent_id, arguments=redactor.value(arguments)
        )
        key = None if idempotency_key is None else _IdempotencyKey(caller.principal_id, idempotency_key)
        try:
            with self.active.entered(run, caller) as call:
                ready = await self._prepare(caller, operation, arguments, run=run, scope=scope)
                if key is not None:
                    stored = await self._reserve(key, ready, run, caller)
                    if stored is not None:
                        output = operation.output.model_validate_json(stored)
                        link = await self._close(run, RunState.SUCCEEDED, outcome={"answered_before": True})
                        return Outcome(run.id, output, link.receipt)
                await self._approve(caller, ready, run, redactor)
                context = self._context(caller, ready, run, redactor, progress)
                output = await self._handle(ready, context, call)
        except SpacesError as error:
            error.message, error.hint = redactor.text(error.message), redactor.text(error.hint)
            await self._close_failed(run, error, key)
            raise
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._close_failed(run, Cancelled("The call was cancelled.", hint=""), key)
            raise
        except Exception as error:
            internal = _internal(error)
            await self._close_failed(run, internal, key)
            raise internal from None
        clean = _redacted(output, redactor)
        keeping = None if key is None else _keep(key, clean)
        with anyio.CancelScope(shield=True):
            link = await self._close(run, RunState.SUCCEEDED, outcome=_plain(clean), also=keeping)
        return Outcome(run.id, clean, link.receipt)

    def permitted(self, caller: Caller) -> tuple[AnyOperation, ...]:
        """The operations that this caller may call somewhere, in catalogue order."""
        return tuple(operation for operation in self.operations.values() if _may(caller, operation))

    def _known(self, caller: Caller, operation_id: str) -> AnyOperation:
        operation = self.operations.get(operation_id)
        # What only the operator may do does not exist for others (threat T15).
        if operation is None or (operation.audience is Audience.OPERATOR and not caller.operator):
            raise NotFound(f"No operation {operation_id[:64]!r}.", hint="See context_get for what can be called.")
        return operation

    async def _prepare(
        self, caller: Caller, operation: AnyOperation, arguments: Mapping[str, object], *, run: Run, scope: Scope | None
    ) -> _Ready:
        """Steps 2 to 5: parse, resolve, narrow, decide. Raises InvalidInput, NotFound, WrongState or Denied."""
        parsed = _parse(operation, arguments)
        space = self._places.space(caller, parsed.space) if operation.in_space else None
        runtime = None
        if space is not None:
            run.space_id = space.id
            if operation.in_runtime:
                runtime = self._places.runtime(space, parsed.runtime, operation_id=operation.id)
                run.runtime_id = runtime.id
        levels = [caller.scope, space and space.ceiling, runtime and runtime.ceiling, scope]
        effective = caller.scope
        for level in levels[1:]:
            effective = effective if level is None else narrow(effective, level)
        if not effective.permits_operation(operation.id):
            raise Denied(
                f"{operation.id} is outside the scope here.",
                hint="context_get lists what can be called; a person can widen the space's ceiling.",
                rule="scope.operations",
            )
        if space is not None and operation.needs_running_space and not space.running:
            raise WrongState(f"Space {space.name} is stopped.", hint=f"Start it: space_up space={space.id}")
        policy = space.policy if space is not None else caller.policy
        return _Ready(operation, parsed, parsed.model_dump_json(), effective, policy, space, runtime)

    async def _reserve(self, key: _IdempotencyKey, ready: _Ready, run: Run, caller: Caller) -> str | None:
        stored = await self._idempotency.reserve(
            key.principal_id, key.key, fingerprint=_fingerprint(caller, ready, policy_version=""), run_id=run.id
        )
        key.reserved = stored is None
        return stored

    async def _approve(self, caller: Caller, ready: _Ready, run: Run, redactor: Redactor) -> None:
        """Steps 5 and 6: policy's verdict, and a person's where policy asks for one."""
        facts = ready.operation.facts(ready.input)
        verdict = decide(ready.policy, operation_id=ready.operation.id, effect=ready.operation.effect, facts=facts)
        run.decision = {"verdict": type(verdict).__name__.lower(), "rule": verdict.rule, "reason": verdict.reason}
        match verdict:
            case Allow():
                return
            case Deny():
                raise Denied(verdict.reason, hint=verdict.suggestion, rule=verdict.rule)
            case Ask():
                settled = await self._approvals.settle(
                    self._approvals.request(
                        fingerprint=_fingerprint(caller, ready, policy_version=ready.policy.version),
                        operation=ready.operation.id,
                        principal_id=caller.principal_id,
                        principal_name=caller.name,
                        space_id=ready.space and ready.space.id,
                        space_name=ready.space and ready.space.name,
                        run_id=run.id,
                        reason=verdict.reason,
                        rule=verdict.rule,
                        input_json=redactor.text(ready.canonical),
                    )
                )
                run.decision = {**run.decision, "approval": settled.id, "answer": settled.state}
                if settled.state is ApprovalState.CONSUMED:
                    return
                if settled.state is ApprovalState.DENIED:
                    raise Denied(
                        "A person said no to this call.", hint="Choose another way, or ask them.", rule=verdict.rule
                    )
                raise ApprovalNeeded(
                    verdict.reason,
                    hint=f"A person has to run `mcp-spaces approve {settled.id}`; then repeat this call unchanged.",
                    approval_id=settled.id,
                    rule=verdict.rule,
                )
            case unreachable:
                assert_never(unreachable)

    def _context(
        self, caller: Caller, ready: _Ready, run: Run, redactor: Redactor, progress: Progress
    ) -> Context:
        return Context(
            caller=caller,
            run_id=run.id,
            scope=ready.scope,
            policy=ready.policy,
            services=self._services,
            pipeline=self,
            clock=self._clock,
            redactor=redactor,
            progress=progress,
            place=ready.space,
            runtime_place=ready.runtime,
        )

    async def _handle(self, ready: _Ready, context: Context, call: ActiveCall) -> BaseModel:
        """Step 7, within the scope's seconds and the key's life. Raises TimedOut or Cancelled besides the handler's."""
        seconds = ready.scope.limits.call_seconds
        if context.caller.expires_at is not None:
            seconds = min(seconds, context.caller.expires_at - self._clock.now())
        with call.cancel_scope, anyio.move_on_after(seconds) as deadline:
            output: BaseModel = await ready.operation.handler(context, ready.input)
            return output
        if call.cancelled_because:
            raise Cancelled(f"The call was cancelled: {call.cancelled_because}.", hint="Nothing more will happen.")
        if deadline.cancelled_caught:
            raise TimedOut(
                f"{ready.operation.id} took longer than the {seconds:g} s that the scope allows.",
                hint="Use a background job, or smaller steps.",
            )
        raise AssertionError("a handler returns, raises or is cancelled")

    async def _close(
        self,
        run: Run,
        state: RunState,
        *,
        outcome: object,
        error_code: str | None = None,
        also: Callable[[Transaction], None] | None = None,
    ) -> Link:
        closing = self._journal.closing(run, state, outcome, None, error_code)

        def change(tx: Transaction) -> Link:
            if also is not None:
                also(tx)
            link: Link = closing(tx)
            return link

        return await self._database.write(change)

    async def _close_failed(self, run: Run, error: SpacesError, key: _IdempotencyKey | None) -> None:
        state = RunState.FAILED
        if isinstance(error, Denied | ApprovalNeeded):
            state = RunState.DENIED
        elif isinstance(error, Cancelled):
            state = RunState.CANCELLED
        releasing = None
        if key is not None and key.reserved and not isinstance(error, UNCERTAIN):
            taken = key

            def releasing(tx: Transaction) -> None:
                Idempotency.release(tx, taken.principal_id, taken.key)

        outcome = {"code": error.code, "message": error.message, "hint": error.hint, **error.details()}
        with anyio.CancelScope(shield=True):
            await self._close(run, state, outcome=outcome, error_code=error.code, also=releasing)


@dataclass(slots=True)
class _IdempotencyKey:
    principal_id: str
    key: str
    reserved: bool = False

    def __post_init__(self) -> None:
        if not 0 < len(self.key) <= MAXIMUM_KEY_LENGTH or not self.key.isprintable():
            raise InvalidInput(
                "The idempotency key has to be printable text.", hint=f"Use at most {MAXIMUM_KEY_LENGTH} characters."
            )


def _keep(key: _IdempotencyKey, output: BaseModel) -> Callable[[Transaction], None]:
    stored = output.model_dump_json()
    return lambda tx: Idempotency.keep(tx, key.principal_id, key.key, stored)


def _may(caller: Caller, operation: AnyOperation) -> bool:
    if operation.audience is Audience.OPERATOR and not caller.operator:
        return False
    return caller.scope.permits_operation(operation.id)


def _parse(operation: AnyOperation, arguments: Mapping[str, object]) -> Any:
    try:
        return operation.input.model_validate(arguments)
    except ValidationError as error:
        raise explain_validation(operation, error) from None


def _fingerprint(caller: Caller, ready: _Ready, *, policy_version: str) -> str:
    return fingerprint(
        ready.operation.id,
        ready.canonical,
        principal_id=caller.principal_id,
        space_id=ready.space and ready.space.id,
        policy_version=policy_version,
    )


def _plain(output: BaseModel) -> object:
    return output.model_dump(mode="json")


def _redacted(output: BaseModel, redactor: Redactor) -> BaseModel:
    if redactor.idle:
        text = output.model_dump_json()
        if "msp_" not in text:
            return output
    clean = redactor.value(output.model_dump(mode="json"))
    return type(output).model_validate_json(json.dumps(clean))


def _internal(error: Exception) -> Internal:
    reference = new_id("err")
    # The traceback goes to the daemon's log only: its text may hold what a caller must not see (MCP trap 2).
    log.error("internal error %s", reference, exc_info=error)
    return Internal(
        f"Something went wrong inside mcp-spaces ({reference}).",
        hint="The operator finds the cause in the daemon's log under this reference.",
        reference=reference,
    )
