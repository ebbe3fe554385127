"""Browser tools beside @playwright/mcp: the same pages, the same headless shell, the same raw client, in turns."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

import psutil

from benchmarks.clients import RawClient, Refused
from benchmarks.daemons import Daemon, running
from benchmarks.measure import Line, Series, Target, repeated, timed

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / ".tools"
NODE = TOOLS / "node_modules/node/bin/node"
PEER = TOOLS / "node_modules/@playwright/mcp/cli.js"
SHELL = "/usr/bin/chromium-headless-shell"
COUNT = 30
NEW_CLIENTS = 5
RUNTIMES = 5

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


class Side(Protocol):
    """One of the two. Every call gives the line of its answer."""

    answers: list[str]

    def navigate(self, url: str) -> bytes: ...
    def snapshot(self) -> bytes: ...
    def click(self, name: str) -> bytes: ...
    def fill(self, name: str, text: str) -> bytes: ...
    def check(self, name: str) -> bytes: ...
    def select(self, name: str, option: str) -> bytes: ...
    def evaluate(self) -> bytes: ...
    def screenshot(self) -> bytes: ...


class Ours:
    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.seen = ""
        self.answers: list[str] = []
        """All that a model has read."""
        self.url = ""

    def call(self, tool: str, **arguments: Any) -> bytes:
        line = self.client.request_bytes("tools/call", {"name": tool, "arguments": {"space": "bench", **arguments}})
        self._read(line)
        return line

    def _read(self, line: bytes) -> None:
        text = _text(line)
        self.seen += text
        self.answers.append(text)

    def other(self, operation: str, **given: Any) -> bytes:
        line = self.client.request_bytes(
            "tools/call",
            {"name": "operation_call", "arguments": {"operation": operation, "input": {"space": "bench", **given}}},
        )
        self._read(line)
        return line

    def ref(self, name: str) -> str:
        found = re.findall(rf'\w+ \\?"{re.escape(name)}\\?" (e\d+)', self.seen)
        if not found:
            raise Refused(f"no ref for {name}")
        return str(found[-1])

    def navigate(self, url: str) -> bytes:
        self.seen, self.url = "", url
        return self.call("browser_navigate", url=url)

    def snapshot(self) -> bytes:
        return self.call("browser_snapshot")

    def click(self, name: str) -> bytes:
        return self.call("browser_click", ref=self.ref(name))

    def fill(self, name: str, text: str) -> bytes:
        return self.call("browser_fill", fields={self.ref(name): text})

    def check(self, name: str) -> bytes:
        return self.call("browser_fill", fields={self.ref(name): True})

    def select(self, name: str, option: str) -> bytes:
        return self.call("browser_fill", fields={self.ref(name): option})

    def evaluate(self) -> bytes:
        return self.other("browser.evaluate", script="1 + 1")

    def screenshot(self) -> bytes:
        return self.call("browser_screenshot")


class Theirs:
    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.seen = ""
        self.answers: list[str] = []
        """All that a model has read."""

    def call(self, tool: str, **arguments: Any) -> bytes:
        line = self.client.request_bytes("tools/call", {"name": tool, "arguments": arguments})
        text = _text(line)
        self.answers.append(text)
        # Most answers name a file with the snapshot, and a model that needs a ref has to take one.
        self.seen = text if "[ref=" in text else ""
        return line

    def ref(self, name: str) -> dict[str, str]:
        found = re.search(rf'"{re.escape(name)}"[^\n]*\[ref=(\w+)\]', self.seen)
        if found is None:
            # Not every answer holds a snapshot.
            self.snapshot()
            found = re.search(rf'"{re.escape(name)}"[^\n]*\[ref=(\w+)\]', self.seen)
        if found is None:
            raise Refused(f"no ref for {name}")
        return {"element": name, "target": found[1]}

    def navigate(self, url: str) -> bytes:
        return self.call("browser_navigate", url=url)

    def snapshot(self) -> bytes:
        return self.call("browser_snapshot")

    def click(self, name: str) -> bytes:
        return self.call("browser_click", **self.ref(name))

    def fill(self, name: str, text: str) -> bytes:
        return self.call("browser_type", text=text, **self.ref(name))

    def check(self, name: str) -> bytes:
        return self.call("browser_click", **self.ref(name))

    def select(self, name: str, option: str) -> bytes:
        return self.call("browser_select_option", values=[option], **self.ref(name))

    def evaluate(self) -> bytes:
        return self.call("browser_evaluate", function="() => 1 + 1")

    def screenshot(self) -> bytes:
        return self.call("browser_take_screenshot")


def lines() -> Iterator[Line]:
    """What the peer cannot be measured without is installed by `scripts/setup node`."""
    with _site() as port, _daemon(port) as daemon, ExitStack() as open_things:
        _permit(daemon)
        ours = Ours(open_things.enter_context(daemon.client()))
        _prepare(ours)
        theirs = Theirs(open_things.enter_context(_peer()))
        here, there = f"http://app.test:{port}", f"http://127.0.0.1:{port}"
        yield _first_page(daemon, here, there)
        theirs.navigate(f"{there}/links")
        ours.navigate(f"{here}/links")
        yield _line("browser: navigate, 100 links", lambda side, base: side.navigate(f"{base}/links"), ours, theirs, here, there, 100)  # fmt: skip
        yield _line("browser: snapshot, 100 links", lambda side, _: side.snapshot(), ours, theirs, here, there, 15)
        sizes = [Series([float(len(_text(side.snapshot())))]) for side in (ours, theirs)]
        yield Line(what="browser: bytes of that snapshot", unit="bytes", ours=sizes[0], baseline=sizes[1], against=AGAINST, targets=[Target(0.4, of_baseline=True)])  # fmt: skip
        yield _line("browser: click, with settling", lambda side, _: side.click("Press"), ours, theirs, here, there, 60)
        yield _line("browser: evaluate", lambda side, _: side.evaluate(), ours, theirs, here, there, 12)
        yield _line("browser: screenshot", lambda side, _: side.screenshot(), ours, theirs, here, there, 60)
        ours.navigate(f"{here}/form")
        theirs.navigate(f"{there}/form")
        yield _line("browser: fill a field", lambda side, _: side.fill("Name", "Ann"), ours, theirs, here, there, None)
        yield from _task(ours, theirs, here, there)
        yield from _memory(daemon, ours, theirs)
        yield _cycles(ours)


AGAINST = "@playwright/mcp, same headless shell"


def _line(what: str, action: Any, ours: Ours, theirs: Theirs, here: str, there: str, target: float | None) -> Line:
    return Line(
        what=what,
        unit="ms",
        ours=repeated(lambda: action(ours, here), count=COUNT),
        baseline=repeated(lambda: action(theirs, there), count=max(COUNT // 3, 5)),
        against=AGAINST,
        targets=[] if target is None else [Target(target)],
    )


def _first_page(daemon: Daemon, here: str, there: str) -> Line:
    """A new client: spawned, initialized, a browser launched, its first page loaded. The daemon is warm."""

    def new_client() -> float:
        def first() -> None:
            with daemon.client() as client:
                client.call("browser_launch", space="bench", alias="fresh")
                client.call("browser_navigate", space="bench", runtime="fresh", url=f"{here}/links")

        took = timed(first)
        with daemon.client() as client:
            client.call("operation_call", operation="browser.delete", input={"space": "bench", "runtime": "fresh"})
        return took

    def new_peer() -> None:
        with _peer() as client:
            client.call_text("browser_navigate", url=f"{there}/links")

    return Line(
        what="browser: new client to first page",
        unit="ms",
        ours=Series([new_client() for _ in range(NEW_CLIENTS)]),
        baseline=Series([timed(new_peer) for _ in range(NEW_CLIENTS)]),
        against=AGAINST,
        targets=[Target(500)],
    )


def _task(ours: Ours, theirs: Theirs, here: str, there: str) -> Iterator[Line]:
    """Ten steps of an order: what a model has to read for them."""
    took: list[float] = []
    for side, base in ((ours, here), (theirs, there)):
        side.answers.clear()
        began = time.perf_counter()
        side.navigate(f"{base}/form")
        side.fill("Name", "Ann")
        side.fill("Street", "Main 1")
        side.fill("Town", "Springfield")
        side.select("Size", "large")
        side.check("As a gift")
        side.click("Send the order")
        side.click("All items")
        side.click("Item number 42")
        side.snapshot()
        took.append((time.perf_counter() - began) * 1000)
    texts = [ours.answers, theirs.answers]
    sizes = [sum(len(text) for text in side) for side in texts]
    yield Line(what="browser: a task of ten steps", unit="ms", ours=Series([took[0]]), baseline=Series([took[1]]), against=AGAINST)  # fmt: skip
    yield Line(what="browser: bytes read for it", unit="bytes", ours=Series([sizes[0]]), baseline=Series([sizes[1]]), against=AGAINST, targets=[Target(0.4, of_baseline=True)])  # fmt: skip
    tokens = [float(_tokens("\n".join(side))) for side in texts]
    yield Line(what="browser: tokens read for it (o200k)", unit="tokens", ours=Series([tokens[0]]), baseline=Series([tokens[1]]), against=AGAINST)  # fmt: skip


def _memory(daemon: Daemon, ours: Ours, theirs: Theirs) -> Iterator[Line]:
    """Of further runtimes as they are launched, with a blank page each, in the browser's container; and of the whole peer."""
    url, before = ours.url, 0.0
    # The first one also pays for what the browser gathers once.
    for number in range(RUNTIMES + 1):
        ours.call("browser_launch", alias=f"more-{number}")
        if number == 0:
            ours.call("browser_navigate", runtime="more-0", url=url)
            before = _container_mb(daemon)
    after = _container_mb(daemon)
    yield Line(
        what="browser: memory of a further runtime",
        unit="MB",
        ours=Series([(after - before) / RUNTIMES]),
        targets=[Target(20)],
    )
    process = theirs.client.process
    assert process is not None
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    whole = sum(one.memory_full_info().pss for one in tree) / 1e6
    driver = sum(
        one.memory_full_info().pss for one in psutil.Process(daemon.pid).children(recursive=True) if one.is_running()
    )
    yield Line(
        what="browser: memory of the browser and Playwright's driver",
        unit="MB",
        ours=Series([before + driver / 1e6]),
        baseline=Series([whole]),
        against=AGAINST,
    )
    for number in range(RUNTIMES + 1):
        ours.other("browser.delete", runtime=f"more-{number}")


def _cycles(ours: Ours) -> Line:
    """Open and close, a thousand times: what one costs."""

    def cycle() -> None:
        ours.call("browser_launch", alias="cycle")
        ours.other("browser.delete", runtime="cycle")

    return Line(
        what="browser: launch and delete, 1,000 times", unit="ms", ours=Series([timed(cycle) for _ in range(1000)])
    )


# ------------------------------------------------------------------------------------------------------ parts


LIMITS = {"runtimes": 16, "memory_bytes": 16 << 30, "cpu_cores": 16, "pids": 4096, "disk_bytes": 64 << 30}


def _permit(daemon: Daemon) -> None:
    with daemon.operator() as operator:
        agent = next(one for one in operator.call("principal_list")["principals"] if one["kind"] == "agent")
        scope = {"network": {"mode": "open"}, "limits": LIMITS}
        operator.call("principal_grant", principal=agent["id"], scope=scope, policy="permissive")


def _prepare(ours: Ours) -> None:
    ours.client.call(
        "space_create",
        name="bench",
        policy={"preset": "permissive"},
        mounts={"network": {"mode": "allowlist", "allow": ["app.test"]}},
        limits=LIMITS,
    )
    ours.call("browser_launch", alias="main")


def _daemon(port: int) -> Any:
    return running(pool_size=0, settings={"MCP_SPACES_NETWORK_PRIVATE_HOSTS": f"app.test:{port}=127.0.0.1:{port}"})


def _container_mb(daemon: Daemon) -> float:
    import docker

    found = 0.0
    for container in docker.from_env().containers.list():
        if "-browsers-" in (container.name or ""):
            usage = container.stats(stream=False)["memory_stats"]
            found += (usage["usage"] - usage["stats"].get("total_inactive_file", 0)) / 1e6
    return found


class PeerClient(RawClient):
    """The peer writes an answer's id last."""

    def request_bytes(self, method: str, params: Mapping[str, Any]) -> bytes:
        self._number += 1
        self._send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        for line in self.answers:
            if json.loads(line).get("id") == self._number:
                return line
        raise Refused("the peer closed the connection")

    def call_text(self, tool: str, **arguments: Any) -> str:
        return _text(self.request_bytes("tools/call", {"name": tool, "arguments": arguments}))


def _peer() -> PeerClient:
    if not PEER.exists():
        raise SystemExit("the peer is missing: scripts/setup node")
    folder = tempfile.mkdtemp(prefix="mcp-spaces-bench-peer-")
    options = ["--headless", "--isolated", "--no-sandbox", "--executable-path", SHELL, "--output-dir", folder]
    command = [str(NODE), str(PEER), *options]
    client = PeerClient.spawn(command, dict(os.environ))
    client.initialize()
    return client


def _text(line: bytes) -> str:
    result = json.loads(line)["result"]
    text = "".join(part.get("text", "") for part in result["content"])
    if result.get("isError"):
        raise Refused(text)
    for part in result["content"]:
        if part.get("type") == "image":
            base64.b64decode(part["data"])
    return text


def _tokens(text: str) -> int:
    script = "const {encode}=require('gpt-tokenizer');process.stdout.write(String(encode(require('fs').readFileSync(0,'utf8')).length))"
    counted = subprocess.run([NODE, "-e", script], input=text.encode(), capture_output=True, cwd=TOOLS, check=True)
    return int(counted.stdout)


@contextmanager
def _site() -> Iterator[int]:
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
