"""What stands outside of the space in the demo: an orders service that wants a token, and a place to sign in.

Both are real HTTPS servers on this machine, under an authority of their own.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import secrets
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, quote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mcp_spaces.network.authority import Authority

USER = "ada"
PERIOD_S = 30
FORM = """<!doctype html><title>Sign in</title><h1>Sign in</h1><p>{note}</p>
<form method=post>{fields}<button>Continue</button></form>"""
NAME_AND_PASSWORD = """<label>User name <input name=username autocomplete=username></label>
<label>Password <input name=password type=password autocomplete=current-password></label>"""
CODE = "<label>Code from your app <input name=code inputmode=numeric autocomplete=one-time-code></label>"


class Quiet(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def answer(self, body: str, *, status: int = 200, kind: str = "text/html; charset=utf-8", **headers: str) -> None:
        content = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)


class Orders(Quiet):
    """A service that wants a token, and is careless enough to say it again."""

    token = "tok_" + secrets.token_urlsafe(24)

    def do_GET(self) -> None:
        sent = self.headers.get("Authorization", "")
        is_known = sent == f"Bearer {self.token}"
        body = json.dumps({"orders": 42 if is_known else None, "you_sent": sent}) + "\n"
        self.answer(body, status=200 if is_known else 401, kind="application/json")


class SignIn(Quiet):
    """User name and password on one page, a one-time code (RFC 6238) on the next; then back with a ticket.

    Who is signed in is asked for at /ticket, so that the application never sees a password.
    """

    password = secrets.token_urlsafe(15)
    seed = base64.b32encode(secrets.token_bytes(20)).decode()
    tickets: ClassVar[dict[str, str]] = {}
    """Ticket → what it is still good for: `code` or `whoami`."""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path == "/ticket":
            ticket = parse_qs(address.query).get("ticket", [""])[0]
            known = self.tickets.pop(ticket, None) == "whoami"
            self.answer(json.dumps({"user": USER if known else None}), kind="application/json")
        elif address.path == "/code":
            self.answer(FORM.format(note="One more step.", fields=CODE))
        else:
            self.answer(FORM.format(note="", fields=NAME_AND_PASSWORD))

    def do_POST(self) -> None:
        address = urlsplit(self.path)
        given = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode())
        back = parse_qs(address.query).get("back", ["/"])[0]
        if address.path == "/code":
            if given.get("code", [""])[0] in self._codes():
                ticket = secrets.token_urlsafe(16)
                self.tickets[ticket] = "whoami"
                self.answer("", status=303, Location=f"{back}?ticket={ticket}")
            else:
                self.answer(FORM.format(note="That code is wrong.", fields=CODE))
        elif given.get("username") == [USER] and given.get("password") == [self.password]:
            self.answer("", status=303, Location=f"/code?back={quote(back, safe='')}")
        else:
            self.answer(FORM.format(note="Unknown user or wrong password.", fields=NAME_AND_PASSWORD))

    def _codes(self) -> set[str]:
        """Those of now and of the step before."""
        step = int(time.time()) // PERIOD_S
        return {self.code(one) for one in (step, step - 1)}

    @classmethod
    def code(cls, step: int) -> str:
        digest = hmac.digest(base64.b32decode(cls.seed), struct.pack(">Q", step), hashlib.sha1)
        offset = digest[-1] & 15
        return str((int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF) % 1_000_000).zfill(6)


@contextmanager
def services(folder: Path) -> Iterator[dict[str, str]]:
    """Both servers; what the daemon has to know of them."""
    now = datetime.now(UTC)
    authority = Authority.new("the demo's services", now)
    (folder / "authority.pem").write_bytes(authority.certificate)
    ports = {}
    servers = []
    for host, handler in {"orders.test": Orders, "login.test": SignIn}.items():
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.socket = authority.context(host, now).wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ports[host] = server.server_address[1]
        servers.append(server)
    try:
        yield {
            "MCP_SPACES_NETWORK_PRIVATE_HOSTS": ",".join(
                f"{host}:443=127.0.0.1:{port}" for host, port in ports.items()
            ),
            "MCP_SPACES_NETWORK_AUTHORITIES": str(folder / "authority.pem"),
            "MCP_SPACES_BROWSER_TRUSTED_KEYS": public_key_hash(ports["login.test"]),
        }
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def public_key_hash(port: int) -> str:
    """Of the certificate that a server shows: what Chromium is told to trust."""
    certificate = x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", port)).encode())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()
