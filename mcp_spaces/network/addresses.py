"""Which addresses may be dialled: global ones that are not this machine's own. Everything else is refused."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable, Sequence

from mcp_spaces.network.model import Reason, Refused

# Beyond what `is_global` of the oldest Python that we run on knows: ways to say a private address in other words,
# and blocks that are for documentation, measuring or nobody.
_REFUSED = [
    ipaddress.ip_network(block)
    for block in (
        "0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "224.0.0.0/3",
        "::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/32", "2001::/23", "2001:db8::/32",
        "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
    )
]  # fmt: skip
# The second one: a machine without IPv6 has no such address. Without a descriptor to ask with, nothing is known.
_NOT_OURS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")


def is_public(address: str) -> bool:
    """Whether it is an address on the public internet; False for whatever cannot be read as one."""
    try:
        read = ipaddress.ip_address(address)
    except ValueError:
        return False
    if not read.is_global or read.is_multicast or read.is_reserved or read.is_unspecified:
        return False
    if isinstance(read, ipaddress.IPv6Address) and (read not in _PUBLIC_V6 or read.scope_id is not None):
        return False
    return not any(read.version == block.version and read in block for block in _REFUSED)


def is_own(address: str) -> bool:
    """Whether this machine has that address: a public one of its own leads past its firewall to its services. True
    also where nobody can tell."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return error.errno not in _NOT_OURS
    return True


def check(addresses: Sequence[str], *, host: str, is_own: Callable[[str], bool]) -> None:
    """Every one has to be public. Raises Refused: one private address among them is an attack, or a mistake."""
    if not addresses:
        raise Refused(Reason.UNKNOWN_HOST, f"{host} has no address", status=502)
    for address in addresses:
        if not is_public(address) or is_own(address):
            raise Refused(
                Reason.PRIVATE_ADDRESS,
                f"{host} leads to an address that is not public",
                rule="network.private_hosts",
            )
