"""The calls that are under way in this daemon: counted, and cancelled when their permission goes away."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import anyio

from mcp_spaces.core.caller import Caller
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.journal import Run
from mcp_spaces.core.redaction import Redactor
from mcp_spaces.core.scope import Scope, covers
from mcp_spaces.errors import Cancelled, QuotaExceeded, SpacesError

WORKING = frozenset(
    {
        Effect.READS,
        Effect.CREATES,
        Effect.WRITES,
        Effect.DELETES,
        Effect.EXECUTES,
        Effect.BROWSES,
        Effect.INTERACTS,
        Effect.COMPOSES,
    }
)
"""What touches content: such calls end when what they began under is lowered (threat T09)."""


def leaves_less(now: Scope, before: Scope) -> bool:
    """Whether work that began under `before` may be doing what `now` does not permit.

    Connections do not count: the gateway judges them by the scope of the moment, and ends the open ones itself.
    """
    return not covers(now, before.model_copy(update={"network": now.network, "proxy": now.proxy}))


@dataclass(slots=True)
class ActiveCall:
    run: Run
    caller: Caller
    effect: Effect
    cancel_scope: anyio.CancelScope
    redactor: Redactor
    ended: anyio.Event = field(default_factory=anyio.Event)
    cancelled_because: str = ""

    def cancel(self, reason: str) -> None:
        self.cancelled_because = self.cancelled_because or reason
        self.cancel_scope.cancel()

    def check(self) -> None:
        """Raises Cancelled once it was cancelled by somebody else."""
        if self.cancelled_because:
            raise Cancelled(f"The call was cancelled: {self.cancelled_because}.", hint="Nothing more will happen.")


class ActiveCalls:
    def __init__(self) -> None:
        self._by_run: dict[str, ActiveCall] = {}
        self._of_principal: Counter[str] = Counter()

    @contextmanager
    def entered(
        self, run: Run, caller: Caller, effect: Effect, redactor: Redactor | None = None
    ) -> Iterator[ActiveCall]:
        """Raises QuotaExceeded above the caller's limit. Child calls do not count; what a call begins after it was
        cancelled is cancelled as well."""
        counted = run.parent_id is None
        limit = caller.scope.limits.concurrent_calls
        if counted and self._of_principal[caller.principal_id] >= limit:
            raise QuotaExceeded(
                f"{limit} calls of this principal are running already.", hint="Wait for one of them to end."
            )
        call = ActiveCall(run, caller, effect, anyio.CancelScope(), redactor or Redactor())
        self._by_run[run.id] = call
        self._of_principal[caller.principal_id] += counted
        # A call learns of its end when it next waits, and until then it may begin what outlives it.
        parent = self._by_run.get(run.parent_id or "")
        if parent is not None and parent.cancelled_because:
            call.cancel(parent.cancelled_because)
        try:
            yield call
        finally:
            del self._by_run[run.id]
            self._of_principal[caller.principal_id] -= counted
            call.ended.set()

    def hold(
        self,
        run: Run,
        caller: Caller,
        effect: Effect,
        redactor: Redactor | None,
        *,
        now: float,
        over: Callable[[], Awaitable[object]],
        end: Callable[[str], Awaitable[object]],
    ) -> asyncio.Task[None]:
        """What outlives the call that began it, and not the permission that it began under: it stands among the calls
        under way, and `end` is told the reason when they would be (threats T06, T09). `over` returns once it has ended;
        `now` in seconds since 1970. Whoever calls keeps the task."""
        # At once, not when the task gets its turn: the permission may end in this one.
        standing = ExitStack()
        call = standing.enter_context(self.entered(run, caller, effect, redactor))

        async def holding() -> None:
            with call.cancel_scope:
                if caller.expires_at is not None:
                    call.cancel_scope.deadline = anyio.current_time() + caller.expires_at - now
                await over()
            with suppress(SpacesError):
                await end(call.cancelled_because or "its key has expired")

        task = asyncio.create_task(holding())
        task.add_done_callback(lambda _: standing.close())
        return task

    def learn(self, runtime_id: str, value: str, *, name: str) -> None:
        """Keep a secret that was used in a runtime out of what calls and jobs there answer that are under way: of
        several, nobody can say whose it was."""
        for redactor in {call.redactor for call in self._by_run.values() if call.run.runtime_id == runtime_id}:
            redactor.learn(value, name=name)

    def get(self, run_id: str) -> ActiveCall | None:
        return self._by_run.get(run_id)

    def cancel_where(self, matches: Callable[[ActiveCall], bool], *, reason: str) -> int:
        """Cancel what matches; the calls end within one turn of the event loop plus their own clean-up."""
        return len(self._cancel(matches, reason))

    async def end_where(self, matches: Callable[[ActiveCall], bool], *, reason: str) -> None:
        """Cancel what matches, and wait until the calls and their clean-up are over."""
        for call in self._cancel(matches, reason):
            await call.ended.wait()

    def _cancel(self, matches: Callable[[ActiveCall], bool], reason: str) -> list[ActiveCall]:
        found = [call for call in self._by_run.values() if matches(call)]
        for call in found:
            call.cancel(reason)
        return found

    def only_run_in(self, runtime_id: str) -> str | None:
        """The run of the one call that is at work in a runtime, the innermost of a family; None for none or several."""
        runs = [call.run for call in self._by_run.values() if call.run.runtime_id == runtime_id]
        parents = {run.parent_id for run in runs}
        innermost = [run.id for run in runs if run.id not in parents]
        return innermost[0] if len(innermost) == 1 else None

    def any_in(self, space_id: str) -> bool:
        return any(call.run.space_id == space_id for call in self._by_run.values())
