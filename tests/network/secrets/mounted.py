"""A space that mounts secrets, with a real sandbox in it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.network.inside import Inside
from tests.sandbox.rigs import docker_driver
from tests.security.app import REAL_IMAGE, open_world

TOKEN = "tok_9f/Zq+canary-0123456789~ÄÖ="
PASSWORD = "pa55 w&rd/canary?0123456789"
NAMES = ("api.test", "pip.test", "npm.test", "git.test", "open.test")
BASIC = "Basic " + base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
BEARER = f"Bearer {TOKEN}".encode().decode("latin-1")
GIT_WORK = (
    "set -e; git clone -q {address}/project.git; cd project; head -c 3000000 /dev/urandom > blob; git add blob\n"
    "git -c user.name=a -c user.email=a@a commit -q -m second; git push -q origin main; git rev-parse HEAD\n"
)


@dataclass(frozen=True)
class Servers:
    private_hosts: tuple[str, ...]
    certificate: Path


@asynccontextmanager
async def inside_of(folder: Path, servers: Servers, *, own_authority: bool) -> AsyncIterator[Inside]:
    async with (
        docker_driver(folder / "driver") as driver,
        open_world(
            folder,
            driver=driver,
            sandbox_image=REAL_IMAGE,
            network_private_hosts=servers.private_hosts,
            network_authorities=servers.certificate,
        ) as world,
    ):
        for path, name in (("prod/api", "api.test"), ("prod/npm", "npm.test")):
            await world.govern("vault.set", path=path, kind="api_key", token=TOKEN, origins=[f"https://{name}"])
        await world.govern(
            "vault.set", path="prod/login", kind="login", username="ann", password=PASSWORD,
            origins=["https://pip.test", "https://git.test"],
        )  # fmt: skip
        mounts = {
            "network": {"mode": "allowlist", "allow": list(NAMES), "own_authority": own_authority},
            "vault": {"allow": ["prod"]},
        }
        scope = {"vault": {"allow": ["prod"]}, "network": {"mode": "allowlist", "allow": list(NAMES)}}
        await world.govern("principal.grant", principal="local-agent", policy="permissive", scope=scope)
        await world.call("space.create", name="net", policy={"preset": "permissive"}, mounts=mounts)
        await world.call("sandbox.launch", space="net", alias="main")
        yield Inside(world, world.agent)
