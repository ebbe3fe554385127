"""A world in which every operation of an agent has something to work on, and the input with which it has to work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mcp_spaces.browser.service import BrowserService
from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.core.operation import Audience
from tests.browser import paged
from tests.security.app import LITTLE, World

FOR_AGENTS = [operation for operation in CATALOGUE if operation.audience is Audience.EVERYONE]
FOR_OPERATORS = [operation for operation in CATALOGUE if operation.audience is Audience.OPERATOR]
ABSENT = "a" * 26


@dataclass(frozen=True)
class Prepared:
    """A space in which every operation has something to work on."""

    space: str
    name: str
    runtime: str
    run: str
    job: str
    artifact: str
    namespace: str = "own"
    browser: str = f"rt_{'b' * 26}"
    entry: str = f"ent_{ABSENT}"
    """A secret that was asked for; nobody's unless the test asks."""


NOWHERE = Prepared(
    f"sp_{ABSENT}", "nowhere", f"rt_{ABSENT}", f"run_{ABSENT}", f"job_{ABSENT}", f"art_{ABSENT}", "nothing"
)
"""Well formed, and nobody's."""


async def prepared(
    world: World,
    name: str,
    *,
    preset: str = "standard",
    running: bool = True,
    runtime: bool = True,
    browser: bool = False,
    **request: Any,
) -> Prepared:
    """Made under the standard policy, then put under `preset` by the operator. `browser`: one is open as well."""
    space = await world.space(name, **request)
    uploaded = await world.outcome("storage.upload", space=space, path="inputs/sales.csv", content="a,b\n1,2\n")
    exported = await world.call("run.export", run=uploaded.run_id)
    sandbox, job = NOWHERE.runtime, NOWHERE.job
    if runtime:
        sandbox = await world.launched(space, alias="main", scope={"limits": LITTLE})
        for path in ("src/main.py", "src/old.py"):
            await world.call("sandbox.write_file", space=space, path=path, content="print(1)\n")
        job = (await world.call("sandbox.shell", space=space, command="sleep 1000", background=True)).job
    browsing = NOWHERE.browser
    if browser:
        browsing = (await world.call("browser.launch", space=space)).id
        await world.call("browser.navigate", space=space, url=paged.ADDRESS)
        await world.use(BrowserService).store.keep_profile(space, "old", {"cookies": [], "origins": []})
    if preset != "standard":
        await world.govern("space.update", space=space, patch={"policy": {"preset": preset}})
    if not running:
        await world.call("space.down", space=space)
    return Prepared(space, name, sandbox, uploaded.run_id, job, exported.artifact.id, browser=browsing)


async def prepare_for(world: World, at: Prepared, operation_id: str) -> None:
    """What an operation in a prepared browser needs besides, done by the operator."""
    opened = {"space": at.space, "runtime": at.browser}
    if operation_id == "browser.dialog":
        await world.govern("browser.click", **opened, ref=paged.ASK)
    elif operation_id == "browser.download":
        await world.govern("browser.navigate", **opened, url=f"{paged.ADDRESS}report.csv?{at.browser}")
    elif operation_id == "browser.record_stop":
        await world.govern("browser.record_start", **opened)
    elif operation_id in ("browser.back", "browser.forward"):
        await world.govern("browser.navigate", **opened, url=paged.ADDRESS + "second")
        if operation_id == "browser.forward":
            await world.govern("browser.back", **opened)


def valid_inputs(at: Prepared) -> dict[str, dict[str, Any]]:
    """For every operation that agents may be permitted: an input that has to work in a prepared world."""
    space, runtime = {"space": at.space}, {"space": at.space, "runtime": at.runtime}
    stored = {**space, "namespace": at.namespace, "path": "inputs/sales.csv"}
    job = {**space, "job": at.job}
    browser = {"space": at.space, "runtime": at.browser}
    return {
        "context.get": space,
        "space.create": {"name": "another"},
        "space.get": space,
        "space.state": space,
        "space.list": {},
        "space.update": {**space, "patch": {"labels": {"ticket": "42"}}},
        "space.extend": {**space, "ttl_s": 3600},
        "space.up": space,
        "space.down": space,
        "space.delete": {**space, "force": True},
        "sandbox.launch": {**space, "alias": "second", "scope": {"limits": LITTLE}},
        "sandbox.list": space,
        "sandbox.get": runtime,
        "sandbox.stop": runtime,
        "sandbox.delete": runtime,
        "sandbox.shell": {**runtime, "command": "echo hello"},
        "sandbox.read_file": {**runtime, "path": "src/main.py"},
        "sandbox.write_file": {**runtime, "path": "new.txt", "content": "new"},
        "sandbox.edit_file": {**runtime, "path": "src/main.py", "edits": [{"old": "print(1)", "new": "print(2)"}]},
        "sandbox.delete_file": {**runtime, "path": "src/old.py"},
        "sandbox.list_files": {**runtime, "path": "src"},
        "sandbox.glob": {**runtime, "pattern": "**/*.py"},
        "sandbox.search": {**runtime, "pattern": "print"},
        "sandbox.run_operations": {**runtime, "operations": [{"type": "readFile", "path": "src/main.py"}]},
        "job.read": job,
        "job.write": {**job, "text": "yes\n"},
        "job.wait": {**job, "timeout_s": 0.05},
        "job.stop": job,
        "browser.execute": {**browser, "steps": [{"call": "browser.newContext"}]},
        "browser.methods": {"on": "page"},
        "browser.look_step": {**browser, "call": "browser.newContext"},
        "browser.act_step": {**browser, "call": "page.hover", "args": ["body"]},
        "browser.script_step": {**browser, "call": "page.evaluate", "args": ["1 + 1"]},
        "browser.record_start": browser,
        "browser.record_stop": browser,
        "browser.connect": browser,
        "browser.disconnect": browser,
        "browser.launch": {**space, "alias": "third"},
        "browser.list": space,
        "browser.get": browser,
        "browser.stop": browser,
        "browser.delete": browser,
        "browser.forget": {**space, "profile": "old"},
        "browser.navigate": {**browser, "url": paged.ADDRESS},
        "browser.back": browser,
        "browser.forward": browser,
        "browser.reload": browser,
        "browser.pages": browser,
        "browser.open": {**browser, "url": paged.ADDRESS},
        "browser.activate": {**browser, "page": "p1"},
        "browser.close": {**browser, "page": "p1"},
        "browser.snapshot": browser,
        "browser.text": browser,
        "browser.screenshot": browser,
        "browser.pdf": {**browser, "to": "page.pdf", "overwrite": True},
        "browser.console": browser,
        "browser.network": browser,
        "browser.click": {**browser, "ref": paged.PRESS},
        "browser.fill": {**browser, "fields": {paged.NAME: "Ann"}},
        "browser.press": {**browser, "keys": "Tab"},
        "browser.select": {**browser, "ref": paged.COLOUR, "options": ["blue"]},
        "browser.hover": {**browser, "ref": paged.PRESS},
        "browser.drag": {**browser, "ref": paged.PRESS, "to": paged.NAME},
        "browser.scroll": browser,
        "browser.dialog": {**browser, "accept": True},
        "browser.wait_for": {**browser, "text": "Everything"},
        "browser.evaluate": {**browser, "script": "1 + 1"},
        "browser.upload": {**browser, "ref": paged.FILE, "paths": ["inputs/sales.csv"]},
        "browser.download": {**browser, "id": "d1", "to": "report.csv", "overwrite": True},
        "browser.downloads": browser,
        "browser.login": {**browser, "secret": "prod/crm"},
        "browser.logout": browser,
        "storage.upload": {**stored, "path": "new/file.txt", "content": "new"},
        "storage.read": stored,
        "storage.browse": {**space, "namespace": at.namespace, "prefix": "inputs"},
        "storage.stat": stored,
        "storage.delete": stored,
        "storage.copy": {**stored, "to": "archive/sales.csv", "to_namespace": at.namespace},
        "storage.link": stored,
        "storage.stage": {**runtime, "namespace": at.namespace, "path": "inputs/sales.csv", "to": "sales.csv"},
        "storage.collect": {**runtime, "namespace": at.namespace, "path": "src/main.py", "to": "out/main.py"},
        "run.list": space,
        "run.get": {"run": at.run},
        "run.wait": {"run": at.run},
        "run.cancel": {"run": at.run},
        "run.export": {"run": at.run},
        "run.read_artifact": {"artifact": at.artifact, "encoding": "base64"},
        "vault.describe": {**space, "path": "prod/crm"},
        "vault.list": space,
        "vault.get": {**space, "path": "prod/crm"},
        "vault.totp": {**space, "path": "prod/crm"},
        "vault.request_entry": {**space, "path": "prod/new", "origins": ["https://crm.example.com"]},
        "vault.wait_entry": {**space, "request": at.entry, "timeout_s": 0},
        "network.log": runtime,
        "policy.explain": {**space, "command": "ls"},
        "operation.call": {"operation": "space.list"},
    }
