"""One login: from screen to screen until nothing asks for a password or a code any more."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.pages.failures import translated
from mcp_spaces.browser.pages.page import OpenPage, without_query
from mcp_spaces.browser.pages.reading import parsed
from mcp_spaces.browser.pages.worlds import Worlds
from mcp_spaces.browser.paging import NAVIGATION_S
from mcp_spaces.browser.secrets.filling import LOOK_S, STILL_S, Filled, Filler, Value, check_actions, either
from mcp_spaces.browser.secrets.login_screen import READ_ONLY, Field, Kind, Screen, named, only, origin_of, survey
from mcp_spaces.browser.service import BrowserService
from mcp_spaces.core.context import Context
from mcp_spaces.core.facts import SecretUse
from mcp_spaces.errors import Denied, WrongState
from mcp_spaces.vault.model import NOT_CONFIDENTIAL, SEED, Entry, Opened, SecretValue
from mcp_spaces.vault.port import Secrets

if TYPE_CHECKING:
    from mcp_spaces.browser.pages.worlds import Place

SCREENS_MAX = 6
FAILED = 400
"""HTTP statuses from here on say that it did not work."""
CODES_MAX = 2
"""Codes that are tried: the second one is of a later time step."""
APPEAR_S = 10.0
"""How long the first field may take to be there while the page loads, and while it is at rest."""
APPEAR_STILL_S = 3.0


class Login:
    """One call. `tried` counts what was filled in."""

    def __init__(
        self,
        context: Context,
        live: LiveBrowser,
        opened: OpenPage,
        found: Worlds,
        entry: Entry,
        *,
        refs: Mapping[Kind, str],
        submit: str | None,
    ) -> None:
        """`refs` and `submit` name fields and the button of the first screen, where they are not to be found."""
        self._context = context
        self._refs = refs
        self._submit = submit
        self._opened = opened
        self._worlds = found
        self._entry = entry
        self._secrets = context.use(Secrets)
        self._browsers = context.use(BrowserService)
        self._filler = Filler(self._browsers, context.runtime.id, live, opened, found, entry.bindings)
        self._by_origin: dict[str, Opened] = {}
        self.tried: Counter[Kind] = Counter()
        self.screens = 0
        self.submitted = False
        self.refused: set[str] = set()
        self.note: str | None = None

    async def go(self) -> bool:
        """Whether nothing asks for a password or a code any more. Raises SpacesError, OutOfReachError."""
        screen, chosen = await self._first()
        submit = None if self._submit is None else parsed(self._submit)[1]
        while self.screens < SCREENS_MAX:
            fields = chosen or self._choose(screen)
            if not fields:
                break
            filled = await self._fill(screen, fields, submit)
            self.screens += 1
            self.submitted = filled.submitted
            self.refused |= set(filled.refused)
            for field in fields:
                self.tried[field.kind] += 1
            chosen, submit = [], None
            screen = await self._after(filled)
            if not self.submitted:
                self.note = "The page could not be sent off after it was filled in."
                break
        if not self.screens:
            raise self._nothing(screen)
        return self._is_in(screen)

    # The next screen

    async def _first(self) -> tuple[Screen, list[Field]]:
        """With what the caller chose on it; nothing: it is to be found."""
        screen = await survey(self._opened, self._worlds)
        self._check_origin(screen.documents[0].place)
        if self._refs:
            fields = await named(self._opened, self._worlds, self._refs)
            for field in fields:
                if field.obstacle is not None:
                    raise WrongState(f"The {field.kind} field: {field.obstacle}.", hint="Name another one (refs).")
            return screen, fields
        deadline, still_since = time.monotonic() + APPEAR_S, time.monotonic()
        while True:
            now = time.monotonic()
            if self._opened.is_waiting:
                still_since = now
            still_s = STILL_S if screen.fields else APPEAR_STILL_S
            # A frame that is on its way to another origin may hold a field until it is there.
            shown = screen.complete and screen.shows("username", "password", "totp")
            if shown or now > deadline or now - still_since > still_s:
                return screen, []
            self._opened.stirred.clear()
            await either(self._opened.stirred.wait(), LOOK_S)
            screen = await survey(self._opened, self._worlds)

    def _check_origin(self, place: Place | None) -> None:
        """Before anything is opened. Raises Denied (threats B01, B03, B09, B10)."""
        if place is None or not self._entry.bindings.permits(place.origin):
            where = "this page" if place is None else place.origin
            raise Denied(
                f"{self._entry.path} may not go to {where}.",
                hint="Go to an origin that it is bound to: vault_describe lists them.",
                rule="vault.origins",
            )

    def _choose(self, screen: Screen) -> list[Field]:
        """What to fill in on this screen; nothing: it is over. Raises WrongState (which of several?)."""
        if not screen.complete:
            return self._unseen(screen)
        password, code = screen.password(), only(screen.of("totp"))
        if password is not None and self.tried["password"]:
            self.note = "The site asks for the password again: it was not accepted, or something else is asked for too."
            return []
        if password is None and READ_ONLY in screen.obstacles("password"):
            return []
        username = screen.username_for(password)
        if password is None and (code is not None or self.tried["username"] or self.tried["password"]):
            username = None
        if code is not None and SEED not in self._entry.fields:
            self.note = None if password else "The site asks for a code, and the secret has no one-time seed."
            code = None
        if code is not None and self.tried["totp"] >= CODES_MAX:
            self.note = f"The site refused {CODES_MAX} codes."
            code = None
        found = [username if "username" in self._entry.fields else None, password, code]
        return [one for one in found if one is not None]

    def _unseen(self, screen: Screen) -> list[Field]:
        """Of fields that were not all looked at none is surely the right one (threat B12). Raises WrongState."""
        if not self.screens and screen.fields:
            raise WrongState(
                "This page has more fields than are looked at: none is surely the right one.",
                hint="If it is a login, take a snapshot and name its fields (refs).",
            )
        return []

    async def _after(self, filled: Filled) -> Screen:
        """The screen to go on from. What other hosts would have given it is loaded now, where that does no harm."""
        opened = self._opened
        onward = filled.left_from
        if onward is None:
            if not filled.refused or opened.landed_by != "GET":
                return filled.screen
            onward = opened.page.url
        if not self._may_go_to(onward):
            if filled.left_from is not None:
                self.note = "The page was left: it had the secret in its address, or did not load."
            return filled.screen if filled.left_from is None else await survey(opened, self._worlds)
        navigations = opened.navigations
        with translated("load the next page"):
            await opened.page.goto(onward, wait_until="domcontentloaded", timeout=NAVIGATION_S * 1000)
        await opened.settle(navigations=navigations)
        return await survey(opened, self._worlds)

    def _may_go_to(self, url: str) -> bool:
        """A page could hide the secret in an address. The secret's own server could too, but has it anyway: what it
        redirects to, such as an application that waits for a ticket, is loaded with its query."""
        origin, sent_by = origin_of(url), self._opened.redirected_by
        if origin is None or self._context.redactor.text(url) != url:
            return False
        if self._entry.bindings.permits(origin) and url == without_query(url):
            return True
        sender = None if sent_by is None else origin_of(sent_by)
        return sender is not None and self._entry.bindings.permits(sender)

    def _is_in(self, screen: Screen) -> bool:
        at = screen.documents[0].place if screen.documents else None
        proven = self.tried["password"] or self.tried["totp"]
        if not proven and self.note is None:
            self.note = "No field for a password came up." if not screen.obstacles("password") else self._why(screen)
        if self.refused and at is None:
            self.note = "The page went where the secret may not go, and was refused: see refused."
        asked, status = screen.asked, self._opened.status or 0
        if asked is not None and self.note is None:
            word = "password" if asked.kind == "password" else "code"
            self.note = f"The page still shows a field for the {word}: it was probably not accepted."
        elif status >= FAILED and self.note is None:
            self.note = f"The site answered with HTTP {status}."
        elif at is not None and not screen.complete and self.note is None:
            self.note = "The page has more fields than are looked at: it may still ask for a password or a code."
        seen = at is not None and screen.complete
        return bool(proven and self.submitted and seen and asked is None and status < FAILED)

    def _nothing(self, screen: Screen) -> WrongState:
        if not screen.fields:
            status = self._opened.status or 0
            why = f": the site answered with HTTP {status}" if status >= FAILED else ""
            return WrongState(
                f"There is no login on this page{why}.", hint="Take a snapshot; go to the login first (url)."
            )
        return WrongState(
            self.note or f"Nothing can be filled in here: {self._why(screen)}",
            hint="Take a snapshot; name fields (refs).",
        )

    @staticmethod
    def _why(screen: Screen) -> str:
        return "; ".join(f"{one.kind}: {one.obstacle}" for one in screen.fields if one.obstacle is not None) + "."

    # Filling

    async def _fill(self, screen: Screen, fields: list[Field], submit: str | None) -> Filled:
        context, bindings = self._context, self._entry.bindings
        origin = self._agreed(fields)
        last = fields[-1]
        button = screen.submit_for(last)
        check_actions(fields, submit, bindings)
        secret = any(one.kind == "password" for one in fields)
        if not self.screens:
            self._browsers.fills.count(self._entry.path)
        opened = await self._opened_for(origin)
        values = []
        for field in fields:
            content = await self._content(field.kind, opened, origin)
            values.append(Value(field, content, secret=field.kind not in NOT_CONFIDENTIAL))
        context.note(
            "browser.fill",
            {
                "secret": self._entry.path,
                "version": opened.entry.version,
                "origin": origin,
                "fields": [one.kind for one in fields],
                "fingerprint": opened.fingerprints.get("password") if secret else None,
            },
        )
        # What comes next cannot be known: only after the last thing that there is to fill in it may be nothing.
        is_last = SEED not in self._entry.fields if last.kind == "password" else last.kind == "totp"
        ref = submit or (None if button is None else str(button["ref"]))
        return await self._filler.fill(values, ref, before=screen, is_last=is_last)

    def _agreed(self, fields: list[Field]) -> str:
        """The one origin of all fields, which the secret is bound to. Raises Denied, WrongState."""
        places = [one.document.place for one in fields]
        for place in places:
            self._check_origin(place)
        origins = {place.origin for place in places if place is not None}
        if len(origins) != 1:
            raise WrongState("The fields are at several origins.", hint="Name the fields of one frame (refs).")
        return origins.pop()

    async def _opened_for(self, origin: str) -> Opened:
        if origin not in self._by_origin:
            context = self._context
            self._by_origin[origin] = await self._secrets.open(
                self._entry.path,
                scope=context.scope.vault,
                purpose=SecretUse.BROWSER_FILL,
                run_id=context.run_id,
                origin=origin,
            )
        return self._by_origin[origin]

    async def _content(self, kind: Kind, opened: Opened, origin: str) -> SecretValue:
        if kind == "totp":
            context = self._context
            await context.progress(self.screens, None, "waiting for a one-time code")
            code = await self._secrets.code(
                self._entry.path, scope=context.scope.vault, run_id=context.run_id, origin=origin
            )
            content = code.value
        else:
            found = opened.field(kind)
            if found is None:
                raise WrongState(f"{self._entry.path} has no {kind}.", hint="A person can add it: vault update.")
            content = found
        if kind not in NOT_CONFIDENTIAL:
            self._context.redactor.learn(content.reveal(), name=content.name)
        return content
