"""One space, both runtimes: the agent builds a web application in its sandbox and signs in to it in its browser."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from mcp import Client
from rich.markup import escape

from examples.agent import Agent, Operator, chapter, console, expect
from examples.services import PERIOD_S, USER, SignIn

UNTIL_READY = 'timeout 10 sh -c \'until python3 -c "import socket; socket.create_connection((\\"127.0.0.1\\", 3000))" 2>/dev/null; do sleep 0.1; done\''
APP = Path(__file__).with_name("web_app.py")
MOUNTS = {"vault": {"allow": ["prod"]}, "network": {"mode": "allowlist", "allow": ["login.test:443"]}}


async def permit_to_sign_in(operator: Operator) -> None:
    chapter("A web application, built, opened and signed in to")
    secret = json.dumps({"password": SignIn.password, "totp": SignIn.seed})
    await operator.run(
        *("vault", "set", "prod/sso", "--kind", "login", "--username", USER, "--origin", "https://login.test"),
        "--fields",
        given=secret,
    )
    await operator.run("principal", "grant", "local-agent", "--scope", json.dumps(MOUNTS))


async def build_and_sign_in(client: Client) -> None:
    agent, began = Agent(client), time.time()
    made = await agent.call("space_create", name="web", mounts=MOUNTS, ttl_s=3600)
    expect("refused" not in made, f"the space should be there: {made}")
    await agent.call("sandbox_launch", space="web", alias="web")
    await agent.call("sandbox_write_file", space="web", path="app.py", content=APP.read_text("utf-8"))
    await agent.call("sandbox_shell", space="web", command="python3 app.py", background=True)
    ready = await agent.shell(UNTIL_READY, space="web")
    expect(ready["exit_code"] == 0, "the application should be up")

    await agent.call("browser_launch", space="web")
    opened = await agent.call("browser_navigate", space="web", url="http://web.sandbox.internal:3000/")
    _show(opened["changes"])
    link = re.search(r'link "Sign in" (e\d+)', opened["changes"])
    expect(link is not None, f"there should be a link to sign in: {opened}")
    assert link is not None
    await agent.call("browser_click", space="web", ref=link[1])
    signed_in = await agent.call("browser_login", space="web", secret="prod/sso")
    expect(bool(signed_in.get("signed_in")), f"it should be signed in: {signed_in}")
    seen = await agent.call("browser_snapshot", space="web")
    _show(seen["snapshot"])
    expect(f"Signed in as {USER}" in seen["snapshot"], "the application should know who it is")
    shot = await agent.call("browser_screenshot", space="web", to="shots/orders.jpg")
    expect("refused" not in shot, f"there should be a picture: {shot}")
    console.print(f"  {shot['kept']['uri']}, {shot['size_bytes']:,} bytes")
    await agent.call("run_list", space="web", limit=50)

    console.print("\n[dim]Is a secret in anything that the agent received, in any of the usual encodings?[/]")
    received = "\n".join(agent.received)
    found = [form for form in _forms(began) if form in received]
    expect(not found, f"the agent received a secret: {found}")
    console.print(f"  [green]no[/]: {len(received):,} characters in {len(agent.received)} answers were searched")
    await agent.call("operation_call", operation="space.delete", input={"space": "web", "force": True})


def _show(snapshot: str) -> None:
    for line in snapshot.splitlines()[:12]:
        console.print(f"  │ {escape(line)}")


def _forms(began: float) -> Iterator[str]:
    """The password, the seed, and every code that was good meanwhile."""
    steps = range(int(began) // PERIOD_S - 1, int(time.time()) // PERIOD_S + 2)
    # A code of six digits is also found in times and sizes: only whole words count.
    yield from (f'"{SignIn.code(step)}"' for step in steps)
    for secret in (SignIn.password, SignIn.seed):
        raw = secret.encode()
        yield from (secret, quote(secret, safe=""), raw.hex(), base64.b64encode(raw).decode().rstrip("="))
