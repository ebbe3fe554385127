"""Who may reach what: names read strictly, and one pure decision."""

from __future__ import annotations

import re

from mcp_spaces.core.patterns import host_covers
from mcp_spaces.core.scope import NetworkGrant, NetworkMode
from mcp_spaces.network.model import SANDBOX_DOMAIN, Access, PrivateHosts, Reason, Refused, RuntimeRef, Target

LONGEST_HOST = 253
LONGEST_SHOWN = 100
MAIL_PORTS = frozenset({25, 465, 587})
"""Refused in every mode: a sandbox that can send mail is a spammer's."""
NOBODY = "{host} is nobody here: a server in a sandbox is http://ALIAS.sandbox.internal:PORT"
"""For who looks at home for what was started in a sandbox. It only says why: nothing is reached by it."""
LAUNCHED, ANEW = "this was launched", "stop and launch it again, with that scope if its launch named one"
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
# WHATWG's "ends in a number": whatever some resolver would read as an IPv4 address.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_HOME = re.compile(r"127(\.[0-9]{1,3}){3}|0\.0\.0\.0|::1|(.*\.)?localhost")


def read_target(authority: str, *, default_port: int | None, private: PrivateHosts, tunnel: bool = False) -> Target:
    """`host` or `host:port` as a target. Nothing is normalised but upper case. Raises Refused."""
    host, colon, port_text = authority.rpartition(":") if not authority.endswith("]") else (authority, "", "")
    if not colon:
        host, port_text = authority, ""
        if default_port is None:
            raise Refused(Reason.MALFORMED, "a tunnel needs host:port", status=400)
        port = default_port
    elif _PORT.fullmatch(port_text) and int(port_text) < 65536:
        port = int(port_text)
    else:
        raise Refused(Reason.MALFORMED, "that is no port", status=400)
    host = host.lower() if host.isascii() else host
    return Target(read_host(host, port=port, private=private), port, tunnel)


def read_host(host: str, *, port: int, private: PrivateHosts) -> str:
    """Raises Refused for whatever is no plain ASCII name of at most 253 characters."""
    bare = host.removeprefix("[").removesuffix("]")
    if private.of(Target(bare, port)) is not None:
        return bare
    literal = NOBODY.format(host=bare) if _HOME.fullmatch(bare) else "addresses are refused: use a name"
    if host.startswith("[") or ":" in host:
        raise Refused(Reason.IP_LITERAL, literal, rule="network.private_hosts")
    if not host or len(host) > LONGEST_HOST or not _HOST.fullmatch(host):
        raise Refused(Reason.BAD_HOST, "that is no host name", status=400)
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        raise Refused(Reason.IP_LITERAL, literal, rule="network.private_hosts")
    return host


def decide(access: Access, target: Target, private: PrivateHosts) -> str:
    """The rule that permits this target. Raises Refused with the one that does not. Silence means no."""
    grant = access.grant
    if is_sandbox(target.host):
        if not access.neighbours:
            words = "without a network, sandboxes that have one are out of reach"
            raise Refused(Reason.NO_NETWORK, words, rule=access.because)
        return SANDBOX_DOMAIN
    if _HOME.fullmatch(target.host) and private.of(target) is None:
        raise Refused(Reason.BAD_HOST, NOBODY.format(host=shown(target)), rule="network.private_hosts")
    if grant.mode is NetworkMode.NONE:
        if access.space.mode is not NetworkMode.NONE:
            raise Refused(Reason.NO_NETWORK, f"{LAUNCHED} without a network: {ANEW}", rule="scope.network")
        raise Refused(Reason.NO_NETWORK, "this space has no network", rule=access.because)
    if target.port in MAIL_PORTS:
        raise Refused(Reason.MAIL_PORT, f"port {target.port} is for mail and closed everywhere", rule="network.ports")
    rule = _rule_for(grant, target)
    if rule is None and _rule_for(access.space, target) is not None:
        words = f"{shown(target)} is in the space's list, but {LAUNCHED} without it: {ANEW}"
        raise Refused(Reason.NOT_LISTED, words, rule="scope.network")
    if rule is None:
        raise Refused(Reason.NOT_LISTED, f"{shown(target)} is not in the space's list", rule="network.allow")
    if private.of(target) is None and "." not in target.host:
        raise Refused(Reason.BAD_HOST, "a name without a dot is nobody's", rule="network.private_hosts")
    return rule


def _rule_for(grant: NetworkGrant, target: Target) -> str | None:
    if grant.mode is NetworkMode.OPEN:
        return "network.mode: open"
    return next((rule for rule in grant.allow if host_covers(rule, str(target))), None)


def is_sandbox(host: str) -> bool:
    """Whether the name belongs to the sandboxes, well-formed or not: it never goes to a resolver."""
    return host == SANDBOX_DOMAIN or host.endswith("." + SANDBOX_DOMAIN)


def sandbox_alias(host: str) -> str:
    """Raises Refused unless it is exactly `ALIAS.sandbox.internal`."""
    alias = host.removesuffix("." + SANDBOX_DOMAIN)
    if not alias or "." in alias or alias == host:
        raise Refused(Reason.NO_SUCH_SANDBOX, "no such sandbox in this space", status=502)
    return alias


def shown(target: Target) -> str:
    name = str(target)
    return name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}..."


def check_blocked(runtime: RuntimeRef, target: Target) -> None:
    """Raises Refused for what the runtime was launched without."""
    if any(host_covers(rule, target.host) for rule in runtime.blocked):
        raise Refused(Reason.BLOCKED, f"{shown(target)} was blocked at the launch", rule="browser.block_hosts")
