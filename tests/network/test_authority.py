"""A space's own authority: the same after a restart, new after a rotation, and of no use to anybody else."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from cryptography import x509

from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import WrongState
from mcp_spaces.network.authorities import Authorities
from mcp_spaces.network.authority import Authority
from mcp_spaces.network.tls import TlsConnection
from mcp_spaces.state.database import Database
from mcp_spaces.vault.service import Vault
from tests.network.lab import pair
from tests.security.app import World, open_world
from tests.turns import cancelled_everywhere, meanwhile

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[World, Authorities]]:
    async with open_world(folder) as world:
        yield world, Authorities(world.use(Database), world.use(Vault), Clock())


async def test_it_is_the_same_after_a_restart_and_gone_with_its_space(tmp_path: Path) -> None:
    async with opened(tmp_path) as (world, authorities):
        space, other = await world.space("one"), await world.space("two")
        first, second = await authorities.of(space), await authorities.of(other)
        assert first.certificate != second.certificate
        assert await authorities.of(space) is first
    async with opened(tmp_path) as (world, authorities):
        again = await authorities.of(space)
        assert (again.certificate, again.key_bytes()) == (first.certificate, first.key_bytes())
        await world.call("space.delete", space=space)
        assert world.count("SELECT count(*) FROM space_authorities") == 1


async def test_its_key_is_sealed_for_its_space_and_a_rotation_takes_it_along(tmp_path: Path) -> None:
    async with opened(tmp_path) as (world, authorities):
        space, other = await world.space("one"), await world.space("two")
        first = await authorities.of(space)
        key = first.key_bytes()
        for path in (tmp_path / "state").iterdir():
            if path.is_file():
                assert key not in path.read_bytes(), path
        # Somebody with the database gives one space's authority to another: it does not open there.
        await world.database.write(
            lambda tx: tx.execute(
                "INSERT INTO space_authorities SELECT ?, certificate, sealed FROM space_authorities", (other,)
            )
        )
        fresh = Authorities(world.use(Database), world.use(Vault), Clock())
        assert (await fresh.of(other)).certificate != first.certificate
        await world.govern("vault.rotate")
        fresh = Authorities(world.use(Database), world.use(Vault), Clock())
        assert (await fresh.of(space)).certificate == first.certificate


async def test_a_certificate_that_was_put_in_the_place_of_its_own_is_given_to_nobody(tmp_path: Path) -> None:
    """Sandboxes would trust whoever has its key."""
    async with opened(tmp_path) as (world, authorities):
        space = await world.space("one")
        own = (await authorities.of(space)).certificate
        foreign = Authority.new(space, NOW).certificate
        await world.database.write(lambda tx: tx.execute("UPDATE space_authorities SET certificate = ?", (foreign,)))
        fresh = Authorities(world.use(Database), world.use(Vault), Clock())
        assert (await fresh.of(space)).certificate not in (own, foreign)


def test_it_signs_leaves_and_no_other_authority() -> None:
    certificate = x509.load_pem_x509_certificate(Authority.new("sp_one", NOW).certificate)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and constraints.value == x509.BasicConstraints(ca=True, path_length=0)


async def test_a_locked_vault_gives_no_authority(tmp_path: Path) -> None:
    async with opened(tmp_path) as (world, authorities):
        space = await world.space("one")
        await authorities.of(space)
    (tmp_path / "state" / "master.key").unlink()
    async with opened(tmp_path) as (_, authorities):
        with pytest.raises(WrongState):
            await authorities.of(space)


@pytest.mark.parametrize(("named", "trusted"), [("api.test", True), ("other.test", False), ("sub.api.test", False)])
async def test_a_leaf_is_for_exactly_one_host(named: str, trusted: bool) -> None:
    authority = Authority.new("sp_one", NOW)
    client = ssl.create_default_context(cadata=authority.certificate.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    assert await shook(client, authority.context("api.test", datetime.now(UTC)), named) is trusted


async def test_another_space_trusts_no_leaf_of_it() -> None:
    client = ssl.create_default_context(cadata=Authority.new("sp_two", NOW).certificate.decode())
    assert await shook(client, Authority.new("sp_one", NOW).context("api.test", NOW), "api.test") is False


def test_a_leaf_is_made_anew_before_it_ends() -> None:
    authority = Authority.new("sp_one", NOW)
    first = authority.context("api.test", NOW)
    assert authority.context("api.test", NOW + timedelta(days=28)) is first
    assert authority.context("api.test", NOW + timedelta(days=30)) is not first


async def shook(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> bool:
    ours, theirs = await pair()
    done: list[bool] = []
    try:
        async with anyio.create_task_group() as tasks:

            async def answer() -> None:
                try:
                    await TlsConnection(theirs, server).handshake()
                except ssl.SSLError:
                    theirs.close()

            tasks.start_soon(answer)
            with anyio.fail_after(20):
                try:
                    await TlsConnection(ours, client, server_name=name).handshake()
                    done.append(True)
                except ssl.SSLCertVerificationError:
                    done.append(False)
    finally:
        ours.close()
        theirs.close()
    return done == [True]


async def test_it_is_the_same_for_who_asks_for_it_while_the_vault_is_rotated(tmp_path: Path) -> None:
    async with opened(tmp_path) as (world, authorities):
        space = await world.space("one")
        first, found = await authorities.of(space), list[bytes]()

        async def ask() -> None:
            fresh = Authorities(world.use(Database), world.use(Vault), Clock())
            found.append((await fresh.of(space)).certificate)

        async def attempt(suspension: int) -> bool:
            found.clear()
            async with anyio.create_task_group() as group:
                await meanwhile(suspension, world.govern("vault.rotate"), lambda: group.start_soon(ask))
            assert found in ([first.certificate], [])
            return bool(found)

        await cancelled_everywhere(attempt)
