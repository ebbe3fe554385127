"""Rows that grant something: stored with a MAC, verified whenever they are read (threat K11)."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mcp_spaces.errors import WrongState
from mcp_spaces.state.chain import Sealer
from mcp_spaces.state.transaction import Row

M = TypeVar("M", bound=BaseModel)

REMEMBERED = 2_048
"""Rows whose proof is remembered. Every call reads the same few of them several times."""


def seal(sealer: Sealer, table: str, row_id: str, model: BaseModel) -> tuple[str, bytes]:
    """The `body` and `mac` columns for a row."""
    body = model.model_dump_json()
    return body, sealer.seal_row(table, row_id, body)


def unseal(sealer: Sealer, table: str, row: Row, model: type[M]) -> M:
    """The model in a row with columns id, body and mac. Raises WrongState when it was changed behind our back.

    The same bytes under the same key were proven once, so they give the same object again: never change it in place.
    """
    try:
        found = _proven(sealer, table, row["id"], row["body"], row["mac"], model)
        if isinstance(found, model):
            return found
    except (ValidationError, TypeError, AttributeError, UnicodeError):
        pass
    raise WrongState(
        f"A stored row of {table} is damaged or was changed outside of mcp-spaces; it grants nothing.",
        hint="Run `mcp-spaces audit verify` and restore a backup.",
    )


@lru_cache(maxsize=REMEMBERED)
def _proven(sealer: Sealer, table: str, row_id: str, body: str, mac: bytes, model: type[BaseModel]) -> BaseModel | None:
    """None where the MAC is another. Everything that the MAC covers is part of the question, and so is the MAC."""
    return model.model_validate_json(body) if sealer.row_is_intact(table, row_id, body, mac) else None
