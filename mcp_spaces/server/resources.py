"""Resources: the Agent Context, run records and stored files. Reading one is an ordinary call of an operation."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, assert_never

import mcp_types as types
from mcp import MCPError

from mcp_spaces.core.scope import OWN_NAMESPACE
from mcp_spaces.errors import Ambiguous, Internal, InvalidInput, NotFound, SpacesError
from mcp_spaces.server.authentication import visitor
from mcp_spaces.server.results import described
from mcp_spaces.server.text import as_json
from mcp_spaces.server.uris import ContextUri, RunUri, StorageUri, parse

if TYPE_CHECKING:
    from mcp.server import ServerRequestContext

    from mcp_spaces.server.port import Application
    from mcp_spaces.settings import Settings

TEMPLATES = (
    types.ResourceTemplate(
        name="space_context",
        uri_template="space://{space}/context{?topic,detail}",
        description="Agent Context of a space: where you are, what you may do now, limits, examples. "
        "The same as the tool context_get.",
        mime_type="application/json",
    ),
    types.ResourceTemplate(
        name="runtime_context",
        uri_template="space://{space}/runtimes/{runtime}/context{?topic,detail}",
        description="Agent Context of one runtime. The same as the tool context_get.",
        mime_type="application/json",
    ),
    types.ResourceTemplate(
        name="run",
        uri_template="run://{run}",
        description="The record of one call. The same as run_get.",
        mime_type="application/json",
    ),
    types.ResourceTemplate(
        name="stored_file",
        uri_template="storage://{namespace}/{+path}",
        description="A stored file. The same as storage_read.",
    ),
)


SPACE_ID = re.compile(r"sp_[a-z2-7]{26}")


class Resources:
    def __init__(self, app: Application, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def list(
        self, _context: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        """The context of each space that the caller can see, page by page."""
        cursor = params.cursor if params is not None else None
        page = await self._call("space.list", {"cursor": cursor} if cursor else {})
        spaces = page.get("spaces") or []
        resources = [
            types.Resource(
                uri=f"space://{space['id']}/context",
                name=f"{space.get('name', space['id'])} context",
                description="Agent Context: what you may do in this space, and how.",
                mime_type="application/json",
            )
            for space in spaces
        ]
        return types.ListResourcesResult(
            resources=resources, next_cursor=page.get("next_cursor"), ttl_ms=0, cache_scope="private"
        )

    async def list_templates(
        self, _context: ServerRequestContext[Any, Any], _params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(resource_templates=list(TEMPLATES), ttl_ms=0, cache_scope="private")

    async def read(
        self, _context: ServerRequestContext[Any, Any], params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        uri = params.uri
        content: types.TextResourceContents | types.BlobResourceContents
        match parse(uri):
            case None:
                raise not_found(uri)
            case ContextUri() as named:
                content = _as_text(uri, await self._read(uri, "context.get", context_arguments(named)))
            case RunUri(run):
                content = _as_text(uri, await self._read(uri, "run.get", {"run": run}))
            case StorageUri(namespace, path):
                wanted = {"path": path, "encoding": "base64", "limit": self._settings.resource_bytes_max}
                content = _as_file(uri, await self._read(uri, "storage.read", {**_tree(namespace), **wanted}))
            case unreachable:
                assert_never(unreachable)
        return types.ReadResourceResult(contents=[content], ttl_ms=0, cache_scope="private")

    async def space_of(self, uri: str) -> str | None:
        """The id of the space that a URI belongs to, for a subscription; None where it is of no space's context.

        Raises MCPError where nothing is to be seen there, so that a subscription tells no more than a read.
        """
        named = parse(uri)
        if named is None:
            raise not_found(uri)
        if not isinstance(named, ContextUri):
            return None
        document = await self._read(uri, "context.get", context_arguments(named))
        space = document.get("space")
        return space.get("id") if isinstance(space, dict) else None

    async def _read(self, uri: str, operation_id: str, arguments: Mapping[str, object]) -> dict[str, Any]:
        try:
            return await self._call(operation_id, arguments)
        except (NotFound, InvalidInput):
            # Absent, invisible and impossible are one answer.
            raise not_found(uri) from None

    async def _call(self, operation_id: str, arguments: Mapping[str, object]) -> dict[str, Any]:
        who = visitor()
        with who.lane.call():
            outcome = await self._app.pipeline.call(who.caller, operation_id, arguments)
        answer: dict[str, Any] = outcome.output.model_dump(mode="json", exclude_none=True)
        return answer


def context_arguments(uri: ContextUri) -> dict[str, object]:
    parameters = {"space": uri.space, "runtime": uri.runtime, "topic": uri.topic, "detail": uri.detail}
    return {name: value for name, value in parameters.items() if value is not None}


def not_found(uri: str) -> MCPError:
    return MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": uri[:2_048]})


def refused(error: SpacesError) -> MCPError:
    """An error where the protocol has no error result: resources, subscriptions, lists."""
    code = types.INVALID_REQUEST
    if isinstance(error, InvalidInput | NotFound | Ambiguous):
        code = types.INVALID_PARAMS
    elif isinstance(error, Internal) or error.retryable:
        code = types.INTERNAL_ERROR
    known = described(error)
    return MCPError(code, f"{known['message']} {known['hint']}".strip(), known)


def _as_text(uri: str, document: Mapping[str, Any]) -> types.TextResourceContents:
    return types.TextResourceContents(uri=uri, mime_type="application/json", text=as_json(document))


def _as_file(uri: str, file: Mapping[str, Any]) -> types.TextResourceContents | types.BlobResourceContents:
    """Text where the type says so and the bytes are; otherwise the bytes."""
    encoded, mime_type = str(file["content"]), str(file["content_type"])
    if file.get("next_offset") is not None:
        raise MCPError(
            types.INVALID_REQUEST, "The file is too large for a resource. Use storage_read with offset and limit."
        )
    if mime_type.startswith("text/") or mime_type == "application/json":
        with suppress(UnicodeDecodeError):
            text = base64.b64decode(encoded).decode()
            return types.TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    return types.BlobResourceContents(uri=uri, mime_type=mime_type, blob=encoded)


def _tree(namespace: str) -> dict[str, object]:
    """A space's id stands for its own namespace; any other name for one that is mounted in the default space."""
    if SPACE_ID.fullmatch(namespace):
        return {"space": namespace, "namespace": OWN_NAMESPACE}
    return {"namespace": namespace}
