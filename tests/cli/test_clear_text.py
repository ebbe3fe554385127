"""Which addresses a key may be sent to."""

from __future__ import annotations

import pytest

from mcp_spaces.cli.clear_text import check_server
from mcp_spaces.cli.wire import Refusal


@pytest.mark.parametrize(
    "url",
    [
        "https://spaces.example.org/mcp",
        "https://192.0.2.1:8443/mcp",
        "http://127.0.0.1:8080/mcp",
        "http://127.9.9.9/mcp",
        "http://localhost/mcp",
        "http://[::1]:8080/mcp",
    ],
)
def test_a_key_may_go_over_tls_or_within_this_machine(url: str) -> None:
    check_server(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://spaces.example.org/mcp",
        "http://192.0.2.1/mcp",
        "http://localhost.example/mcp",
        "http://127.0.0.1.example/mcp",
        "http://127.0.0.1@spaces.example.org/mcp",
        "http://[2001:db8::1]/mcp",
        "HTTP://spaces.example.org/mcp",
        "http://0.0.0.0/mcp",
    ],
)
def test_a_key_goes_nowhere_in_clear_text(url: str) -> None:
    with pytest.raises(Refusal, match="clear text"):
        check_server(url)


@pytest.mark.parametrize(
    "url",
    ["", "spaces.example.org/mcp", "localhost:8080/mcp", "ftp://127.0.0.1/mcp", "https:///mcp", "http://[::1/mcp"],
)
def test_what_is_no_url_of_a_server_is_said(url: str) -> None:
    with pytest.raises(Refusal, match="is not a URL of a server"):
        check_server(url)
