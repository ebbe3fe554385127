"""The fixtures that the MCP conformance suite expects, as real operations run by the real pipeline.

The product has no prompts, completions, logging or questions to the client, so a test-only server adds those
handlers; which tool is called, with which arguments, and what it answers still go through Operation and Pipeline.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as types
from mcp.server import ServerRequestContext

from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.server.endpoint import SpacesServer
from mcp_spaces.server.resources import not_found
from tests.server.conformance.content import (
    audio_content,
    embedded_resource,
    error_handling,
    image_content,
    missing_capability,
    multiple_content_types,
    simple_text,
    trigger_tool_change,
    with_logging,
    with_progress,
)
from tests.server.conformance.exchange import EXCHANGE, PNG, Blocks, Exchange, NoArguments, embedded, image
from tests.server.conformance.questions import (
    Message,
    Prompt,
    elicitation,
    elicitation_defaults,
    elicitation_enums,
    sampling,
)
from tests.server.conformance.rounds import (
    accepted,
    form,
    need,
    opened,
    required_by_capability,
    required_elicitation,
    required_roots,
    required_rounds,
    required_sampling,
    required_several,
    required_state,
)


def fixture(
    verb: str, handler: Callable[[Context, Any], Awaitable[Blocks]], takes: type[Any] = NoArguments
) -> AnyOperation:
    return Operation(
        id=f"test.{verb}",
        summary=f"Conformance fixture {verb}.",
        input=takes,
        output=Blocks,
        effect=Effect.OBSERVES,
        handler=handler,
    )


OPERATIONS: tuple[AnyOperation, ...] = (
    fixture("simple_text", simple_text),
    fixture("image_content", image_content),
    fixture("audio_content", audio_content),
    fixture("embedded_resource", embedded_resource),
    fixture("multiple_content_types", multiple_content_types),
    fixture("error_handling", error_handling),
    fixture("tool_with_progress", with_progress),
    fixture("tool_with_logging", with_logging),
    fixture("logging_tool", with_logging),
    fixture("trigger_tool_change", trigger_tool_change),
    fixture("missing_capability", missing_capability),
    fixture("streaming_elicitation", required_elicitation),
    fixture("sampling", sampling, Prompt),
    fixture("elicitation", elicitation, Message),
    fixture("elicitation_sep1034_defaults", elicitation_defaults),
    fixture("elicitation_sep1330_enums", elicitation_enums),
    fixture("input_required_result_elicitation", required_elicitation),
    fixture("input_required_result_sampling", required_sampling),
    fixture("input_required_result_list_roots", required_roots),
    fixture("input_required_result_request_state", required_state),
    fixture("input_required_result_multiple_inputs", required_several),
    fixture("input_required_result_multi_round", required_rounds),
    fixture("input_required_result_tampered_state", required_state),
    fixture("input_required_result_capabilities", required_by_capability),
)

RESOURCES: dict[str, types.TextResourceContents | types.BlobResourceContents] = {
    "test://static-text": types.TextResourceContents(
        uri="test://static-text", mime_type="text/plain", text="This is the content of the static text resource."
    ),
    "test://static-binary": types.BlobResourceContents(uri="test://static-binary", mime_type="image/png", blob=PNG),
    "test://watched-resource": types.TextResourceContents(
        uri="test://watched-resource", mime_type="text/plain", text="Watched."
    ),
}
TEMPLATE = re.compile(r"test://template/([^/]+)/data")

PROMPTS = [
    types.Prompt(name="test_simple_prompt", description="A simple prompt."),
    types.Prompt(
        name="test_prompt_with_arguments",
        description="A prompt with arguments.",
        arguments=[
            types.PromptArgument(name="arg1", description="First test argument", required=True),
            types.PromptArgument(name="arg2", description="Second test argument", required=True),
        ],
    ),
    types.Prompt(
        name="test_prompt_with_embedded_resource",
        description="A prompt with a resource.",
        arguments=[types.PromptArgument(name="resourceUri", description="URI to embed", required=True)],
    ),
    types.Prompt(name="test_prompt_with_image", description="A prompt with an image."),
    types.Prompt(name="test_input_required_result_prompt", description="A prompt that asks first."),
]


def add_fixtures(server: SpacesServer) -> None:
    """Everything that the suite expects and the product has not."""
    call, read, templates = server.tools.call, server.resources.read, server.resources.list_templates
    space_of = server.resources.space_of

    async def call_tool(
        context: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        exchange = Exchange(context, params.input_responses or {}, params.request_state)
        token = EXCHANGE.set(exchange)
        try:
            # Refused before anything runs, as the protocol wants it: not as a tool's error.
            opened(params.request_state)
            result = await call(context, params)
        finally:
            EXCHANGE.reset(token)
        if exchange.refusal is not None:
            raise exchange.refusal
        return exchange.required or result

    async def list_resources(
        _context: ServerRequestContext[Any, Any], _params: types.PaginatedRequestParams
    ) -> types.ListResourcesResult:
        known = [
            types.Resource(uri=uri, name=uri, description="A fixture.", mime_type=content.mime_type)
            for uri, content in RESOURCES.items()
        ]
        return types.ListResourcesResult(resources=known, ttl_ms=0, cache_scope="private")

    async def list_templates(
        context: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams
    ) -> types.ListResourceTemplatesResult:
        own = await templates(context, params)
        added = types.ResourceTemplate(
            name="template", uri_template="test://template/{id}/data", description="A fixture."
        )
        return own.model_copy(update={"resource_templates": [*own.resource_templates, added]})

    async def read_resource(
        context: ServerRequestContext[Any, Any], params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        if found := RESOURCES.get(params.uri):
            return types.ReadResourceResult(contents=[found], ttl_ms=0, cache_scope="private")
        if named := TEMPLATE.fullmatch(params.uri):
            said = json.dumps({"id": named[1], "templateTest": True, "data": f"Data for ID: {named[1]}"})
            content = types.TextResourceContents(uri=params.uri, mime_type="application/json", text=said)
            return types.ReadResourceResult(contents=[content], ttl_ms=0, cache_scope="private")
        return await read(context, params)

    async def fixture_space(uri: str) -> str | None:
        return None if uri in RESOURCES else await space_of(uri)

    server.resources.space_of = fixture_space  # type: ignore[method-assign] # the suite's URIs are of no space
    server.add_request_handler("tools/call", types.CallToolRequestParams, call_tool)
    server.add_request_handler("resources/list", types.PaginatedRequestParams, list_resources)
    server.add_request_handler("resources/templates/list", types.PaginatedRequestParams, list_templates)
    server.add_request_handler("resources/read", types.ReadResourceRequestParams, read_resource)
    server.add_request_handler("prompts/list", types.PaginatedRequestParams, list_prompts)
    server.add_request_handler("prompts/get", types.GetPromptRequestParams, get_prompt)
    server.add_request_handler("completion/complete", types.CompleteRequestParams, complete)
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, set_level)


async def list_prompts(
    _context: ServerRequestContext[Any, Any], _params: types.PaginatedRequestParams
) -> types.ListPromptsResult:
    return types.ListPromptsResult(prompts=PROMPTS, ttl_ms=0, cache_scope="private")


async def get_prompt(
    context: ServerRequestContext[Any, Any], params: types.GetPromptRequestParams
) -> types.GetPromptResult | types.InputRequiredResult:
    given = params.arguments or {}

    def said(*content: dict[str, Any]) -> types.GetPromptResult:
        return types.GetPromptResult.model_validate(
            {"messages": [{"role": "user", "content": one} for one in content]}, by_name=False
        )

    def words(one: str) -> dict[str, Any]:
        return {"type": "text", "text": one}

    match params.name:
        case "test_simple_prompt":
            return said(words("This is a simple prompt for testing."))
        case "test_prompt_with_arguments":
            return said(words(f"Prompt with arguments: arg1='{given.get('arg1')}', arg2='{given.get('arg2')}'"))
        case "test_prompt_with_embedded_resource":
            resource = embedded(given.get("resourceUri", ""), "text/plain", "Embedded resource content for testing.")
            return said(resource, words("Please process the embedded resource above."))
        case "test_prompt_with_image":
            return said(image(), words("Please analyze the image above."))
        case "test_input_required_result_prompt":
            exchange = Exchange(context, params.input_responses or {}, params.request_state)
            token = EXCHANGE.set(exchange)
            with contextlib.ExitStack() as stack:
                stack.callback(EXCHANGE.reset, token)
                chosen = accepted("user_context", "context")
                if chosen is not None:
                    return said(words(f"Use this context: {chosen}"))
                need({"user_context": form("What context should the prompt use?", "context")})
            assert exchange.required is not None
            return exchange.required
        case _:
            raise not_found(params.name)


async def complete(
    _context: ServerRequestContext[Any, Any], params: types.CompleteRequestParams
) -> types.CompleteResult:
    values = [word for word in ("paris", "park", "party") if word.startswith(params.argument.value)]
    return types.CompleteResult(completion=types.Completion(values=values, total=len(values), has_more=False))


async def set_level(
    _context: ServerRequestContext[Any, Any], _params: types.SetLevelRequestParams
) -> types.EmptyResult:
    return types.EmptyResult()
