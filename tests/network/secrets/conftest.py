"""Servers that want a secret, and a sandbox that reaches them by references, with and without an authority of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.network.inside import Inside
from tests.network.secrets.mounted import BASIC, BEARER, NAMES, Servers, inside_of
from tests.network.servers import (
    Echo,
    Git,
    Site,
    certificate_for,
    guarded,
    node_registry,
    package_index,
    repository,
    serving,
)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    folders = {name: tmp_path / "sites" / name for name in NAMES}
    for folder in folders.values():
        folder.mkdir(parents=True)
    (folders["open.test"] / "hello.txt").write_text("hello\n")
    package_index(folders["pip.test"])
    repository(folders["git.test"])
    node_registry(folders["npm.test"], "http://npm.test")
    certificate = certificate_for("api.test", tmp_path, *NAMES[1:])
    handlers: dict[str, type[Site]] = {
        "api.test": guarded(Echo, BEARER), "pip.test": guarded(Site, BASIC), "npm.test": guarded(Site, BEARER),
        "git.test": guarded(Git, BASIC), "open.test": Site,
    }  # fmt: skip
    with ExitStack() as running:
        ports = {
            name: running.enter_context(serving(folders[name], handlers[name], certificate=certificate))
            for name in NAMES
        }
        yield Servers(tuple(f"{name}:443=127.0.0.1:{port}" for name, port in ports.items()), tmp_path / "cert.pem")


@pytest.fixture
async def inside(tmp_path: Path, servers: Servers) -> AsyncIterator[Inside]:
    async with inside_of(tmp_path, servers, own_authority=False) as inside:
        yield inside


@pytest.fixture
async def terminated(tmp_path: Path, servers: Servers) -> AsyncIterator[Inside]:
    async with inside_of(tmp_path, servers, own_authority=True) as inside:
        yield inside
