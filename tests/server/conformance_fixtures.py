"""The fixtures that the MCP conformance suite expects, as real operations run by the real pipeline.

The product has no prompts, completions, logging or questions to the client, so a test-only server adds those
handlers; which tool is called, with which arguments, and what it answers still go through Operation and Pipeline.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import re
import warnings
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import anyio
import mcp_types as types
from mcp import MCPError
from mcp.server import ServerRequestContext
from mcp.shared.exceptions import MCPDeprecationWarning
from pydantic import BaseModel

from mcp_spaces.core.changes import Change, Changes
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.place import Everywhere
from mcp_spaces.errors import SpacesError
from mcp_spaces.server.endpoint import SpacesServer
from mcp_spaces.server.resources import not_found

PNG = base64.b64encode(
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde"
    b"\x00\x00\x00\x0cIDATx\x9cc\xf8\xcf\xc0\x00\x00\x03\x01\x01\x00\xc9\xfe\x92\xef\x00\x00\x00\x00IEND\xaeB`\x82"
).decode()
WAV = base64.b64encode(
    b"RIFF$\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00@\x1f\x00\x00\x80>\x00\x00\x02\x00\x10\x00data"
    b"\x00\x00\x00\x00"
).decode()
STATE_KEY = b"only for these tests"


@dataclass
class Exchange:
    """The MCP request that a fixture serves: what the product's operations never see."""

    context: ServerRequestContext[Any, Any]
    answers: Mapping[str, Any]
    state: str | None
    required: types.InputRequiredResult | None = None
    refusal: MCPError | None = None


EXCHANGE: ContextVar[Exchange] = ContextVar("conformance_exchange")


class Blocks(BaseModel):
    content: list[dict[str, Any]]

    def blocks(self) -> list[dict[str, Any]]:
        return self.content


class NoArguments(Everywhere):
    pass


class Fails(SpacesError):
    code = "failed"


class AsksFirst(SpacesError):
    """The client has to answer something, then call again."""

    code = "input_required"


def text(said: str) -> Blocks:
    return Blocks(content=[{"type": "text", "text": said}])


def image() -> dict[str, Any]:
    return {"type": "image", "data": PNG, "mimeType": "image/png"}


def embedded(uri: str, mime_type: str, said: str) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime_type, "text": said}}


# --------------------------------------------------------------------------------------------------- content


async def simple_text(_: Context, __: NoArguments) -> Blocks:
    return text("This is a simple text response for testing.")


async def image_content(_: Context, __: NoArguments) -> Blocks:
    return Blocks(content=[image()])


async def audio_content(_: Context, __: NoArguments) -> Blocks:
    return Blocks(content=[{"type": "audio", "data": WAV, "mimeType": "audio/wav"}])


async def embedded_resource(_: Context, __: NoArguments) -> Blocks:
    return Blocks(content=[embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")])


async def multiple_content_types(_: Context, __: NoArguments) -> Blocks:
    return Blocks(
        content=[
            {"type": "text", "text": "Multiple content types test:"},
            image(),
            embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
        ]
    )


async def error_handling(_: Context, __: NoArguments) -> Blocks:
    raise Fails("This tool intentionally returns an error for testing", hint="")


async def with_progress(context: Context, _: NoArguments) -> Blocks:
    for done in (0, 50, 100):
        await context.progress(done, 100, f"{done} %")
        await anyio.lowlevel.checkpoint()
    return text("Progress was reported.")


async def with_logging(_: Context, __: NoArguments) -> Blocks:
    session = EXCHANGE.get().context.session
    for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        # Not sent to clients of 2026-07-28 that did not ask for logs.
        with warnings.catch_warnings(action="ignore", category=MCPDeprecationWarning):
            await session.send_log_message("info", said, related_request_id=EXCHANGE.get().context.request_id)
    return text("Three messages were logged.")


async def trigger_tool_change(context: Context, _: NoArguments) -> Blocks:
    context.use(Changes).announce(Change("tools"))
    return text("The tools changed.")


async def missing_capability(_: Context, __: NoArguments) -> Blocks:
    exchange = EXCHANGE.get()
    if (exchange.context.session.client_capabilities or types.ClientCapabilities()).sampling is None:
        exchange.refusal = MCPError(
            types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            "The client cannot sample.",
            {"requiredCapabilities": {"sampling": {}}},
        )
        raise Fails("The client cannot sample.", hint="")
    return text("The client can sample.")


# ----------------------------------------------------------------------------- questions, handshake era


class Prompt(Everywhere):
    prompt: str


class Message(Everywhere):
    message: str


async def ask(request: types.ServerRequest, answer: type[Any]) -> Any:
    exchange = EXCHANGE.get()
    return await exchange.context.session.send_request(request, answer)


async def sampling(_: Context, wanted: Prompt) -> Blocks:
    if (EXCHANGE.get().context.session.client_capabilities or types.ClientCapabilities()).sampling is None:
        raise Fails("The client cannot sample.", hint="")
    answer = await ask(
        types.CreateMessageRequest(
            params=types.CreateMessageRequestParams(
                messages=[
                    types.SamplingMessage(role="user", content=types.TextContent(type="text", text=wanted.prompt))
                ],
                max_tokens=100,
            )
        ),
        types.CreateMessageResult,
    )
    return text(f"LLM response: {answer.content.text}")


async def elicit(message: str, properties: dict[str, Any], required: list[str]) -> types.ElicitResult:
    exchange = EXCHANGE.get()
    schema = {"type": "object", "properties": properties, "required": required}
    return await exchange.context.session.elicit_form(message, schema, exchange.context.request_id)


async def elicitation(_: Context, wanted: Message) -> Blocks:
    described = {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    }
    answer = await elicit(wanted.message, described, ["username", "email"])
    return text(f"User response: action={answer.action}, content={json.dumps(answer.content)}")


async def elicitation_defaults(_: Context, __: NoArguments) -> Blocks:
    properties = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    answer = await elicit("Please review the defaults", properties, [])
    return text(f"Elicitation completed: action={answer.action}, content={json.dumps(answer.content)}")


async def elicitation_enums(_: Context, __: NoArguments) -> Blocks:
    options = ["option1", "option2", "option3"]
    titled = [
        {"const": "value1", "title": "First Option"},
        {"const": "value2", "title": "Second Option"},
        {"const": "value3", "title": "Third Option"},
    ]
    properties = {
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled}},
    }
    answer = await elicit("Please choose", properties, [])
    return text(f"Elicitation completed: action={answer.action}, content={json.dumps(answer.content)}")


# --------------------------------------------------------------------------------- questions of 2026-07-28


def form(message: str, name: str, kind: str = "string") -> types.ElicitRequest:
    schema = {"type": "object", "properties": {name: {"type": kind}}, "required": [name]}
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(question: str, max_tokens: int = 100) -> types.CreateMessageRequest:
    message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=question))
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(messages=[message], max_tokens=max_tokens)
    )


def sealed(state: str) -> str:
    return state + "." + hmac.new(STATE_KEY, state.encode(), hashlib.sha256).hexdigest()


def opened(sealed_state: str | None) -> str | None:
    if sealed_state is None:
        return None
    state = sealed_state.rpartition(".")[0]
    if not hmac.compare_digest(sealed(state), sealed_state):
        raise MCPError(types.INVALID_PARAMS, "The request state was changed.")
    return state


def need(requests: dict[str, Any], state: str | None = None) -> AsksFirst:
    EXCHANGE.get().required = types.InputRequiredResult(
        input_requests=requests, request_state=None if state is None else sealed(state)
    )
    return AsksFirst("The client has to answer first.", hint="")


def accepted(name: str, member: str) -> str | None:
    """A field of an accepted form, or None where the answer is missing or not of that shape."""
    match EXCHANGE.get().answers.get(name):
        case types.ElicitResult(action="accept", content=dict() as content) if member in content:
            return str(content[member])
        case _:
            return None


async def required_elicitation(_: Context, __: NoArguments) -> Blocks:
    name = accepted("user_name", "name")
    if name is None:
        raise need({"user_name": form("What is your name?", "name")})
    return text(f"Hello, {name}!")


async def required_sampling(_: Context, __: NoArguments) -> Blocks:
    answer = EXCHANGE.get().answers.get("capital_question")
    if not isinstance(answer, types.CreateMessageResult):
        raise need({"capital_question": sample("What is the capital of France?")})
    return text(f"The model says: {answer.content.model_dump()}")


async def required_roots(_: Context, __: NoArguments) -> Blocks:
    answer = EXCHANGE.get().answers.get("client_roots")
    if not isinstance(answer, types.ListRootsResult):
        raise need({"client_roots": types.ListRootsRequest()})
    return text(f"Roots: {[str(root.uri) for root in answer.roots]}")


async def required_state(_: Context, __: NoArguments) -> Blocks:
    if opened(EXCHANGE.get().state) is None or accepted("confirm", "ok") is None:
        raise need({"confirm": form("Please confirm", "ok", "boolean")}, "started")
    return text("state-ok")


async def required_several(_: Context, __: NoArguments) -> Blocks:
    wanted = {
        "user_name": form("What is your name?", "name"),
        "greeting": sample("Generate a greeting", 50),
        "client_roots": types.ListRootsRequest(),
    }
    if opened(EXCHANGE.get().state) is None or not wanted.keys() <= EXCHANGE.get().answers.keys():
        raise need(wanted, "started")
    return text(f"Hello, {accepted('user_name', 'name')}!")


async def required_rounds(_: Context, __: NoArguments) -> Blocks:
    state = opened(EXCHANGE.get().state)
    name = accepted("step1", "name")
    if state is None or (state == "one" and name is None):
        raise need({"step1": form("Step 1: What is your name?", "name")}, "one")
    if state == "one":
        raise need({"step2": form("Step 2: What is your favorite color?", "color")}, f"two {name}")
    color = accepted("step2", "color")
    if color is None:
        raise need({"step2": form("Step 2: What is your favorite color?", "color")}, state)
    return text(f"{state.removeprefix('two ')} likes {color}.")


async def required_by_capability(_: Context, __: NoArguments) -> Blocks:
    capabilities = EXCHANGE.get().context.session.client_capabilities or types.ClientCapabilities()
    wanted: dict[str, Any] = {}
    if capabilities.elicitation is not None:
        wanted["user_name"] = form("What is your name?", "name")
    if capabilities.sampling is not None:
        wanted["greeting"] = sample("Generate a greeting")
    if capabilities.roots is not None:
        wanted["client_roots"] = types.ListRootsRequest()
    if wanted and not wanted.keys() <= EXCHANGE.get().answers.keys():
        raise need(wanted)
    return text("Everything is answered.")


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


# ------------------------------------------------------------------------------------------------ the server

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
