"""The one way in which any operation runs: nine steps, in this order, for every caller and every transport.

record → parse → resolve → narrow → decide → approve → handle → redact → close
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, assert_never

import anyio.lowlevel
from pydantic import BaseModel, ValidationError

from mcp_spaces.core.active import ActiveCall, ActiveCalls
from mcp_spaces.core.approvals import Approvals
from mcp_spaces.core.asking import ask
from mcp_spaces.core.call import Call
from mcp_spaces.core.caller import Caller
from mcp_spaces.core.context import Context, Progress, Services, no_progress
from mcp_spaces.core.daily_calls import DailyCalls
from mcp_spaces.core.failures import UNCERTAIN, as_ours, state_after
from mcp_spaces.core.idempotency import Idempotency
from mcp_spaces.core.ids import Clock
from mcp_spaces.core.intent import Intents, is_anywhere, recorded
from mcp_spaces.core.invalid_input import (
    DEPTH_MAX,
    explain_validation,
    holds_a_huge_number,
    is_deeper_than,
    number_from_yes_or_no,
)
from mcp_spaces.core.journal import NO_ROOM, Event, Journal, RunState
from mcp_spaces.core.operation import AnyOperation, Audience, named_alike
from mcp_spaces.core.pin import Pin
from mcp_spaces.core.place import DEFAULT_SPACE, Places
from mcp_spaces.core.policy import Allow, Ask, Decision, Deny
from mcp_spaces.core.policy.long_commands import judged
from mcp_spaces.core.policy.remembered import decide_again
from mcp_spaces.core.recordable import KnownIn, nothing_known
from mcp_spaces.core.redaction import Redactor, redacted, restored
from mcp_spaces.core.scope import Scope, narrow_again
from mcp_spaces.core.widening import who_widens
from mcp_spaces.errors import (
    Cancelled,
    Denied,
    DiskFull,
    InvalidInput,
    NotFound,
    SpacesError,
    TimedOut,
    WrongState,
)
from mcp_spaces.state.database import Database
from mcp_spaces.state.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call answers. `receipt` is the head of the audit chain with this run's outcome in it. `settled`: the answer
    is the operation's last word. `cancelled`: it tells what was done until then."""

    run_id: str
    output: BaseModel
    receipt: str
    settled: bool = True
    cancelled: bool = False


class Pipeline:
    def __init__(
        self,
        operations: Iterable[AnyOperation],
        *,
        database: Database,
        places: Places,
        services: Services,
        clock: Clock,
        journal: Journal,
        approvals: Approvals,
        known_in: KnownIn = nothing_known,
    ) -> None:
        self.operations: Mapping[str, AnyOperation] = {operation.id: operation for operation in operations}
        self.active = ActiveCalls()
        self._database = database
        self._places = places
        self._services = services
        self._clock = clock
        self._journal = journal
        self._approvals = approvals
        self._intents = Intents(self.operations, places=places, journal=journal, known_in=known_in)
        self._idempotency = Idempotency(database, clock)
        self._daily = DailyCalls(database, clock)
        self._pin = Pin(database, clock)
        services.provide(Pipeline, self)
        services.provide(ActiveCalls, self.active)
        services.provide(Pin, self._pin)

    async def call(
        self,
        caller: Caller,
        operation_id: str,
        arguments: Mapping[str, object],
        *,
        parent_id: str | None = None,
        scope: Scope | None = None,
        idempotency_key: str | None = None,
        pin: str | None = None,
        progress: Progress = no_progress,
        redactor: Redactor | None = None,
    ) -> Outcome:
        """Run one operation. `scope` narrows this call further; `parent_id` makes it a child run; `pin` is what an
        operator typed.

        `redactor` is the parent's: what a child learns is kept out of the parent's record too.

        Raises only SpacesError (and the cancellation of the surrounding task, after the record is closed).
        """
        operation = self._known(caller, operation_id)
        self._daily.count(caller)
        call = self._intents.record(  # 1
            caller,
            operation,
            arguments,
            parent_id=parent_id,
            idempotency_key=idempotency_key,
            progress=progress,
            redactor=redactor or Redactor(),
        )
        try:
            with self.active.entered(call.run, caller, operation.effect, call.redactor) as active:
                call.input = self.parse(operation, arguments)  # 2
                self._resolve(call)  # 3
                self._narrow(call, scope)  # 4
                decision = await self._decide(call)  # 5
                await recorded(call.run)
                if caller.operator and operation.needs_pin(call.input):
                    await self._pin.check(pin)
                output = await self._answered_before(call)
                # Before a person's yes is used up, or an answer of before is given: was the permission taken away?
                active.check()
                if output is None:
                    await self._approve(call, decision)  # 6
                    output = await self._handle(call, active)  # 7
                    # Asked before redaction, which may take the answer out of its type.
                    call.settled = operation.settled(output)
                    call.cancelled = operation.cancelled(output)
                clean = redacted(output, call.redactor)  # 8
        except (Exception, anyio.get_cancelled_exc_class()) as error:
            failure = as_ours(error, call.redactor)
            await self._close_failed(call, failure)
            if isinstance(error, SpacesError) or not isinstance(error, Exception):
                raise
            raise failure from None
        receipt = await self._close(call, clean)  # 9
        told = output if operation.shows_keys else clean
        return Outcome(call.run.id, told, receipt, call.settled, call.cancelled)

    def permitted(self, caller: Caller) -> tuple[AnyOperation, ...]:
        """The operations that this caller may call somewhere, in catalogue order."""
        return tuple(operation for operation in self.operations.values() if _may(caller, operation))

    @staticmethod
    def parse(operation: AnyOperation, arguments: Mapping[str, object]) -> Any:
        """Step 2: the operation's input. Raises InvalidInput."""
        if is_deeper_than(arguments, DEPTH_MAX):
            raise InvalidInput(f"The input is nested deeper than {DEPTH_MAX} levels.", hint="Send it flatter.")
        if holds_a_huge_number(arguments):
            raise InvalidInput("The input holds a number of more than 64 bits.", hint="Send a smaller one.")
        try:
            taken = operation.input.model_validate(arguments)
        except ValidationError as error:
            raise explain_validation(operation, error) from None
        if name := number_from_yes_or_no(arguments, taken):
            raise InvalidInput(
                f"{operation.id}: {name} is a number, not true or false.", hint="Send a number, such as 1."
            )
        return taken

    def _known(self, caller: Caller, operation_id: str) -> AnyOperation:
        operation = self.operations.get(operation_id)
        # What only the operator may do does not exist for others (threat T15).
        if operation is None or (operation.audience is Audience.OPERATOR and not caller.operator):
            alike = named_alike(operation_id, self.permitted(caller))
            raise NotFound(
                f"No operation {operation_id[:64]!r}.", hint=alike or "See context_get for what can be called."
            )
        return operation

    def _resolve(self, call: Call) -> None:
        """Step 3. Raises NotFound (absent and invisible alike) or Ambiguous."""
        if not call.operation.in_space or is_anywhere(call.operation, call.caller, call.input.space):
            return
        if call.space is None:
            try:
                call.space = self._places.space(call.caller, call.input.space)
            except NotFound:
                if call.input.space == DEFAULT_SPACE and call.operation.without_space(call.input):
                    return
                raise
        call.policy = call.space.policy
        call.run.space_id = call.space.id
        if call.operation.in_runtime:
            call.runtime = self._places.runtime(
                call.space,
                call.input.runtime,
                operation_id=call.operation.id,
                active=call.operation.needs_active_runtime,
            )
            call.run.runtime_id = call.runtime.id

    def _narrow(self, call: Call, further: Scope | None) -> None:
        """Step 4: caller ∩ space ∩ runtime ∩ call. Raises Denied or WrongState."""
        for level in (call.space, call.runtime):
            if level is not None:
                call.scope = narrow_again(call.scope, level.ceiling)
        if further is not None:
            call.scope = narrow_again(call.scope, further)
        if refusal := call.operation.refusal(call.scope):
            ceiling = call.space.ceiling if call.space is not None else None
            raise Denied(
                f"{call.operation.id} is outside the scope here.",
                hint=f"context_get lists what can be called; {who_widens(call.operation, call.caller, ceiling)}.",
                rule=refusal,
            )
        call.operation.check_scope(call.input, call.scope)
        if call.space is not None and call.operation.needs_running_space and not call.space.running:
            raise WrongState(f"Space {call.space.name} is stopped.", hint=f"Start it: space_up space={call.space.id}")

    async def _decide(self, call: Call) -> Decision:
        """Step 5: a pure function over policy, effect and facts; stored with the run. Raises Denied."""
        facts = call.operation.facts(call.input)
        judge = partial(
            decide_again, call.policy, operation_id=call.operation.id, effect=call.operation.effect, facts=facts
        )
        decision = await judged(facts, judge)
        call.run.decision = {
            "verdict": type(decision).__name__.lower(),
            "rule": decision.rule,
            "reason": decision.reason,
            "policy": call.policy.version,
        }
        if isinstance(decision, Deny):
            raise Denied(decision.reason, hint=decision.suggestion, rule=decision.rule)
        return decision

    async def _answered_before(self, call: Call) -> BaseModel | None:
        """The answer of an earlier call with the same idempotency key. Raises Conflict or Busy."""
        if call.key is None:
            return None
        stored = await self._idempotency.reserve(
            call.caller.principal_id, call.key, fingerprint=call.fingerprint(policy_version=""), run_id=call.run.id
        )
        call.key_is_ours = stored is None
        return None if stored is None else restored(call.operation.output, stored)

    async def _approve(self, call: Call, decision: Decision) -> None:
        """Step 6: use up a person's yes, or ask for one. Raises ApprovalNeeded, Denied or QuotaExceeded."""
        match decision:
            case Allow():
                return
            case Ask():
                await ask(self._approvals, call, decision)
            case Deny():
                raise AssertionError("denied in step 5")
            case unreachable:
                assert_never(unreachable)

    async def _handle(self, call: Call, active: ActiveCall) -> BaseModel:
        """Step 7, within the scope's seconds and the key's life. Raises TimedOut or Cancelled besides the handler's."""
        context = Context(
            caller=call.caller,
            run_id=call.run.id,
            scope=call.scope,
            policy=call.policy,
            services=self._services,
            clock=self._clock,
            redactor=call.redactor,
            progress=call.progress,
            events=call.run.events,
            place=call.space,
            runtime_place=call.runtime,
        )
        seconds = math.inf if call.operation.lasts else call.scope.limits.call_seconds
        if call.caller.expires_at is not None:
            seconds = min(seconds, call.caller.expires_at - self._clock.now())
        active.cancel_scope.deadline = anyio.current_time() + seconds
        with active.cancel_scope:
            # What was taken away while the call waited for a yes or a key is not begun any more.
            await anyio.lowlevel.checkpoint_if_cancelled()
            output: BaseModel = await call.operation.handler(context, call.input)
            return output
        active.check()
        if active.cancel_scope.cancelled_caught:
            raise TimedOut(
                f"{call.operation.id} took longer than the {seconds:g} s that the scope allows.",
                hint="Use a background job, or smaller steps.",
            )
        raise AssertionError("a handler returns, raises or is cancelled")

    async def _close(self, call: Call, output: BaseModel) -> str:
        """Step 9, shielded from cancellation; returns the receipt. Raises DiskFull or Busy: done, but not recorded yet."""
        self._count_redactions(call)
        also = None
        if call.key is not None and call.key_is_ours:
            principal_id, key, stored = call.caller.principal_id, call.key, output.model_dump_json()

            def also(tx: Transaction) -> None:
                if call.settled:
                    Idempotency.keep(tx, principal_id, key, stored, run_id=call.run.id)
                else:
                    Idempotency.release(tx, principal_id, key, run_id=call.run.id)

        state, code = (RunState.CANCELLED, Cancelled.code) if call.cancelled else (RunState.SUCCEEDED, None)
        outcome = output.model_dump(mode="json")
        try:
            with anyio.CancelScope(shield=True):
                link = await self._journal.close(call.run, state, outcome=outcome, error_code=code, also=also)
        except NO_ROOM as error:
            why = "the disk is full" if isinstance(error, DiskFull) else "the database is locked by another program"
            error.message = f"{call.operation.id} was done, but its outcome is not recorded yet: {why}."
            error.hint = f"Do not repeat it. Once that is mended, its outcome is there: run_get run={call.run.id}"
            raise
        except SpacesError as error:
            error.message = f"{call.operation.id} was done, but its outcome could not be recorded. {error.message}"
            error.hint = f"Do not repeat it blindly. {error.hint}"
            raise
        return link.receipt

    async def _close_failed(self, call: Call, error: SpacesError) -> None:
        """Step 9 for whatever went wrong: denied, cancelled or failed, with its code."""
        error.run_id = call.run.id
        if call.caller.operator and error.for_operator is not None:
            error.message, error.hint = error.for_operator.message, error.for_operator.hint
        error.message, error.hint = call.redactor.text(error.message), call.redactor.text(error.hint)
        self._count_redactions(call)
        also = None
        if call.key is not None and call.key_is_ours and not isinstance(error, UNCERTAIN):
            principal_id, key = call.caller.principal_id, call.key

            def also(tx: Transaction) -> None:
                Idempotency.release(tx, principal_id, key, run_id=call.run.id)

        outcome = {"code": error.code, "message": error.message, "hint": error.hint, **error.details()}
        with anyio.CancelScope(shield=True):
            await recorded(call.run)
            # That nothing was done would not be true of every failure, and the record follows.
            with suppress(*NO_ROOM):
                await self._journal.close(
                    call.run, state_after(error), outcome=outcome, error_code=error.code, also=also
                )

    def _count_redactions(self, call: Call) -> None:
        """Whoever echoes guesses until one comes back redacted leaves that in the record (threat L21)."""
        if found := call.redactor.counts - call.counted:
            call.run.redactions = dict(found)
            call.run.events.append(Event("redacted", self._clock.now(), call.run.redactions))


def _may(caller: Caller, operation: AnyOperation) -> bool:
    if operation.audience is Audience.OPERATOR and not caller.operator:
        return False
    if operation.unbound and caller.spaces is not None:
        return False
    return caller.scope.permits_operation(operation.id)
