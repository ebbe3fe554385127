"""Which addresses a key may be sent to."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from mcp_spaces.cli.wire import Refusal


def check_server(url: str) -> None:
    """Raises Refusal: it is no URL of a server, or a key for it would travel in clear text."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Refusal(
            f"{url} is not a URL of a server.", hint="Such as https://spaces.example.org/mcp", code="invalid_input"
        )
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise Refusal(
            "The key would travel in clear text.", hint="Use https://, or a tunnel to 127.0.0.1.", code="invalid_input"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
