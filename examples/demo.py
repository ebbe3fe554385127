"""The main job on real input: an agent finds its space and works in a sandbox, through a real MCP client over stdio.

    make demo

What an agent would do, call by call, with what came back. State goes to a folder of its own, so that a demo never
touches yours; it is removed at the end.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

ROWS = 5_000
PROGRAM = Path(sys.executable).with_name("mcp-spaces")
console = Console(highlight=False, width=110)


def sales() -> str:
    """A CSV of some thousand rows: real enough to have gaps and refunds in it."""
    chance = random.Random(7)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["order", "region", "amount"])
    for order in range(1, ROWS + 1):
        amount = "" if chance.random() < 0.01 else f"{chance.gauss(80, 40):.2f}"
        writer.writerow([order, chance.choice(["north", "south", "east", "west"]), amount])
    return text.getvalue()


REPORT = '''\
"""Revenue by region."""

import csv
from collections import defaultdict


def revenue(path):
    """Sum of the amounts a region; rows without an amount do not count."""
    totals = defaultdict(float)
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            totals[row["region"]] += float(row["amount"])
    return dict(totals)


if __name__ == "__main__":
    for region, total in sorted(revenue("data/sales.csv").items()):
        print(f"{region:<6} {total:>12,.2f}")
'''

TEST = """\
import unittest

from report.revenue import revenue


class RevenueTest(unittest.TestCase):
    def test_every_region_has_revenue(self):
        self.assertEqual(set(revenue("data/sales.csv")), {"north", "south", "east", "west"})


if __name__ == "__main__":
    unittest.main()
"""


class Agent:
    """An MCP client that says what it does."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def call(self, tool: str, /, **arguments: Any) -> Mapping[str, Any]:
        """One tool call; its answer, or the refusal, as the agent sees it."""
        started = time.perf_counter()
        result = await self._client.call_tool(tool, arguments)
        elapsed_ms = (time.perf_counter() - started) * 1000
        text = "".join(getattr(part, "text", "") for part in result.content)
        mark = "[red]✗[/]" if result.is_error else "[green]✓[/]"
        console.print(f"{mark} [cyan]{elapsed_ms:7.1f} ms[/] [bold]{tool}[/] [dim]{escape(_short(arguments))}[/]")
        if result.is_error:
            return {"refused": text, **((result.meta or {}).get("mcp-spaces/error", {}))}
        answer: Mapping[str, Any] = json.loads(text)
        return answer

    async def refused(self, why: str, tool: str, /, **arguments: Any) -> None:
        """A call that has to be refused; the demo fails when it is not."""
        console.print(f"\n[dim]{why}[/]")
        answer = await self.call(tool, **arguments)
        expect("refused" in answer, f"{tool} was not refused: {answer}")
        console.print(f"  [red]{answer['code']}[/]: {escape(answer['refused'])}")

    async def shell(self, command: str) -> Mapping[str, Any]:
        answer = await self.call("sandbox_shell", space="demo", command=command)
        for stream in ("stdout", "stderr"):
            for line in str(answer.get(stream) or "").splitlines()[-8:]:
                console.print(f"  │ {line}", markup=False)
        console.print(f"  exit code {answer.get('exit_code')}")
        return answer


async def work(client: Client) -> None:
    agent = Agent(client)

    chapter("What the agent is told")
    console.print(Panel(client.instructions or "", title="server instructions", border_style="dim"))
    tools = await client.list_tools()
    size = len(json.dumps([tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools.tools]))
    console.print(f"{len(tools.tools)} tools, {size:,} bytes: {', '.join(tool.name for tool in tools.tools)}")

    chapter("A space, and a sandbox in it")
    await agent.call("space_create", name="demo", labels={"purpose": "demo"}, ttl_s=3600)
    launched = await agent.call("sandbox_launch", space="demo")
    console.print(f"  {launched['alias']} is {launched['state']}")
    context = await client.read_resource("space://demo/context")
    document = json.loads(getattr(context.contents[0], "text", "{}"))
    for rule in document["rules"]:
        console.print(f"  [dim]·[/] {escape(rule)}")

    chapter("A small project, with a test that fails")
    files = {
        "report/__init__.py": "",
        "report/revenue.py": REPORT,
        "tests/__init__.py": "",
        "tests/test_revenue.py": TEST,
        "data/sales.csv": sales(),
    }
    operations = [{"type": "createFile", "path": path, "content": text} for path, text in files.items()]
    batch = await agent.call(
        "sandbox_run_operations", space="demo", protocolVersion="1.0", operations=operations, mode="fail-fast"
    )
    console.print(f"  {batch['status']}: {len(batch['events'])} files")
    expect(batch["status"] == "completed", f"the files should be written: {batch}")
    first = await agent.shell("python3 -m unittest discover -s tests -t .")
    expect(first["exit_code"] == 1, "the test should fail first")

    chapter("The agent mends it")
    await agent.call(
        "sandbox_edit_file",
        space="demo",
        path="report/revenue.py",
        edits=[
            {
                "old": '            totals[row["region"]] += float(row["amount"])',
                "new": '            if row["amount"]:\n                totals[row["region"]] += float(row["amount"])',
            }
        ],
    )
    second = await agent.shell("python3 -m unittest discover -s tests -t .")
    expect(second["exit_code"] == 0, "the test should pass now")
    await agent.shell("mkdir -p out && python3 -m report.revenue | tee out/revenue.txt")
    stored = await agent.call("storage_collect", space="demo", path="out/revenue.txt", to="reports/revenue.txt")
    console.print(f"  {stored['uri']}, {stored['size_bytes']} bytes")

    chapter("Three things that it may not do")
    await agent.refused("Read a file of secrets:", "sandbox_read_file", space="demo", path=".env")
    await agent.refused(
        "Hide a forbidden command in a substitution:", "sandbox_shell", space="demo", command='echo "$(sudo id)"'
    )
    await agent.refused(
        "Make a space that reaches the internet:",
        "space_create",
        name="escape",
        mounts={"network": {"mode": "open"}},
    )

    chapter("What was recorded")
    runs = await agent.call("run_list", space="demo", limit=20)
    table = Table("run", "operation", "state", "ms", box=None, header_style="bold")
    for run in reversed(runs["runs"]):
        table.add_row(run["id"][:12] + "…", run["operation"], run["state"], f"{run.get('duration_ms') or 0:.1f}")
    console.print(table)
    await agent.call("space_delete", space="demo", force=True)


class WentWrong(Exception):
    """The demo did not show what it should."""


def expect(fact: bool, otherwise: str, /) -> None:
    if not fact:
        raise WentWrong(otherwise)


def chapter(title: str) -> None:
    console.print()
    console.rule(f"[bold]{title}", align="left")


def _short(arguments: Mapping[str, Any]) -> str:
    text = json.dumps({key: value for key, value in arguments.items() if key != "space"}, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


async def main() -> None:
    state = Path(tempfile.mkdtemp(prefix="mcp-spaces-demo-"))
    environment = {**os.environ, "MCP_SPACES_STATE_DIR": str(state)}
    server = StdioServerParameters(command=str(PROGRAM), args=["stdio"], env=environment)
    console.print(f"The server is started as an agent would start it: [bold]{PROGRAM} stdio[/]")
    try:
        async with Client(server) as client:
            await work(client)
        verified = await anyio.run_process([str(PROGRAM), "audit", "verify"], env=environment, check=False)
        console.print(f"\n[bold]mcp-spaces audit verify[/]\n{verified.stdout.decode()}", markup=True)
        expect(verified.returncode == 0, "the audit log does not verify")
    finally:
        await anyio.run_process([str(PROGRAM), "stop"], env=environment, check=False)
        shutil.rmtree(state, ignore_errors=True)
    chapter("Connect your own agent")
    console.print(f"claude mcp add --transport stdio spaces -- {PROGRAM} stdio", soft_wrap=True)


if __name__ == "__main__":
    try:
        anyio.run(main)
    except* WentWrong as wrong:
        first: BaseException = wrong
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        sys.exit(f"The demo went wrong: {first}")
