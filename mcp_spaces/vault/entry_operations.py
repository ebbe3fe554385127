"""Asking people for a secret: the agent gets an address for a person, and never the value."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.ids import new_id
from mcp_spaces.core.operation import Operation
from mcp_spaces.core.place import InSpace
from mcp_spaces.core.scope import Scope
from mcp_spaces.errors import Denied, NotFound
from mcp_spaces.vault.entry_requests import LIFETIME_S, EntryRequest, EntryRequests, EntryState, check_same
from mcp_spaces.vault.model import Bindings, HeaderName, Kind, Origin, OriginPattern, VaultPath
from mcp_spaces.vault.service import Vault

LONGEST_WAIT_S = 300.0
PROGRESS_S = 5.0
EXAMPLE_REQUEST = "ent_aaaaaaaaaaaaaaaaaaaaaaaaaa"


class RequestEntryInput(InSpace):
    path: VaultPath
    kind: Kind = Kind.VALUE
    origins: tuple[Origin, ...] = Field(default=(), max_length=50)
    """Where it may be sent: https://api.example.com"""
    origin_patterns: tuple[OriginPattern, ...] = Field(default=(), max_length=20)
    headers: tuple[HeaderName, ...] = Field(default=(), max_length=20)
    reason: str = Field(default="", max_length=200)
    """For the person; at most 200 characters."""


class EntryRequestView(BaseModel):
    """How a request stands. `url` is for a person: show it to them, and wait with vault.wait_entry."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    request: str
    path: str
    state: EntryState
    version: int | None = None
    """What was stored."""
    expires_at: str
    url: str | None = None
    """Works once."""

    @property
    def page_for_a_person(self) -> str | None:
        """What a client may be asked to open; None in an answer that was kept, where the address is blotted out."""
        return None if self.url is None or "[redacted" in self.url else self.url


class WaitEntryInput(InSpace):
    request: str = Field(min_length=1, max_length=64)
    timeout_s: float = Field(default=60, ge=0, le=LONGEST_WAIT_S)
    """At most 300."""


async def request_entry(context: Context, wanted: RequestEntryInput) -> EntryRequestView:
    vault = context.use(Vault)
    try:
        before = await vault.find(wanted.path, scope=context.scope.vault)
    except NotFound:
        before = None
    request = EntryRequest(
        id=new_id("ent"),
        run_id=context.run_id,
        principal_id=context.caller.principal_id,
        asked_by=context.caller.name,
        space_id=context.space.id,
        space=context.space.name,
        path=wanted.path,
        kind=wanted.kind,
        bindings=Bindings(origins=wanted.origins, origin_patterns=wanted.origin_patterns, headers=wanted.headers),
        reason=wanted.reason,
        version=0 if before is None else before.version,
        expires_at=context.clock.now() + LIFETIME_S,
    )
    check_same(request, before)
    url = await context.use(EntryRequests).ask(request)
    return _view(request, url=url)


async def wait_entry(context: Context, wanted: WaitEntryInput) -> EntryRequestView:
    """Until a person has answered, or the time is over: then `state` is still open. Raises NotFound."""
    requests = context.use(EntryRequests)
    began = context.clock.monotonic()
    while True:
        left_s = wanted.timeout_s - (context.clock.monotonic() - began)
        request = await requests.outcome(
            wanted.request, space_id=context.space.id, timeout_s=max(min(left_s, PROGRESS_S), 0)
        )
        if request.state is not EntryState.OPEN or left_s <= 0:
            return _view(request)
        await context.progress(wanted.timeout_s - left_s, wanted.timeout_s, "A person has not answered yet.")


def _check_path(wanted: RequestEntryInput, scope: Scope) -> None:
    # Whether it is there makes no difference (threat V08).
    if not scope.vault.permits(wanted.path):
        raise Denied(
            "This path is not in what may be used here.",
            hint="context_get shows the mount's prefixes; a person can widen it.",
            rule="scope.vault",
        )


def _view(request: EntryRequest, *, url: str | None = None) -> EntryRequestView:
    return EntryRequestView(
        request=request.id,
        path=request.path,
        state=request.state,
        version=request.stored_version,
        expires_at=datetime.fromtimestamp(request.expires_at, UTC).isoformat(timespec="seconds"),
        url=url,
    )


def _needs_vault(scope: Scope) -> str | None:
    return None if scope.vault.allow else "scope.vault"


REQUEST_ENTRY = Operation(
    id="vault.request_entry",
    summary="Ask a person to enter a secret on a page that works once; you never see it.",
    input=RequestEntryInput,
    output=EntryRequestView,
    effect=Effect.WRITES,
    handler=request_entry,
    refused_by=_needs_vault,
    check_scope=_check_path,
    # The address lets a person in: it goes to the caller, and into no record.
    shows_keys=True,
    listed=False,
    example={"path": "prod/github", "kind": "api_key", "origins": ["https://api.github.com"]},
)
WAIT_ENTRY = Operation(
    id="vault.wait_entry",
    summary="Wait until a person has entered a secret that was asked for.",
    input=WaitEntryInput,
    output=EntryRequestView,
    effect=Effect.OBSERVES,
    handler=wait_entry,
    refused_by=_needs_vault,
    idempotent=True,
    listed=False,
    example={"request": EXAMPLE_REQUEST, "timeout_s": 60},
)
