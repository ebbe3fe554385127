"""How the gateway is put together: what it asks, what it fills in, and by which ways it goes out."""

from __future__ import annotations

from mcp_spaces.core.approvals import Approvals
from mcp_spaces.core.ids import Clock
from mcp_spaces.network.access import LiveAccesses
from mcp_spaces.network.authorities import Authorities
from mcp_spaces.network.budgets import Budget, Budgets, midnight
from mcp_spaces.network.dialing import SystemDialer, SystemResolver
from mcp_spaces.network.gateway import Gateway
from mcp_spaces.network.injection import Injection, Learn
from mcp_spaces.network.model import PrivateHosts
from mcp_spaces.network.port import Neighbours, Resolver
from mcp_spaces.network.proxies import Proxies
from mcp_spaces.network.records import RecordedLog, spent_since
from mcp_spaces.network.termination import Termination
from mcp_spaces.network.tls import Trust
from mcp_spaces.network.ways import Ways
from mcp_spaces.settings import Settings
from mcp_spaces.state.database import Database
from mcp_spaces.vault.service import Vault


def make_gateway(
    settings: Settings,
    *,
    database: Database,
    clock: Clock,
    vault: Vault,
    accesses: LiveAccesses,
    approvals: Approvals,
    neighbours: Neighbours,
    records: RecordedLog,
    learn: Learn,
    resolver: Resolver | None,
) -> Gateway:
    private_hosts = PrivateHosts.parse(settings.network_private_hosts)
    ways = Ways(
        injection=Injection(secrets=vault, accesses=accesses, approvals=approvals, records=records, learn=learn),
        accesses=accesses,
        private=private_hosts,
        trust=Trust(settings.network_authorities),
    )
    return Gateway(
        accesses=accesses,
        neighbours=neighbours,
        records=records,
        resolver=resolver or SystemResolver(),
        dialer=SystemDialer(),
        private_hosts=private_hosts,
        proxies=Proxies.parse(settings.network_proxies),
        budgets=Budgets(_budget(settings), clock, spent=spent_since(database, midnight(clock))),
        clock=clock,
        ways=ways,
        termination=Termination(
            authorities=Authorities(database, vault, clock), accesses=accesses, ways=ways, private=private_hosts
        ),
    )


def _budget(settings: Settings) -> Budget:
    return Budget(
        connections=settings.network_connections_max,
        requests_per_day=settings.network_requests_per_day,
        up_bytes_per_day=settings.network_up_bytes_per_day,
        down_bytes_per_day=settings.network_down_bytes_per_day,
        idle_s=settings.network_idle_s,
        total_s=settings.network_total_s,
    )
