"""browser.login and browser.logout: a secret of the vault signs a browser in, and nobody sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from mcp_spaces.browser.acting import outcome, turn
from mcp_spaces.browser.answers import ActionOutput, InPage, Ref
from mcp_spaces.browser.forgetting import forget
from mcp_spaces.browser.pages.failures import in_time, translated
from mcp_spaces.browser.pages.loading import landing
from mcp_spaces.browser.pages.worlds import OutOfReachError, worlds
from mcp_spaces.browser.paging import NAVIGATION_S, WebAddress
from mcp_spaces.browser.secrets.login import Login
from mcp_spaces.browser.secrets.login_screen import KINDS, Kind
from mcp_spaces.browser.service import BrowserService
from mcp_spaces.browser.unreached import in_the_gateways_words
from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import BrowserFacts, BrowserUse, SecretFacts, SecretUse
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.place import InRuntime
from mcp_spaces.core.scope import Scope
from mcp_spaces.core.spelling import Spelled
from mcp_spaces.errors import InvalidInput, SpacesError, WrongState
from mcp_spaces.vault.model import Kind as SecretKind
from mcp_spaces.vault.model import VaultPath
from mcp_spaces.vault.port import Secrets


class Refs(BaseModel):
    """Fields of the first screen, where they are not found by themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    username: Ref | None = None
    password: Ref | None = None
    totp: Ref | None = None
    submit: Ref | None = None
    """Clicked instead of the form's own button."""

    def fields(self) -> Mapping[Kind, str]:
        found: dict[Kind, str | None] = {"username": self.username, "password": self.password, "totp": self.totp}
        return {kind: ref for kind, ref in found.items() if ref is not None}


class LoginInput(InPage):
    secret: VaultPath
    url: WebAddress | None = None
    """Go there first."""
    refs: Refs = Refs()


class LoginOutput(ActionOutput):
    signed_in: bool
    """No field asks for a password or a code any more, and the site answered with no HTTP error."""
    screens: int
    """Sent off."""
    filled: tuple[str, ...]
    """username, password, code; never their values."""
    note: str | None = None
    refused: tuple[str, ...] | None = None
    """Hosts that the page wanted while the secret was in it: reload if something is missing."""


class LogoutInput(InRuntime):
    origin: (
        Annotated[
            str,
            StringConstraints(pattern=r"^https?://[a-z0-9.\[\]:-]{1,260}$"),
            Spelled("an origin such as https://example.com, without a path"),
        ]
        | None
    ) = None
    """Only what this origin stored. Left out: everything, in the profile too."""


class LogoutOutput(Answer):
    forgotten: str
    cookies: int


async def login(context: Context, given: LoginInput) -> LoginOutput:
    """Raises NotFound (secret, page), Denied (origin), WrongState, QuotaExceeded (too many tries), RuntimeUnavailable."""
    browsers = context.use(BrowserService)
    async with turn(context) as live:
        if live.recording.active:
            raise WrongState(
                "This browser records, and a recording would hold the secret.",
                hint="End it: browser_record_stop. Or launch one without record.",
            )
        # Whatever was left of one: from here on there is none.
        await live.recording.discard_before_secret()
        opened = await live.usable(given.page)
        live.scripting.refuse_secret(opened)
        entry = await context.use(Secrets).find(given.secret, scope=context.scope.vault)
        if entry.kind is not SecretKind.LOGIN:
            raise InvalidInput(f"{entry.path} is no login.", hint="Only a login is filled in.")
        before = opened.page.url
        if given.url is not None:
            navigations = opened.navigations
            go = "go to the login"
            with in_the_gateways_words(live, opened, go), translated(go):
                async with landing(opened):
                    await opened.page.goto(given.url, wait_until="domcontentloaded", timeout=NAVIGATION_S * 1000)
            await opened.settle(navigations=navigations)
        with translated("sign in"):
            async with worlds(live.live.context, opened.page) as found:
                attempt = Login(context, live, opened, found, entry, refs=given.refs.fields(), submit=given.refs.submit)
                try:
                    signed_in = await attempt.go()
                except OutOfReachError:
                    raise WrongState("The page changed while it was looked at.", hint="Try again.") from None
        note = attempt.note
        if signed_in:
            browsers.fills.succeeded(entry.path)
            try:
                await browsers.keep_profile(context.runtime.id)
            except (SpacesError, TimeoutError):
                note = "Signed in, but the profile could not be kept now; browser_stop tries again."
        settled = await opened.settle(navigations=opened.navigations)
        acted = await outcome(live, opened, before=before, settled=settled, whole=True)
        return LoginOutput(
            **acted.model_dump(),
            signed_in=signed_in,
            screens=attempt.screens,
            filled=tuple(_words(attempt.tried)),
            note=note,
            refused=tuple(sorted(attempt.refused)) or None,
        )


def _words(tried: Mapping[Kind, int]) -> list[str]:
    return ["code" if kind == "totp" else kind for kind in KINDS if tried.get(kind)]


async def logout(context: Context, given: LogoutInput) -> LogoutOutput:
    """What sites stored is gone from the browser, and from its profile. Pages that were there are blank."""
    browsers = context.use(BrowserService)
    async with turn(context) as live:
        with in_time("sign out", NAVIGATION_S):
            cookies = await forget(live, given.origin)
        await browsers.keep_profile(context.runtime.id)
        return LogoutOutput(forgotten=given.origin or "everything", cookies=cookies)


def _needs_vault(scope: Scope) -> str | None:
    return None if scope.vault.allow else "scope.vault"


def _fills(given: LoginInput) -> SecretFacts:
    return SecretFacts(given.secret, SecretUse.BROWSER_FILL)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="browser.login",
        summary="Sign in with a login of the vault; nobody sees it.",
        input=LoginInput,
        output=LoginOutput,
        effect=Effect.INTERACTS,
        facts=_fills,
        refused_by=_needs_vault,
        handler=login,
        needs_running_space=True,
        example={"space": "default", "secret": "prod/crm", "url": "https://crm.example.com/login"},
    ),
    Operation(
        id="browser.logout",
        summary="Forget what sites stored: cookies, local storage, databases.",
        input=LogoutInput,
        output=LogoutOutput,
        effect=Effect.INTERACTS,
        facts=lambda _: BrowserFacts(BrowserUse.INTERACT),
        handler=logout,
        listed=False,
        idempotent=True,
        needs_running_space=True,
        example={"space": "default"},
    ),
)
