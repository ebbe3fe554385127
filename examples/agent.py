"""The demo's people: an operator at a terminal, and an agent that says what it does."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from rich.console import Console
from rich.markup import escape

PROGRAM = Path(sys.executable).with_name("mcp-spaces")
console = Console(highlight=False, width=110)


class Operator:
    """A person at a terminal."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    async def run(self, *arguments: str, given: str = "") -> str:
        console.print(f"[bold]$ mcp-spaces {escape(shlex.join(arguments))}[/]", soft_wrap=True)
        ran = await anyio.run_process(
            [str(PROGRAM), *arguments], input=given.encode(), env=dict(self._environment), check=False
        )
        expect(ran.returncode == 0, f"{arguments[0]} failed: {ran.stderr.decode()}")
        return ran.stdout.decode()


class Agent:
    """An MCP client that says what it does."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.received: list[str] = []
        """Everything that came back, as it came over the wire."""

    async def call(self, tool: str, /, **arguments: Any) -> Mapping[str, Any]:
        """One tool call; its answer, or the refusal, as the agent sees it."""
        started = time.perf_counter()
        result = await self._client.call_tool(tool, arguments)
        elapsed_ms = (time.perf_counter() - started) * 1000
        self.received.append(result.model_dump_json())
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

    async def shell(self, command: str, *, space: str = "demo") -> Mapping[str, Any]:
        answer = await self.call("sandbox_shell", space=space, command=command)
        for stream in ("stdout", "stderr"):
            for line in str(answer.get(stream) or "").splitlines()[-8:]:
                console.print(f"  │ {line}", markup=False)
        console.print(f"  exit code {answer.get('exit_code')}")
        return answer


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
