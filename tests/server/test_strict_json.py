"""JSON that two parsers could read differently, and the id of the request that is told so."""

from __future__ import annotations

import pytest

from mcp_spaces.server.strict_json import AmbiguousJsonError, parse, request_id, request_id_by_ends


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a":1,"b":[{"a":1},{"a":2.5}]}', {"a": 1, "b": [{"a": 1}, {"a": 2.5}]}),
        (b'{"a":-0.0,"b":1e300,"c":null,"d":true}', {"a": -0.0, "b": 1e300, "c": None, "d": True}),
        ('"é \\ud83d\\ude00 😀"'.encode(), "é 😀 😀"),
        (b'"\\\\ud800"', "\\ud800"),
        (b"12345678901234567890", 12345678901234567890),
    ],
)
def test_what_every_parser_reads_alike_is_read(text: bytes, value: object) -> None:
    assert parse(text) == value


AMBIGUOUS = [
    (b'{"a":1,"a":1}', "the name 'a' appears twice in one object"),
    (b'[{"b":{"\xc3\xa9":1,"\\u00e9":2}}]', "the name '\\xe9' appears twice in one object"),
    (b'{"b":1,"%s":1,"%s":2}' % ((b"n" * 100,) * 2), f"the name '{'n' * 64}' appears twice in one object"),
    (b"NaN", "NaN is not a JSON number"),
    (b"[-Infinity]", "-Infinity is not a JSON number"),
    (b"[-1e400]", "a number too large"),
    (b"9" * 5_000, "a number too long"),
    (b'"\\ud83d"', "half of a surrogate pair"),
    (b'{"\\uDC00":1}', "half of a surrogate pair"),
    (b'["\\ud83d \\ude00"]', "half of a surrogate pair"),
    (b'"\xed\xa0\x80"', "not UTF-8"),
    (b'"\xff"', "not UTF-8"),
    (b"[" * 100_000, "nested too deeply"),
    (b"{}{}", "Extra data"),
    (b"", "Expecting value"),
]


@pytest.mark.parametrize(("text", "why"), AMBIGUOUS, ids=[why for _, why in AMBIGUOUS])
def test_t13_what_two_parsers_could_read_differently_is_refused_without_a_word_of_its_values(
    text: bytes, why: str
) -> None:
    with pytest.raises(AmbiguousJsonError) as refused:
        parse(text)
    assert str(refused.value) == why


@pytest.mark.timeout(60)
def test_d09_a_name_that_is_there_twice_is_found_at_once_among_many_others() -> None:
    """Nobody else is served meanwhile. Where each name is counted among all, this takes minutes."""
    with pytest.raises(AmbiguousJsonError, match="'100000' appears twice"):
        parse(b"{" + b",".join(b'"%d":1' % number for number in range(100_001)) + b',"100000":2}')


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'{"id":7,"params":{"id":8,"a":1,"a":2}}', 7),
        (b'{"params":{"id":8,"a":NaN},"id":"seven"}', "seven"),
        (b'{"params":[{"id":8}],"id":-1}', -1),
        (b'{"id":7,"id":7}', None),
        (b'{"params":{"id":8}}', None),
        (b'{"id":true}', None),
        (b'{"id":1.5}', None),
        (b'{"id":null}', None),
        ('{"id":"é"}'.encode(), None),
        (b'{"id":"\\ud800"}', None),
        (b'[{"id":7}]', None),
        (b'{"id":7', None),
        (b'{"id":7,"a":"\xff"}', None),
        (b'{"id":7,"a":' + b"[" * 100_000, None),
        (b'{"id":' + b"9" * 5_000 + b"}", None),
    ],
    ids=range(15),
)
def test_t13_only_an_id_without_doubt_is_answered(text: bytes, found: object) -> None:
    assert request_id(text) == found


@pytest.mark.parametrize(
    ("head", "tail", "found"),
    [
        (b'{"id":7,"params":{"a":"x', b'x"}}\n', 7),
        (b' { "jsonrpc" : "2.0" , "method":"x", "id" : "seven" ,"params":{"a":"x', b'x"}}', "seven"),
        (b'{"params":{"a":"x', b'x"},"id":-7}\n', -7),
        (b'{"params":{"id":7,"a":"x', b'x"}}', None),
        (b'{"params":{"a":"x', b'x","id":7}}', None),
        (b'{"method":"\\"id\\":7,"a":"x', b'x"}}', None),
        (b'{"id":7', b"", None),
    ],
)
def test_of_a_request_too_long_to_read_only_an_id_of_the_outermost_object_is_answered(
    head: bytes, tail: bytes, found: object
) -> None:
    assert request_id_by_ends(head, tail) == found
