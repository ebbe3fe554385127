"""Tools that ask the client while they run, as clients of the handshake era are asked."""

from __future__ import annotations

import json
from typing import Any

import mcp_types as types

from mcp_spaces.core.context import Context
from mcp_spaces.core.place import Everywhere
from tests.server.conformance.exchange import EXCHANGE, Blocks, Fails, NoArguments, text


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
