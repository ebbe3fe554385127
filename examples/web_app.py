"""A small web application: orders by region, for who is signed in. The demo's agent runs it in its sandbox.

People sign in elsewhere and come back with a ticket, so no password ever gets here.
"""

import html
import http.server
import json
import secrets
import urllib.parse
import urllib.request

SIGN_IN = "http://login.test"
ORDERS = {"north": 1204, "south": 1310, "east": 1187, "west": 1299}
sessions: dict[str, str] = {}


class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        address = urllib.parse.urlsplit(self.path)
        if address.path == "/back":
            self.come_back(urllib.parse.parse_qs(address.query).get("ticket", [""])[0])
            return
        user = sessions.get(self.headers.get("Cookie", "").removeprefix("session="))
        if user is None:
            here = urllib.parse.quote(f"http://{self.headers['Host']}/back", safe="")
            self.show(
                f'<h1>Orders</h1><p>Nobody is signed in.</p><a href="https://login.test/?back={here}">Sign in</a>'
            )
            return
        bars = "".join(
            f'<tr><td>{region}<td>{count}<td><div style="width:{count // 4}px;background:#48c">&nbsp;</div>'
            for region, count in ORDERS.items()
        )
        self.show(
            f"<h1>Orders</h1><p>Signed in as {html.escape(user)}.</p>"
            f"<table><tr><th>Region<th>Orders<th></tr>{bars}</table>"
        )

    def come_back(self, ticket: str) -> None:
        query = urllib.parse.urlencode({"ticket": ticket})
        with urllib.request.urlopen(f"{SIGN_IN}/ticket?{query}") as answer:
            user = json.load(answer)["user"]
        self.send_response(303)
        if user:
            session = secrets.token_urlsafe(16)
            sessions[session] = user
            self.send_header("Set-Cookie", f"session={session}; HttpOnly; SameSite=Lax")
        self.send_header("Location", "/")
        self.end_headers()

    def show(self, body: str) -> None:
        content = f"<!doctype html><title>Orders</title>{body}".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("127.0.0.1", 3000), App).serve_forever()
