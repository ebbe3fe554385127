"""pydantic's findings, in words for those who never heard of it."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mcp_spaces.core.one_or_several import written
from mcp_spaces.core.spelling import SPELLING

SHOWN = 3
LOOKED_AT_MAX = 1_000
"""Findings. Of more of them none is named: going through hundreds of thousands would hold everybody up for seconds."""
NO_OBJECT = frozenset({"model_type", "model_attributes_type", "dict_type", "mapping_type"})
_NO_LIST = frozenset({"tuple_type", "list_type"})
SHAPES = NO_OBJECT | _NO_LIST


def findings(error: ValidationError) -> list[ErrorDetails]:
    """None of them where there are more than LOOKED_AT_MAX."""
    if error.error_count() > LOOKED_AT_MAX:
        return []
    return error.errors(include_url=False, include_context=False, include_input=False)


def sentences_of(error: ValidationError, *, without: int = 0) -> list[str]:
    """A sentence, without its full stop, for each of the first findings. `without`: parts of a place that its reader
    did not write."""
    found = findings(error)
    if not found:
        return [f"{error.error_count():,} things in it do not fit"]
    # A list whose only item is wrong is told to be too short as well.
    inner = {one["loc"][:depth] for one in found for depth in range(len(one["loc"]))}
    problems = [one for one in found if one["loc"] not in inner]
    sentences = [sentence(one["loc"][without:], one["type"], one["msg"]) for one in problems[:SHOWN]]
    if len(problems) > SHOWN:
        sentences.append(f"and {len(problems) - SHOWN} more")
    return sentences


def sentence(location: tuple[int | str, ...], kind: str, message: str) -> str:
    """What is wrong at `location`, without a full stop; `kind` and `message` are pydantic's."""
    where = ".".join(str(part)[:64] for part in written(location)) or "arguments"
    if kind == "extra_forbidden":
        return f"{where} is unknown"
    if kind == "missing":
        return f"{where} is missing"
    if kind in NO_OBJECT:
        return f"{where} has to be an object"
    if kind in _NO_LIST:
        return f"{where} has to be a list"
    if kind == SPELLING:
        return f"{where} has to be {message}"
    if kind in ("too_short", "too_long"):
        # "Tuple should have at least 1 item after validation, not 0"
        message = message.partition(" ")[2].partition(" after validation")[0]
    return f"{where}: {message[:200].removeprefix('Value error, ')}"
