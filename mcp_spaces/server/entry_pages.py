"""The page on which a person enters one secret: a plain form, no script, no cookie, over once it was sent.

Who has the address may answer, and sees what is asked for and no secret. A form counts only when it was shown before
and is sent by the page itself: the form's own number and the browser's word for where it comes from say so.
"""

from __future__ import annotations

import hmac
import html
import re
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from mcp_spaces.errors import InvalidInput, NotFound, SpacesError
from mcp_spaces.server.http_answer import Answer, values
from mcp_spaces.server.text import as_prose

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Receive, Scope

    from mcp_spaces.server.port import Entries, EntryRequest

ENTRY_PATH = re.compile(r"/entries/([A-Za-z0-9_-]{16,128})")
BODY_BYTES_MAX = 1 << 20
FORMS_MAX = 1_000
"""Forms whose numbers are remembered; the oldest of more are shown again."""

HEADERS = {
    "content-security-policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Beside what every answer carries: no-store, no-referrer, nosniff."""

_LABELS = {"username": "User name", "password": "Password", "totp": "Seed of one-time codes",
           "value": "Value", "token": "Token"}  # fmt: skip
_OPTIONAL = frozenset({"totp", "username"})
_LINES = frozenset({"value"})
"""Fields that may have several lines, such as a private key."""


class EntryPages:
    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._forms: OrderedDict[str, str] = OrderedDict()

    async def serve(self, token: str, scope: Scope, receive: Receive, answer: Answer) -> None:
        method = scope["method"]
        if method not in ("GET", "POST"):
            await answer.json(405, {"error": "method", "message": "GET and POST only."}, [(b"allow", b"GET, POST")])
            return
        try:
            request = self._entries.shown(token)
            if method == "GET":
                await self._answer(answer, 200, _form(request, number=self._number(token)))
                return
            given = await _sent(scope, receive)
            if given is None or not self._is_ours(token, given.pop("form", "")):
                await self._answer(
                    answer, 403, _told("This form was not sent by its own page. Open the address again.")
                )
                return
            if given.pop("answer", "") == "refuse":
                await self._entries.refuse(token)
                await self._answer(answer, 200, _told("Nothing was stored, and the agent is told so. Close this page."))
                return
            await self._store(token, request, given, answer)
        except SpacesError as error:
            await self._answer(
                answer, 404 if isinstance(error, NotFound) else 409, _told(f"{error.message} {error.hint}")
            )

    async def _store(self, token: str, request: EntryRequest, given: dict[str, str], answer: Answer) -> None:
        try:
            await self._entries.enter(token, given)
        except InvalidInput as problem:
            # Never what was typed: only that it does not fit.
            again = _form(request, number=self._number(token), problem=f"{problem.message} {problem.hint}")
            await self._answer(answer, 422, again)
            return
        self._forms.pop(token, None)
        await self._answer(
            answer, 200, _told("Stored. The agent is told that it is there, and nothing more. Close this page.")
        )

    def _number(self, token: str) -> str:
        number = self._forms.setdefault(token, secrets.token_urlsafe(16))
        while len(self._forms) > FORMS_MAX:
            self._forms.popitem(last=False)
        return number

    def _is_ours(self, token: str, number: str) -> bool:
        return hmac.compare_digest(self._forms.get(token, "").encode(), number.encode()) and bool(number)

    @staticmethod
    async def _answer(answer: Answer, status: int, page: str) -> None:
        await answer.html(status, page, HEADERS)


def is_from_its_page(scope: Scope) -> bool:
    """A form of a page that sends no referrer has the origin `null`; then the browser's own word counts, which no page
    can write."""
    return values(scope, b"origin") == ["null"] and values(scope, b"sec-fetch-site") == ["same-origin"]


async def _sent(scope: Scope, receive: Receive) -> dict[str, str] | None:
    """The form's fields, or None where it is no form that we know."""
    kinds = values(scope, b"content-type")
    sites = values(scope, b"sec-fetch-site")
    if kinds != ["application/x-www-form-urlencoded"] or sites not in ([], ["same-origin"]):
        return None
    content = b""
    more = True
    while more:
        message = await receive()
        content += message.get("body", b"")
        if message["type"] == "http.disconnect" or len(content) > BODY_BYTES_MAX:
            return None
        more = message.get("more_body", False)
    try:
        pairs = parse_qsl(
            content.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=16, errors="strict"
        )
    except ValueError:
        return None
    # A browser writes each line end of a form as two characters.
    fields = {name: text.replace("\r\n", "\n") for name, text in pairs}
    return fields if len(fields) == len(pairs) else None


def _form(request: EntryRequest, *, number: str, problem: str = "") -> str:
    bindings = request.bindings
    rows = [
        ("Asked by", [request.asked_by]),
        ("Space", [request.space]),
        ("Path", [request.path]),
        ("Kind", [request.kind]),
        ("May be sent to", [*bindings.origins, *bindings.origin_patterns] or ["nowhere: it has no origin"]),
        ("In the headers", list(bindings.headers)),
        ("The agent says", [request.reason]),
        ("There is", [f"version {request.version} already, which is kept; what you leave empty stays as it is there"] if request.version else []),
    ]  # fmt: skip
    shown = "".join(f"<dt>{name}</dt>{_definitions(texts)}" for name, texts in rows if any(texts))
    fields = "".join(_field(name, is_new=not request.version) for name in request.fields)
    trouble = f"<p><strong>{_plain(problem)}</strong></p>" if problem else ""
    return _page(
        "An agent asks for a secret",
        f"<p>Enter it only if you expected this, and if the addresses below are the right ones."
        f" It goes into the vault of mcp-spaces on this machine; the agent can use it, and does not see it here.</p>"
        f"<dl>{shown}</dl>{trouble}"
        f'<form method="post" autocomplete="off"><input type="hidden" name="form" value="{number}">{fields}'
        '<p><button name="answer" value="store">Store</button>'
        ' <button name="answer" value="refuse" formnovalidate>Refuse</button></p></form>',
    )


def _field(name: str, *, is_new: bool) -> str:
    needed = " required" if is_new and name not in _OPTIONAL else ""
    if name in _LINES:
        box = f'<textarea name="{name}" rows="4" cols="60" spellcheck="false" autocomplete="off"{needed}></textarea>'
    else:
        kind = "text" if name == "username" else "password"
        box = f'<input type="{kind}" name="{name}" size="60" autocomplete="off"{needed}>'
    label = _LABELS[name] if needed else f"{_LABELS[name]} (may stay empty)"
    return f"<p><label>{label}<br>{box}</label></p>"


def _told(text: str) -> str:
    return _page("mcp-spaces", f"<p>{_plain(text)}</p>")


def _page(title: str, body: str) -> str:
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><h1>{title}</h1>{body}</html>\n'


def _definitions(texts: Iterable[str]) -> str:
    return "".join(f"<dd>{_plain(text)}</dd>" for text in texts)


def _plain(text: str) -> str:
    return html.escape(as_prose(text).replace("\n", " "))
