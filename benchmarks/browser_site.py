"""The pages that browsers are measured on, from a server in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

LINKS = (
    "<!doctype html><title>Links</title><h1>A hundred links</h1><ul>"
    + "".join(f'<li><a href="/item/{n}">Item number {n}</a></li>' for n in range(100))
    + "</ul><button onclick=\"document.title='pressed '+(++window.n)\">Press</button><script>window.n=0</script>"
)
FORM = (
    "<!doctype html><title>Order</title><h1>Order</h1><form action=/done>"
    "<label>Name <input name=name></label><label>Street <input name=street></label><label>Town <input name=town></label>"
    "<label>Size <select name=size><option>small<option>large</select></label>"
    "<label><input type=checkbox name=gift> As a gift</label><button>Send the order</button></form>"
    + "".join(f"<p>Paragraph {n} of the terms, which nobody reads but everybody scrolls past.</p>" for n in range(20))
)
DONE = "<!doctype html><title>Thanks</title><h1>Thank you</h1><a href=/links>All items</a>"
PAGES = {"/links": LINKS, "/form": FORM, "/done": DONE}


@contextmanager
def site() -> Iterator[int]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            body = PAGES.get(path, f"<!doctype html><title>{path}</title><h1>{path}</h1>").encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on the screen."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
