"""The form for a secret, byte for byte: which ones are taken, and what a person is shown to decide by."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from starlette.types import Message

from mcp_spaces.errors import InvalidInput, NotFound, WrongState
from mcp_spaces.server.entry_pages import BODY_BYTES_MAX, FORMS_MAX, EntryPages, is_from_its_page
from mcp_spaces.server.http_answer import Answer

TOKEN = "t" * 20
URLENCODED = (b"content-type", b"application/x-www-form-urlencoded")


@dataclass(frozen=True)
class Bindings:
    origins: tuple[str, ...] = ("https://api.example.com",)
    origin_patterns: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    asked_by: str = "agent"
    space: str = "work"
    path: str = "prod/api"
    kind: str = "login"
    bindings: Bindings = Bindings()
    reason: str = ""
    version: int = 0
    fields: tuple[str, ...] = ("username", "password", "totp")


@dataclass
class Asked:
    """Secrets that are asked for; any token of theirs is known."""

    wanted: Wanted = Wanted()
    refusal: Exception | None = None
    entered: list[dict[str, str]] = field(default_factory=list)
    address: Any = None

    def shown(self, token: str) -> Wanted:
        if not token.startswith("t"):
            raise NotFound("This page is over, or never was.", hint="Ask again.")
        return self.wanted

    async def enter(self, token: str, given: Mapping[str, str]) -> Wanted:
        if self.refusal is not None:
            raise self.refusal
        self.entered.append(dict(given))
        return self.wanted

    async def refuse(self, token: str) -> None:
        self.shown(token)

    async def wait_while_open(self) -> None:
        """They always are."""


class Browser:
    def __init__(self, **wanted: Any) -> None:
        self.asked = Asked(replace(Wanted(), **wanted))
        self.pages = EntryPages(self.asked)
        self.headers: dict[str, str] = {}

    async def request(
        self,
        method: str,
        *body: bytes,
        token: str = TOKEN,
        headers: Sequence[tuple[bytes, bytes]] = (URLENCODED,),
        leaves: bool = False,
    ) -> tuple[int, str]:
        waiting: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in body]
        waiting.append({"type": "http.disconnect"} if leaves else {"type": "http.request"})
        said: list[Message] = []

        async def receive() -> Message:
            return waiting.pop(0)

        async def send(message: Message) -> None:
            said.append(message)

        scope = {"type": "http", "method": method, "path": "/", "headers": list(headers)}
        await self.pages.serve(token, scope, receive, Answer(scope, send))
        self.headers = {name.decode(): value.decode() for name, value in said[0]["headers"]}
        return said[0]["status"], b"".join(one.get("body", b"") for one in said).decode()

    async def number(self, token: str = TOKEN) -> bytes:
        """Of the form, as it was shown."""
        _, page = await self.request("GET", token=token)
        found = re.search(r'name="form" value="([A-Za-z0-9_-]{22})"', page)
        assert found is not None, page
        return found[1].encode()


async def test_a_form_whose_page_was_never_shown_stores_nothing_without_a_number_either() -> None:
    browser = Browser()
    for body in (b"form=&password=x", b"password=x"):
        assert (await browser.request("POST", body))[0] == 403
    number = await browser.number()
    for body in (b"form=&password=x", b"password=x", b"form=" + number[:-1] + b"&password=x"):
        assert (await browser.request("POST", body))[0] == 403
    assert (await browser.request("POST", b"form=" + number + b"&password=x", token="t" * 21))[0] == 403
    assert browser.asked.entered == []
    assert (await browser.request("POST", b"form=" + number + b"&password=x"))[0] == 200
    assert browser.asked.entered == [{"password": "x"}]


async def test_the_oldest_of_very_many_forms_has_to_be_shown_again() -> None:
    browser = Browser()
    numbers = [await browser.number(f"t{index:020}") for index in range(FORMS_MAX + 1)]
    assert len(set(numbers)) == FORMS_MAX + 1
    sent = [
        (await browser.request("POST", b"form=" + numbers[index] + b"&password=x", token=f"t{index:020}"))[0]
        for index in (0, 1, FORMS_MAX)
    ]
    assert sent == [403, 200, 200]


NOT_FORMS: dict[str, tuple[bytes, ...]] = {
    "not UTF-8": (b"&password=%FF",),
    "not ASCII": (b"&password=\xff",),
    "no value": (b"&password",),
    "one name twice": (b"&password=a&password=b",),
    "many fields": (b"&" + b"&".join(b"f%d=x" % number for number in range(16)),),
    "more than a secret": (b"&password=", b"x" * BODY_BYTES_MAX),
}


@pytest.mark.parametrize("kind", NOT_FORMS)
async def test_what_no_form_of_ours_would_send_is_not_taken(kind: str) -> None:
    browser = Browser()
    number = await browser.number()
    assert (await browser.request("POST", b"form=" + number, *NOT_FORMS[kind]))[0] == 403
    assert browser.asked.entered == []


async def test_a_form_that_does_not_arrive_whole_is_not_taken() -> None:
    browser = Browser()
    number = await browser.number()
    await browser.request("POST", b"form=" + number + b"&password=half", leaves=True)
    for headers in ((), (URLENCODED, URLENCODED)):
        await browser.request("POST", b"form=" + number + b"&password=x", headers=headers)
    assert browser.asked.entered == []


async def test_a_large_secret_of_several_lines_is_taken_as_it_was_typed() -> None:
    browser = Browser(kind="value", fields=("value",))
    body = b"form=" + await browser.number() + b"&value="
    parts = (body, b"a%0D%0Ab%0D", b"%C3%A9+", b"x" * (BODY_BYTES_MAX - len(body) - 18))
    assert (await browser.request("POST", *parts))[0] == 200
    (entered,) = browser.asked.entered
    assert entered["value"].startswith("a\nb\ré x") and len(parts[3]) == len(entered["value"]) - 6


async def test_what_does_not_fit_is_said_on_a_form_that_may_be_sent_again() -> None:
    browser = Browser()
    number = await browser.number()
    browser.asked.refusal = InvalidInput("The seed <b>is</b> none.", hint="Leave it empty.")
    status, page = await browser.request("POST", b"form=" + number + b"&totp=hunter2")
    assert (status, number.decode() in page, "hunter2" in page) == (422, True, False)
    assert "<strong>The seed &lt;b&gt;is&lt;/b&gt; none. Leave it empty.</strong>" in page
    assert "<strong>" not in (await browser.request("GET"))[1]
    browser.asked.refusal = WrongState("The vault is locked.", hint="Unlock it.")
    status, page = await browser.request("POST", b"form=" + number + b"&password=x")
    assert (status, "The vault is locked. Unlock it." in page) == (409, True)
    assert (await browser.request("GET", token="unknown"))[0] == 404
    assert (await browser.request("DELETE"))[0] == 405


async def test_every_page_says_what_a_browser_may_do_with_it() -> None:
    browser = Browser()
    await browser.request("GET")
    own = {
        "content-security-policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        "x-frame-options": "DENY",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "content-type": "text/html; charset=utf-8",
    }
    for token in (TOKEN, "unknown"):
        await browser.request("GET", token=token)
        assert own.items() <= browser.headers.items()


async def test_a_person_sees_where_the_secret_may_go() -> None:
    everywhere = Bindings(("https://a.example",), ("https://*.b.example",), ("x-api-key",))
    _, page = await Browser(bindings=everywhere, kind="api_key", fields=("token",)).request("GET")
    for told in ("https://a.example", "https://*.b.example", "x-api-key", "api_key", "agent", "work", "prod/api"):
        assert f"<dd>{told}</dd>" in page
    _, page = await Browser(bindings=Bindings(())).request("GET")
    assert "<dd>nowhere: it has no origin</dd>" in page
    for absent in ("In the headers", "The agent says", "There is"):
        assert absent not in page


async def test_only_the_user_name_can_be_read_over_a_shoulder_and_only_what_is_needed_has_to_be_typed() -> None:
    def boxes(page: str) -> dict[str, tuple[str, bool]]:
        found = re.findall(r'<input type="([a-z]+)" name="([a-z]+)" size="60" autocomplete="off"( required)?>', page)
        return {name: (kind, bool(required)) for kind, name, required in found}

    _, page = await Browser().request("GET")
    assert boxes(page) == {"username": ("text", False), "password": ("password", True), "totp": ("password", False)}
    assert page.count("(may stay empty)") == 2
    _, page = await Browser(version=3).request("GET")
    assert boxes(page)["password"] == ("password", False)
    assert "version 3 already" in page
    _, page = await Browser(kind="value", fields=("value",)).request("GET")
    assert re.search(r'<textarea name="value"[^>]* required></textarea>', page)


@pytest.mark.parametrize(
    ("origins", "sites", "own"),
    [
        ([b"null"], [b"same-origin"], True),
        ([b"null"], [], False),
        ([b"null"], [b"cross-site"], False),
        ([b"null"], [b"same-origin", b"cross-site"], False),
        ([b"null", b"null"], [b"same-origin"], False),
        ([b"https://evil.test"], [b"same-origin"], False),
        ([], [b"same-origin"], False),
    ],
)
def test_n20_an_origin_of_null_counts_by_the_browsers_own_word_alone(
    origins: list[bytes], sites: list[bytes], own: bool
) -> None:
    headers = [(b"origin", one) for one in origins] + [(b"sec-fetch-site", one) for one in sites]
    assert is_from_its_page({"type": "http", "headers": headers}) is own
