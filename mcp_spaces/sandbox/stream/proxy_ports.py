"""The proxy ports that an agent listens on for us, and whose connections come from which.

An agent answers before it tells of the first connection, and answers come in the order of the calls: so who owns a port
is settled in the moment in which an answer is read, not when whoever waits for it is awake.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from mcp_spaces.core.tasks import heard
from mcp_spaces.sandbox.agent import wire
from mcp_spaces.sandbox.port import Connection
from mcp_spaces.sandbox.stream.agent_stream import AgentStream
from mcp_spaces.sandbox.stream.channel import CallChannel
from mcp_spaces.sandbox.stream.connections import RelayChannel
from mcp_spaces.sandbox.stream.protocol import Violation, whole


@dataclass(slots=True)
class _Offer:
    accept: Callable[[Connection], None]
    port: int = 0
    taken_back: bool = False


class ProxyPorts:
    def __init__(self, stream: AgentStream) -> None:
        self._stream = stream
        self._owners: dict[int, _Offer] = {}
        self._asked_for: Counter[int] = Counter()
        stream.on_accepted = self._accepted

    async def offer(self, accept: Callable[[Connection], None], *, port: int) -> int:
        """Have the agent listen; taken back, it listens no more. Raises what the port's `offer_proxy` raises."""
        offer = _Offer(accept)
        channel = CallChannel(path=".", most_bytes=0, answered=lambda fields: self._on_listening(offer, fields))
        self._stream.open(channel, [b"listen", wire.whole(port)])
        self._asked_for[port] += 1
        try:
            await asyncio.shield(channel.answer)
        except asyncio.CancelledError:
            offer.taken_back = True
            channel.answer.add_done_callback(heard)
            raise
        finally:
            self._asked_for[port] -= 1
            if offer.taken_back:
                self._let_go(offer)
        return offer.port

    async def withdraw(self, port: int) -> None:
        """Idempotent; what is under way goes on when it is taken back. Raises RuntimeUnavailable."""
        channel = self._withdrawing(port)
        channel.answer.add_done_callback(heard)
        await asyncio.shield(channel.answer)

    def _withdrawing(self, port: int) -> CallChannel:
        channel = CallChannel(path=".", most_bytes=0, answered=lambda fields: self._on_withdrawn(port, fields))
        self._stream.open(channel, [b"withdraw", wire.whole(port)])
        return channel

    def _on_listening(self, offer: _Offer, fields: list[bytes]) -> None:
        if len(fields) != 1:
            raise Violation("a wrong number of fields")
        offer.port = whole(fields[0])
        owner = self._owners.get(offer.port)
        if not offer.taken_back:
            self._owners[offer.port] = offer
        elif owner is None or owner.taken_back:
            self._owners[offer.port] = offer
            self._let_go(offer)

    def _let_go(self, offer: _Offer) -> None:
        """Of a port that nobody wants: the owner, whose offer was taken back, or somebody who asks for it just now."""
        if self._owners.get(offer.port) is offer and not self._asked_for[offer.port] and not self._stream.closed.done():
            self._withdrawing(offer.port).answer.add_done_callback(heard)

    def _on_withdrawn(self, port: int, fields: list[bytes]) -> None:
        if fields:
            raise Violation("a wrong number of fields")
        # What was accepted before has been told by now.
        self._owners.pop(port, None)

    def _accepted(self, port: int, number: int) -> RelayChannel | None:
        """The channel of a new connection; None where nobody offered that port."""
        offer = self._owners.get(port)
        if offer is None:
            return None
        channel = RelayChannel(self._stream, number)
        if offer.taken_back:
            channel.close()
        else:
            offer.accept(channel)
        return channel
