"""`operation.call`: the operations that are no tools of their own, so that the list of tools stays small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, PrivateAttr, RootModel

from mcp_spaces.core.child_call import child_outcome
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import Operation, id_of
from mcp_spaces.core.place import Everywhere
from mcp_spaces.errors import InvalidInput


class CallInput(Everywhere):
    operation: str = Field(max_length=64)
    """Its id, or as hints name it (browser_dialog); context_get lists them."""
    input: Mapping[str, Any] = Field(default={})


class CallOutput(RootModel[Any]):
    """What the operation itself answers."""

    _page: str | None = PrivateAttr(default=None)
    _settled: bool = PrivateAttr(default=True)
    _cancelled: bool = PrivateAttr(default=False)

    @property
    def page_for_a_person(self) -> str | None:
        return self._page

    @property
    def is_settled(self) -> bool:
        return self._settled

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled


class PicturedOutput(CallOutput):
    """Of an operation that answers with more than JSON."""

    _blocks: Sequence[Mapping[str, object]] = PrivateAttr(default=())

    def blocks(self) -> Sequence[Mapping[str, object]]:
        return self._blocks


async def call_operation(context: Context, wanted: CallInput) -> CallOutput:
    # Hints name operations as tools.
    operation_id = id_of(wanted.operation)
    if operation_id == CALL.id:
        raise InvalidInput("operation.call does not call itself.", hint="Name the operation that you want.")
    outcome = await child_outcome(context, operation_id, wanted.input, progress=context.progress)
    told = outcome.output.model_dump(mode="json", exclude_none=True)
    blocks = getattr(outcome.output, "blocks", None)
    answer = CallOutput(told) if blocks is None else _pictured(told, blocks())
    answer._page = getattr(outcome.output, "page_for_a_person", None)
    answer._settled, answer._cancelled = outcome.settled, outcome.cancelled
    return answer


def _pictured(told: Mapping[str, object], blocks: Sequence[Mapping[str, object]]) -> PicturedOutput:
    answer = PicturedOutput(told)
    answer._blocks = blocks
    return answer


CALL = Operation(
    id="operation.call",
    summary="Call any permitted operation that is no tool of its own.",
    input=CallInput,
    output=CallOutput,
    effect=Effect.COMPOSES,
    handler=call_operation,
    # Each operation redacts its own answer; what it lets through is let through here.
    shows_keys=True,
    settled=lambda answer: answer.is_settled,
    cancelled=lambda answer: answer.is_cancelled,
    example={"operation": "space.list", "input": {}},
)
