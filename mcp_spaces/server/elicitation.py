"""Send a person to a page, where their client knows how (MCP's elicitation in URL mode).

The answer of a client says that the person wants to open the page, or not: it opens nothing by itself, and grants
nothing. What becomes of the page is the app's to know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio
import mcp_types as types
from mcp import MCPError

if TYPE_CHECKING:
    from mcp.server import ServerRequestContext
    from pydantic import BaseModel

FIRST_WITHOUT_HANDSHAKE = "2026-07-28"
ANSWER_S = 60.0
"""How long a client of the handshake era may take to say that it showed the address."""
MESSAGE = "mcp-spaces: an agent asks for a secret. Enter it on this page, not in the chat."
WAIT_OPERATION = "vault.wait_entry"
WAIT_S = 60.0

_STATE = re.compile(r"entry:(ent_[a-z2-7]{26})")
_KEY = "page"


def page_of(output: BaseModel) -> str | None:
    """The address that the answer holds for a person."""
    page: str | None = getattr(output, "page_for_a_person", None)
    return page


def opens_pages(context: ServerRequestContext[Any, Any]) -> bool:
    capabilities = context.session.client_capabilities
    return (
        capabilities is not None and capabilities.elicitation is not None and capabilities.elicitation.url is not None
    )


def asking(page: str, *, request: str) -> types.InputRequiredResult:
    """For clients of 2026-07-28: they open the page, then repeat the call, which is answered by `resumed`."""
    opening = types.ElicitRequest(params=types.ElicitRequestURLParams(message=MESSAGE, url=page))
    return types.InputRequiredResult(input_requests={_KEY: opening}, request_state=f"entry:{request}")


def resumed(params: types.CallToolRequestParams) -> Mapping[str, object] | None:
    """What to ask of WAIT_OPERATION when a call is repeated for a page; None for every other call."""
    found = _STATE.fullmatch(params.request_state or "")
    if found is None:
        return None
    given = params.arguments or {}
    carried = given.get("input")
    space = (carried if isinstance(carried, Mapping) else given).get("space")
    answer = (params.input_responses or {}).get(_KEY)
    wanted = isinstance(answer, types.ElicitResult) and answer.action == "accept"
    return {
        "request": found[1],
        "timeout_s": WAIT_S if wanted else 0,
        **({"space": space} if isinstance(space, str) else {}),
    }


async def opened(context: ServerRequestContext[Any, Any], page: str, *, request: str) -> bool:
    """For clients of the handshake era: whether the person wants to open it. False where the client does not say."""
    with anyio.move_on_after(ANSWER_S):
        try:
            answer = await context.session.elicit_url(MESSAGE, page, request, related_request_id=context.request_id)
        except MCPError:
            return False
        return answer.action == "accept"
    return False
