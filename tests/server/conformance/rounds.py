"""Tools that ask the client by ending, to be called again with the answers: 2026-07-28."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import mcp_types as types
from mcp import MCPError

from mcp_spaces.core.context import Context
from mcp_spaces.errors import SpacesError
from tests.server.conformance.exchange import EXCHANGE, Blocks, NoArguments, text

STATE_KEY = b"only for these tests"


class AsksFirst(SpacesError):
    """The client has to answer something, then call again."""

    code = "input_required"


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
