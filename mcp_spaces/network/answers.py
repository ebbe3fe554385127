"""What servers answer, on its way back: passed on as it is, or searched for the secrets that the runtime has used."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_spaces.network import head as heads
from mcp_spaces.network.bodies import Body
from mcp_spaces.network.flow import Buffered, Flow
from mcp_spaces.network.head import Fields, RequestHead, ResponseHead, malformed
from mcp_spaces.network.model import Reason, Refused
from mcp_spaces.network.relay import relay
from mcp_spaces.network.scrubbing import Scrubber

MAX_INTERIM = 16
NO_BODY = (204, 304)


@dataclass(frozen=True, slots=True)
class Redirects:
    """A client that was taken from http to https is sent on by its server to https, where no secret is put in."""

    secured: str
    asked: str

    def fields(self, fields: Fields) -> Fields:
        return [(name, self._led(value) if name.lower() == "location" else value) for name, value in fields]

    def _led(self, value: str) -> str:
        rest = value.removeprefix(self.secured)
        return self.asked + rest if rest != value and rest[:1] in ("", "/", "?") else value


async def answer_head(flow: Flow, upstream: Buffered) -> ResponseHead:
    """The final one, or a switch of protocols; interim ones before it are dropped. Raises Refused, EOFError."""
    for _ in range(MAX_INTERIM):
        content = await upstream.head()
        if content is None:
            raise EOFError
        flow.spending.down(len(content))
        flow.touch()
        answer = heads.response_head(content)
        if answer.status == 101 or answer.status >= 200:
            return answer
    raise malformed("too many interim answers")


async def download(
    flow: Flow,
    client: Buffered,
    upstream: Buffered,
    answer: ResponseHead,
    *,
    to: RequestHead,
    scrubber: Scrubber | None,
    redirects: Redirects | None,
) -> None:
    """Raises Refused where a secret could be in the answer and would not be seen."""
    framing = heads.framing(answer.fields, version="HTTP/1.1")
    fields, phrase = heads.end_to_end(answer.fields), answer.phrase
    has_body = to.method != "HEAD" and answer.status not in NO_BODY
    chunked = framing.chunked
    if redirects is not None:
        fields = redirects.fields(fields)
    if scrubber is not None:
        if has_body and any(one != "identity" for one in heads.listed(answer.fields, "content-encoding")):
            raise Refused(Reason.ENCODED_ANSWER, "the answer is compressed, though that was not asked for", status=502)
        if answer.status == 206:
            raise Refused(Reason.ENCODED_ANSWER, "the answer is a part, though all was asked for", status=502)
        fields, phrase = scrubber.fields(fields), scrubber.text(phrase)
        if has_body:
            # How long it will be is not known before all of it was searched.
            fields = [(name, value) for name, value in fields if name.lower() != "content-length"]
            chunked = to.version == "HTTP/1.1"
    if chunked:
        fields.append(("Transfer-Encoding", "chunked"))
    fields.append(("Connection", "close"))
    flow.answered = True
    await client.connection.send(heads.written(f"HTTP/1.1 {answer.status} {phrase}", fields))
    if not has_body:
        return
    body = Body(framing, until_closed=True)
    if scrubber is None:
        await _unchanged(flow, client, upstream, body)
    else:
        await _searched(flow, client, upstream, body, scrubber, chunked=chunked)


async def _unchanged(flow: Flow, client: Buffered, upstream: Buffered, body: Body) -> None:
    while not body.is_over:
        content = await upstream.some()
        if not content:
            if body.needs_end:
                raise EOFError
            return
        content = body.take(content)
        flow.spending.down(len(content))
        flow.touch()
        await client.connection.send(content)


async def _searched(
    flow: Flow, client: Buffered, upstream: Buffered, body: Body, scrubber: Scrubber, *, chunked: bool
) -> None:
    stream = scrubber.stream()

    async def pass_on(clean: bytes) -> None:
        if clean:
            await client.connection.send(b"%x\r\n%s\r\n" % (len(clean), clean) if chunked else clean)

    while not body.is_over:
        content = await upstream.some()
        if not content:
            if body.needs_end:
                raise EOFError
            break
        flow.spending.down(len(content))
        flow.touch()
        await pass_on(stream.feed(body.content(content)))
    await pass_on(stream.finish())
    if chunked:
        await client.connection.send(b"0\r\n\r\n")


async def switch(
    flow: Flow, client: Buffered, upstream: Buffered, answer: ResponseHead, *, scrubber: Scrubber | None, asked: bool
) -> None:
    """To a WebSocket; `asked` says that the client wanted one."""
    agreed = [one.lower() for one in heads.values(answer.fields, "upgrade")]
    if not asked or agreed != ["websocket"]:
        raise malformed("an upgrade that nobody asked for")
    fields = heads.end_to_end(answer.fields)
    if scrubber is not None:
        fields = scrubber.fields(fields)
    fields += [("Connection", "Upgrade"), ("Upgrade", "websocket")]
    flow.answered = True
    await client.connection.send(heads.written("HTTP/1.1 101 Switching Protocols", fields))
    await relay(flow, client, upstream, search=None if scrubber is None else scrubber.stream(same_length=True))
