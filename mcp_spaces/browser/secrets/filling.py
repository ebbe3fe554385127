"""Putting secrets into a page: the browser reaches only where they may go, nobody looks meanwhile, and when it is over
no document holds them any more (`emptying.py`). What goes wrong in between closes the browser (docs/decisions/0012)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.pages.failures import translated
from mcp_spaces.browser.pages.page import OpenPage
from mcp_spaces.browser.pages.page_script import element
from mcp_spaces.browser.pages.worlds import OutOfReachError, Worlds
from mcp_spaces.browser.secrets.emptying import BROKE_OFF, Emptying
from mcp_spaces.browser.secrets.login_screen import Field, Screen, origin_of, survey
from mcp_spaces.browser.service import BrowserService
from mcp_spaces.errors import SpacesError, WrongState
from mcp_spaces.network.model import HTTP_PORT, Target
from mcp_spaces.vault.model import Bindings, SecretValue

log = logging.getLogger(__name__)

SUBMIT_S = 15.0
"""How long a site may take to answer what was sent off."""
STILL_S = 1.0
"""A page that is at rest, and the same as before, for so long has given its answer."""
LOOK_S = 0.1
CLICK_S = 5.0


class NotFilledError(Exception):
    """Refused by what is looked at last, with the reason in our words; no secret is in the page."""


@dataclass(frozen=True, slots=True)
class Value:
    """`secret` says whether it has to be kept so: a user name need not."""

    field: Field
    content: SecretValue
    secret: bool


@dataclass(frozen=True, slots=True)
class Filled:
    """`screen` is what the site answered with. `refused`: hosts that the page wanted meanwhile, and did not reach."""

    screen: Screen
    submitted: bool
    refused: tuple[str, ...] = ()
    left_from: str | None = None
    """The page still held the secret, or waited for an answer, and was left: where it was, or was sent on to."""


class Filler:
    """For one login in one page."""

    def __init__(
        self,
        browsers: BrowserService,
        runtime_id: str,
        live: LiveBrowser,
        opened: OpenPage,
        worlds: Worlds,
        bindings: Bindings,
    ) -> None:
        self._browsers = browsers
        self._runtime_id = runtime_id
        self._live = live
        self._opened = opened
        self._worlds = worlds
        self._bindings = bindings

    async def fill(self, values: Sequence[Value], submit: str | None, *, before: Screen, is_last: bool) -> Filled:
        """Fill in one screen, send it off and wait for the next. `submit`: a ref beside the last field.
        `is_last`: the screen after this one may be without any field.

        Raises WrongState: nothing was filled in, or the browser was closed with what it held.
        """
        try:
            if not any(one.secret for one in values):
                return await self._set_and_send(values, submit, before, is_last)
            async with self._browsers.gateway.narrowed(
                self._runtime_id, lambda target: reaches(self._bindings, target)
            ) as narrowed:
                await self._live.scripting.fill_begins(self._opened, self._live.pages.values())
                narrowed.known |= {str(urlsplit(one).hostname) for one in self._bindings.origins}
                self._live.used({one.content.reveal(): one.content.name for one in values if one.secret})
                self._live.begin_secret()
                try:
                    filled = await self._fill_and_empty(values, submit, before, is_last)
                except NotFilledError:
                    await self._live.end_secret()
                    raise
                except BaseException as problem:
                    # What it says may be the secret (threat L08); what it is may not.
                    log.warning("a browser is closed: %s (%s)", BROKE_OFF, type(problem).__name__)
                    await self._browsers.fail(self._runtime_id, reason=BROKE_OFF)
                    if not isinstance(problem, Exception):
                        raise
                    raise _broke_off() from None
                await self._live.end_secret()
                return Filled(filled.screen, filled.submitted, tuple(sorted(narrowed.refused)), filled.left_from)
        except NotFilledError as refused:
            raise WrongState(f"Not filled in: {refused}.", hint="Take a snapshot; is this the login?") from None
        except OutOfReachError:
            raise WrongState("The page changed meanwhile; nothing was filled in.", hint="Try again.") from None

    async def _fill_and_empty(
        self, values: Sequence[Value], submit: str | None, before: Screen, is_last: bool
    ) -> Filled:
        emptying = Emptying(
            self._opened,
            self._worlds,
            secrets=[one.content.reveal() for one in values if one.secret],
            passwords=[one.content.reveal() for one in values if one.secret and one.field.kind == "password"],
        )
        try:
            filled = await self._set_and_send(values, submit, before, is_last)
        except NotFilledError:
            await emptying.empty()
            raise
        left = await emptying.empty()
        return Filled(filled.screen, filled.submitted, left_from=left)

    # Setting

    async def _set_and_send(self, values: Sequence[Value], submit: str | None, before: Screen, is_last: bool) -> Filled:
        navigations = self._opened.navigations
        for one in values:
            await self._set(one)
        last = values[-1].field
        submitted = last.kind == "totp" and await self._has_moved(before, navigations)
        if not submitted:
            submitted = await self._send(last, submit, navigations)
        screen = await self._next(before, navigations, is_last=is_last)
        return Filled(screen, submitted)

    async def _set(self, value: Value) -> None:
        document = value.field.document
        # Once more from the browser: the document may be another one by now (threat B04).
        place = await self._worlds.place(document.token)
        if place is None or document.place is None or place.origin != document.place.origin:
            raise NotFilledError("the page is another one now")
        expected = value.field.expected(value.content.name if value.secret else None)
        answer = await self._worlds.call(place.world, "set", expected, value.content.reveal())
        if "refused" in answer:
            raise NotFilledError(f"{value.field.kind}: {answer['refused']}")
        if not answer.get("set"):
            # It was in the page, and the page did something with it (threat B13).
            raise RuntimeError(BROKE_OFF)

    async def _send(self, field: Field, submit: str | None, navigations: int) -> bool:
        """Whether it could be pressed. What the page says to it, if anything, is not looked at."""
        frame, token = field.document.frame, field.document.token
        timeout = CLICK_S * 1000
        if submit is not None and await self._pressed(
            frame.click(element(submit, document=token), timeout=timeout), navigations
        ):
            return True
        if self._opened.navigations != navigations or self._opened.crashed:
            return False
        pressing = frame.press(element(field.refs[-1], document=token), "Enter", timeout=timeout)
        return await self._pressed(pressing, navigations)

    async def _pressed(self, pressing: Awaitable[None], navigations: int) -> bool:
        """False as soon as the page is another one, and what was to be pressed is gone with it."""

        async def press() -> None:
            with translated("send"):
                await pressing

        task = asyncio.ensure_future(press())
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=LOOK_S)
                if self._opened.navigations != navigations:
                    await asyncio.wait({task}, timeout=STILL_S)
                    break
        finally:
            task.cancel()
            await asyncio.wait({task})
        return not task.cancelled() and task.exception() is None

    # What comes next

    async def _has_moved(self, before: Screen, navigations: int) -> bool:
        """Whether a page sent a code off by itself, at its last character."""
        await self._opened.settle(navigations=navigations)
        if self._opened.navigations != navigations or self._opened.is_waiting:
            return True
        return (await survey(self._opened, self._worlds)).signature != before.signature

    async def _next(self, before: Screen, navigations: int, *, is_last: bool) -> Screen:
        """The screen after this one; the same one where the site says nothing for a second, or at the deadline."""
        deadline, still_since = time.monotonic() + SUBMIT_S, time.monotonic()
        while True:
            settled = await self._opened.settle(navigations=navigations)
            screen = await self._surveyed()
            now = time.monotonic()
            if not settled or self._opened.is_waiting:
                still_since = now
            elif screen is not None and _has_come(screen, after=before, is_last=is_last):
                return screen
            if now > deadline or (screen is not None and now - still_since > STILL_S):
                return screen or Screen((), (), complete=False)
            self._opened.stirred.clear()
            await either(self._opened.stirred.wait(), LOOK_S)

    async def _surveyed(self) -> Screen | None:
        try:
            return await survey(self._opened, self._worlds)
        except (SpacesError, OutOfReachError):
            if self._opened.page.is_closed() or self._opened.crashed:
                raise
            return None


def _has_come(screen: Screen, *, after: Screen, is_last: bool) -> bool:
    """Without a field to fill in it may be one whose next field is still being made, or comes to be enabled; and what
    was not all looked at may be on its way to another origin."""
    is_another = screen.complete and screen.signature != after.signature
    return is_another and (screen.shows("username", "password", "totp") or (is_last and screen.asked is None))


def reaches(bindings: Bindings, target: Target) -> bool:
    """Whether a page that holds the secret may ask for this: over TLS, but for what never leaves this machine."""
    if target.tunnel:
        return bindings.permits(target.origin)
    return bindings.permits(f"http://{target.host}" if target.port == HTTP_PORT else f"http://{target}")


def _broke_off() -> WrongState:
    return WrongState(
        "Signing in broke off, and the browser was closed with what it held.",
        hint="browser_launch starts it again. Look at the page before the next try.",
    )


async def either(waiting: Awaitable[object], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await waiting
    except TimeoutError:
        return


def check_actions(fields: Sequence[Field], submit: str | None, bindings: Bindings) -> None:
    """That forms go where the secret may. Raises WrongState (threats B05, B08)."""
    for field in fields:
        leads = [field.action]
        for one in field.document.submits:
            native = one.get("native") and one.get("form") == field.form
            if native or one.get("ref") == submit:
                leads.append(one.get("action"))
        for action in leads:
            if action is None or action.lower().startswith("javascript:"):
                continue
            origin = origin_of(action)
            if origin is None or not bindings.permits(origin):
                raise WrongState(
                    f"The form goes to {origin or 'no web address'}, where the secret may not go.",
                    hint="If that is right, a person can bind the secret to it: mcp-spaces vault update.",
                )
