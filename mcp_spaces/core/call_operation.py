"""`operation.call`: the operations that are no tools of their own, so that the list of tools stays small."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, PrivateAttr, RootModel

from mcp_spaces.core.child_call import call_child
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import Operation, id_of
from mcp_spaces.core.place import Everywhere
from mcp_spaces.errors import InvalidInput


class CallInput(Everywhere):
    operation: str = Field(max_length=64)
    """Its id; context_get lists them."""
    input: Mapping[str, Any] = Field(default={})


class CallOutput(RootModel[Any]):
    """What the operation itself answers."""

    _page: str | None = PrivateAttr(default=None)

    @property
    def page_for_a_person(self) -> str | None:
        return self._page


async def call_operation(context: Context, wanted: CallInput) -> CallOutput:
    # Hints name operations as tools.
    operation_id = id_of(wanted.operation)
    if operation_id == CALL.id:
        raise InvalidInput("operation.call does not call itself.", hint="Name the operation that you want.")
    output = await call_child(context, operation_id, wanted.input, progress=context.progress)
    answer = CallOutput(output.model_dump(mode="json", exclude_none=True))
    answer._page = getattr(output, "page_for_a_person", None)
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
    example={"operation": "space.list", "input": {}},
)
