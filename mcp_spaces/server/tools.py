"""`tools/list` and `tools/call`, both derived from the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import mcp_types as types
from mcp import MCPError

from mcp_spaces.core.operation import AnyOperation, Audience
from mcp_spaces.core.redaction import Untyped
from mcp_spaces.errors import InvalidInput, SpacesError
from mcp_spaces.server import elicitation
from mcp_spaces.server.authentication import visitor
from mcp_spaces.server.progress import reporting
from mcp_spaces.server.results import IDEMPOTENCY_KEY, PIN, failure, success
from mcp_spaces.server.schemas import tool_schema

if TYPE_CHECKING:
    from mcp.server import ServerRequestContext

    from mcp_spaces.core.caller import Caller
    from mcp_spaces.server.port import Application
    from mcp_spaces.settings import Settings


class Tools:
    """Which tools there are depends on the credential alone, never on the connection or on earlier calls."""

    def __init__(self, app: Application, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._tools: dict[str, types.Tool] = {}

    async def list(
        self, _context: ServerRequestContext[Any, Any], _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        caller = visitor().caller
        tools = [self._tool(operation) for operation in self._app.permitted(caller) if _is_tool(operation, caller)]
        return types.ListToolsResult(tools=tools, ttl_ms=0, cache_scope="private")

    async def call(
        self, context: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        """Raises MCPError for a name that is no tool; everything else that goes wrong is an error result."""
        who = visitor()
        caller = who.caller
        operation_id: str = self._operation(params.name, caller).id
        arguments: Mapping[str, object] = params.arguments or {}
        if (waiting := elicitation.resumed(params)) is not None:
            operation_id, arguments = elicitation.WAIT_OPERATION, waiting
        try:
            key, pin = _text_beside(context, IDEMPOTENCY_KEY), _text_beside(context, PIN)
            with who.lane.call():
                async with reporting(context, every_s=self._settings.heartbeat_s) as progress:
                    outcome = await self._app.pipeline.call(
                        caller, operation_id, arguments, idempotency_key=key, pin=pin, progress=progress
                    )
        except SpacesError as error:
            return failure(error)
        page = elicitation.page_of(outcome.output)
        if page is not None and elicitation.opens_pages(context):
            told = outcome.output.model_dump(mode="json", exclude_none=True)
            if context.protocol_version >= elicitation.FIRST_WITHOUT_HANDSHAKE:
                return elicitation.asking(page, request=told["request"])
            if await elicitation.opened(context, page, request=told["request"]):
                # The person has the address: the model needs none.
                without = {name: value for name, value in told.items() if value != page}
                outcome = replace(outcome, output=Untyped(without))
        # The limit is for what a model reads: people's commands show tables, and write whole files.
        characters_max = None if caller.operator else self._settings.answer_characters_max
        return success(outcome, characters_max=characters_max)

    def _operation(self, tool: str, caller: Caller) -> AnyOperation:
        """The operation behind a tool. One that this caller may not call is called all the same: the pipeline says
        no, with a hint, and keeps the record. What is the operator's alone does not exist for others."""
        operation = self._app.pipeline.operations.get(tool.replace("_", ".", 1))
        hidden = operation is None or (operation.audience is Audience.OPERATOR and not caller.operator)
        if operation is None or hidden or operation.tool != tool:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {tool[:64]!a}")
        if not (operation.listed or caller.operator):
            # Hints name it like this, whether it is a tool or not.
            way = f"call operation_call with operation={operation.id}"
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {tool!a} is no tool of its own: {way}")
        return operation

    def _tool(self, operation: AnyOperation) -> types.Tool:
        if operation.id not in self._tools:
            hints = operation.hints
            self._tools[operation.id] = types.Tool(
                name=operation.tool,
                description=operation.summary,
                input_schema=tool_schema(operation),
                annotations=types.ToolAnnotations(
                    read_only_hint=hints.read_only,
                    destructive_hint=hints.destructive,
                    idempotent_hint=operation.idempotent,
                    open_world_hint=hints.open_world,
                ),
            )
        return self._tools[operation.id]


def _is_tool(operation: AnyOperation, caller: Caller) -> bool:
    # The operator's commands reach everything by name; agents keep a short list and `operation_call`.
    return operation.listed or caller.operator


def _text_beside(context: ServerRequestContext[Any, Any], name: str) -> str | None:
    """What came with the request and is no argument."""
    text = (context.meta or {}).get(name)
    if text is not None and not isinstance(text, str):
        raise InvalidInput(f"{name} has to be text.", hint=f'_meta: {{"{name}": "…"}}')
    return text
