"""The operator's operations on the vault's own keys."""

from __future__ import annotations

from pydantic import BaseModel

from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import Audience, Operation
from mcp_spaces.core.place import Everywhere
from mcp_spaces.vault.master_record import Source
from mcp_spaces.vault.service import Vault


class Rotated(BaseModel):
    """`boxes`: versions of secrets that were encrypted again."""

    boxes: int


class RekeyInput(Everywhere):
    to: Source | None = None
    """Where the new master key is kept; left out: where the old one was."""


class Rekeyed(BaseModel):
    source: Source
    where: str


async def rotate(context: Context, _: Everywhere) -> Rotated:
    return Rotated(boxes=await context.use(Vault).keys.rotate(run_id=context.run_id))


async def rekey(context: Context, wanted: RekeyInput) -> Rekeyed:
    keys = context.use(Vault).keys
    record = await keys.rekey(wanted.to, run_id=context.run_id)
    return Rekeyed(source=record.source, where=keys.where(record.source))


ROTATE = Operation(
    id="vault.rotate",
    summary="Make a new data key and encrypt every secret again under it.",
    input=Everywhere,
    output=Rotated,
    effect=Effect.GOVERNS,
    audience=Audience.OPERATOR,
    handler=rotate,
    listed=False,
)
REKEY = Operation(
    id="vault.rekey",
    summary="Give the vault a new master key; the old one opens nothing any more but older backups.",
    input=RekeyInput,
    output=Rekeyed,
    effect=Effect.GOVERNS,
    audience=Audience.OPERATOR,
    handler=rekey,
    listed=False,
    example={"to": "file"},
)
