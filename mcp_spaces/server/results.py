"""What a call answers on the wire, shaped for how clients treat it.

Some clients show the model only `structuredContent`, others only text: so text is its JSON. Errors are text alone,
since clients hide the text of an error beside structured content. An answer above the limit keeps head and tail,
because clients replace a longer one by its first 2 KB; a list of objects keeps its head, and stays one of objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import mcp_types as types
from pydantic import BaseModel, TypeAdapter

from mcp_spaces.server.text import as_json, as_prose

if TYPE_CHECKING:
    from mcp_spaces.core.pipeline import Outcome
    from mcp_spaces.errors import SpacesError

ERROR_KEY = "mcp-spaces/error"
RUN_KEY = "mcp-spaces/run"
IDEMPOTENCY_KEY = "mcp-spaces/idempotency-key"
PIN = "mcp-spaces/pin"
"""In the `_meta` of a request, as the idempotency key is: no argument that a record would keep."""

REST = "Ask for less at a time: a narrower range (offset, limit, cursor), path or filter."
MARKER_CHARACTERS = 60
"""Room for the line that stands for what was left out of one string."""


class Pictured(Protocol):
    """An output that is more than JSON: pictures, sound, files."""

    def blocks(self) -> Sequence[Mapping[str, object]]:
        """Content blocks as they go over the wire: `{"type": "image", "data": <base64>, "mimeType": …}`."""
        ...


_BLOCKS: TypeAdapter[list[types.ContentBlock]] = TypeAdapter(list[types.ContentBlock])


def success(outcome: Outcome, *, characters_max: int | None) -> types.CallToolResult:
    meta: dict[str, Any] = {RUN_KEY: {"id": outcome.run_id, "receipt": outcome.receipt}}
    # Asking isinstance of a runtime protocol takes as long as everything else here together.
    if hasattr(type(outcome.output), "blocks"):
        pictured = cast(Pictured, outcome.output)
        return types.CallToolResult(content=_BLOCKS.validate_python(list(pictured.blocks())), meta=meta)
    structured, text = rendered(outcome.output, characters_max=characters_max)
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)], structured_content=structured, meta=meta
    )


def failure(error: SpacesError) -> types.CallToolResult:
    text = as_prose(f"{error.message}\n{error.hint}" if error.hint else error.message)
    meta: dict[str, Any] = {ERROR_KEY: described(error)}
    if error.run_id is not None:
        meta[RUN_KEY] = {"id": error.run_id}
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=True, meta=meta)


def described(error: SpacesError) -> dict[str, Any]:
    """The error for programs."""
    return {
        "code": error.code,
        "message": as_prose(error.message),
        "hint": as_prose(error.hint),
        "retryable": error.retryable,
        "details": {name: as_prose(detail) for name, detail in error.details().items()},
    }


def rendered(output: BaseModel, *, characters_max: int | None) -> tuple[dict[str, Any], str]:
    """The output as a JSON object, and the same as text; cut where it is above the limit, if there is one."""
    structured: dict[str, Any] = output.model_dump(mode="json", exclude_none=True)
    text = as_json(structured)
    if characters_max is None or len(text) <= characters_max:
        return structured, text
    return _cut(structured, total=len(text), characters_max=characters_max)


def _cut(structured: dict[str, Any], *, total: int, characters_max: int) -> tuple[dict[str, Any], str]:
    """Halve what any one string or list may take, until the whole fits."""
    note = {"truncated": {"characters": total, "limit": characters_max, "rest": REST}}
    room = characters_max
    while True:
        room //= 2
        # Never below what the markers themselves take: then the structure is the size, and only a list can give way.
        shorter = {**_shortened(structured, max(room, 2 * MARKER_CHARACTERS), items_max=max(room // 20, 4)), **note}
        text = as_json(shorter)
        if len(text) <= characters_max:
            return shorter, text
        if room < MARKER_CHARACTERS:
            return note, as_json(note)


def _shortened(value: Any, characters_max: int, *, items_max: int) -> Any:
    match value:
        case str() if len(value) > characters_max:
            keep = (characters_max - MARKER_CHARACTERS) // 2
            left_out = len(value) - 2 * keep
            return f"{value[:keep]}\n[… {left_out:,} characters left out …]\n{value[len(value) - keep :]}"
        case list() if len(value) > items_max and all(isinstance(one, dict) for one in value):
            return [_shortened(one, characters_max, items_max=items_max) for one in value[:items_max]]
        case list() if len(value) > items_max:
            head, tail = items_max - items_max // 2, items_max // 2
            kept = [*value[:head], f"[… {len(value) - head - tail:,} items left out …]", *value[len(value) - tail :]]
            return [_shortened(one, characters_max, items_max=items_max) for one in kept]
        case list():
            return [_shortened(one, characters_max, items_max=items_max) for one in value]
        case dict():
            shorter = {name: _shortened(one, characters_max, items_max=items_max) for name, one in value.items()}
            gone = {name: len(value[name]) - len(one) for name, one in shorter.items() if _is_cut(value[name], one)}
            if gone:
                # It would lead past what was left out.
                for cursor in ("next_cursor", "next_events"):
                    shorter.pop(cursor, None)
                shorter["items_left_out"] = gone
            return shorter
        case _:
            return value


def _is_cut(whole: Any, shorter: Any) -> bool:
    """Whether objects were left out of a list; other lists say so themselves."""
    return isinstance(whole, list) and len(shorter) < len(whole) and all(isinstance(one, dict) for one in whole)
