"""The back end of the login pages: the same for all shapes, which differ in what the browser shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.browser.site import pages
from tests.browser.site.accounts import Accounts, CodeRule, Verdict
from tests.browser.site.wire import Answer, Request, in_json, redirect

SESSION = "session"
HALF_WAY = "half_way"
CODE_RULES = {
    "two-step": CodeRule.STRICT,
    "boxes": CodeRule.STRICT,
    "totp": CodeRule.STRICT,
    "totp-retry": CodeRule.REFUSES_FIRST,
    "totp-never": CodeRule.REFUSES_ALL,
}
"""The shapes that ask for a code on a page of its own."""


@dataclass
class Backend:
    accounts: Accounts
    stun_port: int = 0
    comments: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)


Handler = Callable[[Backend, Request], Answer]


def cookie(name: str, value: str, *, more: str = "") -> str:
    return f"{name}={value}; Path=/; HttpOnly; SameSite=Lax{more}"


def page(backend: Backend, request: Request, *, message: str = "", status: int = 200, path: str = "") -> Answer:
    texts = {
        **request.parameters,
        "message": message,
        "host": request.host,
        "name": backend.accounts.sessions.get(request.cookies.get(SESSION, ""), ""),
        "stun_port": str(backend.stun_port),
        "comments": "\n".join(backend.comments),
    }
    # Shapes without a code page of their own share one.
    own = request.path if request.path in pages.sources() else "/code"
    return Answer(pages.render(path or own, texts), status)


def failed(backend: Backend, request: Request, verdict: Verdict) -> Answer:
    return page(backend, request, message=verdict, status=423 if verdict is Verdict.LOCKED else 401)


def log_in(backend: Backend, name: str, *, to: str = "/home", more: str = "") -> Answer:
    session = cookie(SESSION, backend.accounts.log_in(name), more=more)
    return redirect(to, session, cookie(HALF_WAY, "", more="; Max-Age=0"))


def password(backend: Backend, request: Request) -> Answer:
    """What every page with a password field posts to: itself."""
    form = request.form
    name = form.get("user", "")
    verdict = backend.accounts.check_password(name, form.get("password", ""))
    if verdict is Verdict.OK and "code" in form:
        verdict = backend.accounts.check_code(name, form["code"])
    if verdict is not Verdict.OK:
        return failed(backend, request, verdict)
    shape = request.path.strip("/")
    if shape in CODE_RULES:
        return redirect(f"/{shape}/code", cookie(HALF_WAY, backend.accounts.begin(name)))
    return log_in(backend, name, more="; Max-Age=2592000" if form.get("remember") else "")


def two_step_user(backend: Backend, request: Request) -> Answer:
    """Says nothing about whether there is such a user."""
    return redirect("/two-step/password", cookie(HALF_WAY, backend.accounts.begin(request.form.get("user", ""))))


def two_step_password(backend: Backend, request: Request) -> Answer:
    name = _half_way(backend, request)
    if name is None:
        return redirect("/two-step")
    verdict = backend.accounts.check_password(name, request.form.get("password", ""))
    if verdict is not Verdict.OK:
        return failed(backend, request, verdict)
    # A new token: the first one was given without a password.
    return redirect("/two-step/code", cookie(HALF_WAY, f"ok-{backend.accounts.begin(name)}"))


def code(backend: Backend, request: Request) -> Answer:
    shape = request.path.split("/")[1]
    name = _half_way(backend, request)
    if name is None or (shape == "two-step" and not request.cookies[HALF_WAY].startswith("ok-")):
        return redirect(f"/{shape}")
    verdict = backend.accounts.check_code(name, request.form.get("code", ""), CODE_RULES[shape])
    return log_in(backend, name) if verdict is Verdict.OK else failed(backend, request, verdict)


def spa_login(backend: Backend, request: Request) -> Answer:
    asked = json.loads(request.body)
    verdict = backend.accounts.check_password(asked["user"], asked["password"])
    if verdict is not Verdict.OK:
        return in_json({"error": verdict}, status=401)
    return in_json({"next": "code"}, cookie(HALF_WAY, backend.accounts.begin(asked["user"])))


def spa_code(backend: Backend, request: Request) -> Answer:
    name = _half_way(backend, request)
    if name is None:
        return in_json({"error": Verdict.NOBODY}, status=401)
    verdict = backend.accounts.check_code(name, json.loads(request.body)["code"])
    if verdict is not Verdict.OK:
        return in_json({"error": verdict}, status=401)
    return in_json({"name": name}, cookie(SESSION, backend.accounts.log_in(name)))


def home(backend: Backend, request: Request) -> Answer:
    if request.cookies.get(SESSION) not in backend.accounts.sessions:
        return redirect("/plain")
    return page(backend, request)


def log_out(backend: Backend, request: Request) -> Answer:
    backend.accounts.log_out(request.cookies.get(SESSION, ""))
    return redirect("/plain", cookie(SESSION, "", more="; Max-Age=0"))


def _half_way(backend: Backend, request: Request) -> str | None:
    return backend.accounts.half_way(request.cookies.get(HALF_WAY, "").removeprefix("ok-"))


HANDLERS: dict[tuple[str, str], Handler] = {
    ("GET", "/home"): home,
    ("GET", "/logout"): log_out,
    ("POST", "/logout"): log_out,
    ("POST", "/two-step"): two_step_user,
    ("POST", "/two-step/password"): two_step_password,
    ("POST", "/api/login"): spa_login,
    ("POST", "/api/code"): spa_code,
    **{("GET", f"/{shape}/code"): page for shape in CODE_RULES},
    **{("POST", f"/{shape}/code"): code for shape in CODE_RULES},
}
