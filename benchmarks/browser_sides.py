"""The two sides that are compared: our tools, and @playwright/mcp's, each used as an agent would."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from benchmarks.clients import RawClient, Refused

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / ".tools"
NODE = TOOLS / "node_modules/node/bin/node"
PEER = TOOLS / "node_modules/@playwright/mcp/cli.js"
SHELL = "/usr/bin/chromium-headless-shell"


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
        text = text_of(line)
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
        text = text_of(line)
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
        return text_of(self.request_bytes("tools/call", {"name": tool, "arguments": arguments}))


def peer() -> PeerClient:
    if not PEER.exists():
        raise SystemExit("the peer is missing: scripts/setup node")
    folder = tempfile.mkdtemp(prefix="mcp-spaces-bench-peer-")
    options = ["--headless", "--isolated", "--no-sandbox", "--executable-path", SHELL, "--output-dir", folder]
    command = [str(NODE), str(PEER), *options]
    client = PeerClient.spawn(command, dict(os.environ))
    client.initialize()
    return client


def text_of(line: bytes) -> str:
    result = json.loads(line)["result"]
    text = "".join(part.get("text", "") for part in result["content"])
    if result.get("isError"):
        raise Refused(text)
    for part in result["content"]:
        if part.get("type") == "image":
            base64.b64decode(part["data"])
    return text


def tokens_in(text: str) -> int:
    script = "const {encode}=require('gpt-tokenizer');process.stdout.write(String(encode(require('fs').readFileSync(0,'utf8')).length))"
    counted = subprocess.run([NODE, "-e", script], input=text.encode(), capture_output=True, cwd=TOOLS, check=True)
    return int(counted.stdout)
