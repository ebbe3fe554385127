"""`browser.methods`: what steps may call, for agents; docs/reference has the same list for people."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, JsonValue

from mcp_spaces.browser.steps.arguments import signature
from mcp_spaces.browser.steps.kinds import Kind
from mcp_spaces.browser.steps.page_methods import METHODS
from mcp_spaces.browser.steps.step import method_of
from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.json_schema import schema_of
from mcp_spaces.core.operation import Operation
from mcp_spaces.core.place import Everywhere


class MethodsInput(Everywhere):
    on: Kind | None = None
    """Only those of one kind of handle."""
    call: str | None = Field(default=None, max_length=64)
    """Only this one, with the schema of its arguments."""


class MethodView(Answer):
    call: str
    signature: str
    use: str
    """What policy judges it by: read, interact, evaluate."""
    returns: str
    summary: str
    arguments: Mapping[str, JsonValue] | None = None


class MethodsOutput(Answer):
    methods: tuple[MethodView, ...]


async def methods(_context: Context, given: MethodsInput) -> MethodsOutput:
    """Raises NotFound."""
    chosen = [method_of(given.call)] if given.call is not None else METHODS
    return MethodsOutput(
        methods=tuple(
            MethodView(
                call=one.id,
                signature=signature(one),
                use=one.use.value,
                returns=str(one.returns),
                summary=one.summary,
                arguments=schema_of(one.arguments) if given.call is not None else None,
            )
            for one in chosen
            if given.on is None or one.on is given.on
        )
    )


METHODS_OPERATION = Operation(
    id="browser.methods",
    summary="What steps may call, with arguments.",
    input=MethodsInput,
    output=MethodsOutput,
    effect=Effect.OBSERVES,
    handler=methods,
    listed=False,
    idempotent=True,
    example={"on": "page"},
)
