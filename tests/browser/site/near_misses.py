"""Addresses that look like `https://app.test` (B01, B09, B10), and what a filler bound to that origin has to say."""

from __future__ import annotations

from dataclasses import dataclass

BOUND = "https://app.test"
PATH = "/plain"


@dataclass(frozen=True, slots=True)
class NearMiss:
    """`origin`: what Chromium says once it was asked to open `url`; empty where it has none or does not get there.
    `fills`: whether a fill is right there. Where the scheme is not a web page's, opening has to be refused too."""

    url: str
    origin: str
    why: str
    fills: bool = False

    @property
    def is_web(self) -> bool:
        return self.url.partition(":")[0].lower() in ("http", "https")


NEAR_MISSES = (
    NearMiss("https://app.test/plain", BOUND, "the bound origin itself", fills=True),
    NearMiss("https://app.test:443/plain", BOUND, "the port that https means anyway", fills=True),
    NearMiss("HTTPS://APP.TEST/plain", BOUND, "upper case, which the browser lowers", fills=True),
    NearMiss("https://APP.test/plain?x=https://evil.test", BOUND, "another origin in the query", fills=True),
    NearMiss("https://app.test/plain#@evil.test", BOUND, "another origin in the fragment", fills=True),
    NearMiss("https://evil.test@app.test/plain", BOUND, "user info that names evil; the origin is app", fills=True),
    NearMiss("https://ａｐｐ.test/plain", BOUND, "full-width letters, which the browser maps to ASCII", fills=True),
    NearMiss("https://app%2Etest/plain", BOUND, "an escaped dot, which the browser decodes", fills=True),
    NearMiss("https://app。test/plain", BOUND, "an ideographic full stop, which the browser maps to a dot", fills=True),
    NearMiss("http://app.test/plain", "http://app.test", "no TLS"),
    NearMiss("https://app.test./plain", "https://app.test.", "trailing dot"),
    NearMiss("https://app.test:8443/plain", "https://app.test:8443", "another port"),
    NearMiss("https://www.app.test/plain", "https://www.app.test", "sub-domain"),
    NearMiss("https://login.app.test/plain", "https://login.app.test", "sub-domain"),
    NearMiss("https://app.test.evil.test/plain", "https://app.test.evil.test", "the name as a prefix"),
    NearMiss("https://evilapp.test/plain", "https://evilapp.test", "the name as a suffix"),
    NearMiss("https://app-test.evil.test/plain", "https://app-test.evil.test", "hyphen for dot"),
    NearMiss("https://app.test@evil.test/plain", "https://evil.test", "user info that names app"),
    NearMiss("https://app.test:443@evil.test/plain", "https://evil.test", "user info that looks like host and port"),
    NearMiss("https://app.test%2F@evil.test/plain", "https://evil.test", "user info with an escaped slash"),
    NearMiss("https://evil.test/app.test/plain", "https://evil.test", "the name in the path"),
    NearMiss("https://evil.test/plain?https://app.test/", "https://evil.test", "the origin in the query"),
    NearMiss("https://evil.test/plain#https://app.test/", "https://evil.test", "the origin in the fragment"),
    NearMiss(
        "https://evil.test\\@app.test/plain", "https://evil.test", "a backslash, which the browser reads as a slash"
    ),
    NearMiss("https://third.test/plain", "https://third.test", "another origin of the space's list"),
    NearMiss("https://аpp.test/plain", "https://xn--pp-6kc.test", "Cyrillic а: xn--pp-6kc.test"),
    NearMiss("https://xn--pp-6kc.test/plain", "https://xn--pp-6kc.test", "the same in punycode"),
    NearMiss("https://app.tеst/plain", "", "Cyrillic е in the top-level domain"),
    NearMiss("https://app.test\u200d.evil.test/plain", "", "zero-width joiner"),
    NearMiss("https://127.0.0.1/plain", "", "the address behind the name"),
    NearMiss("about:blank", "", "no origin"),
    NearMiss("about:srcdoc", "", "no origin"),
    NearMiss("data:text/html,<form><input type=password></form>", "", "opaque origin"),
    NearMiss("javascript:document.write('<input type=password>')", "", "script in the address"),
    NearMiss("blob:https://app.test/00000000-0000-0000-0000-000000000000", "", "blob of the bound origin"),
    NearMiss("filesystem:https://app.test/temporary/plain.html", "", "file system of the bound origin"),
    NearMiss("file:///etc/passwd", "file://", "a file"),
    NearMiss("file://app.test/plain", "", "a file on a host of that name"),
    NearMiss("view-source:https://app.test/plain", BOUND, "source view of the bound origin"),
    NearMiss("chrome://version", "", "the browser's own page"),
    NearMiss("chrome-extension://app.test/plain.html", "", "an extension of that name"),
    NearMiss("devtools://devtools/bundled/inspector.html", "", "the developer tools"),
    NearMiss("ftp://app.test/plain", "", "another protocol"),
    NearMiss("ws://app.test/plain", "", "another protocol"),
    NearMiss("mailto:someone@app.test", "", "another protocol"),
)
