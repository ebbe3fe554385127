"""Setting and clearing the operator's PIN. Both need the one that is set, as everything does that it guards."""

from __future__ import annotations

from pydantic import Field, SecretStr

from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import AnyOperation, Audience, Operation, always
from mcp_spaces.core.pin import CHARACTERS_MAX, Pin
from mcp_spaces.core.place import Everywhere


class PinSetInput(Everywhere):
    new: SecretStr = Field(max_length=CHARACTERS_MAX)
    """6 to 128 characters."""


class PinClearInput(Everywhere):
    """Nothing to say."""


class PinState(Answer):
    is_set: bool
    hint: str


async def set_pin(context: Context, wanted: PinSetInput) -> PinState:
    await context.use(Pin).change(wanted.new.get_secret_value())
    return PinState(
        is_set=True,
        hint="Approving, raw reads and whatever widens a principal, a space or a secret's bindings ask for it now.",
    )


async def clear_pin(context: Context, _: PinClearInput) -> PinState:
    await context.use(Pin).clear()
    return PinState(is_set=False, hint="Whoever runs as this user may approve.")


SET = Operation(
    id="pin.set",
    summary="Set the operator's PIN, without which nobody approves, reads secrets raw or widens anything.",
    input=PinSetInput,
    output=PinState,
    effect=Effect.GOVERNS,
    audience=Audience.OPERATOR,
    handler=set_pin,
    needs_pin=always,
    example={"new": "correct horse"},
)
CLEAR = Operation(
    id="pin.clear",
    summary="Take the operator's PIN away.",
    input=PinClearInput,
    output=PinState,
    effect=Effect.GOVERNS,
    audience=Audience.OPERATOR,
    handler=clear_pin,
    needs_pin=always,
    idempotent=True,
)

OPERATIONS: tuple[AnyOperation, ...] = (SET, CLEAR)
