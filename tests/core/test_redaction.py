"""What leaves a run without the secrets that the run used: every form of them, however the bytes are cut."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_spaces.core.encodings import PIECE_BYTES, forms
from mcp_spaces.core.redaction import MINIMUM_LENGTH, Redactor

SECRET = "kanarie-7f3Q+zz/9 é<&>\"'\\"
"""Changes in every encoding."""
MARK = b"[redacted:prod/api]"


def knowing(*values: str, name: str = "prod/api") -> Redactor:
    redactor = Redactor()
    for value in values:
        redactor.learn(value, name=name)
    return redactor


def streamed(redactor: Redactor, content: bytes, size: int) -> bytes:
    stream = redactor.stream()
    passed = [stream.feed(content[at : at + size]) for at in range(0, len(content), size)]
    return b"".join([*passed, stream.finish()])


def encoded_after(before: bytes, encode: Callable[[bytes], bytes]) -> Callable[[str], bytes]:
    return lambda text: encode(before + text.encode())


FORMS: dict[str, Callable[[str], bytes]] = {
    "raw": str.encode,
    "latin-1": lambda text: text.encode("latin-1"),
    "cp1252": lambda text: text.encode("cp1252"),
    "utf-16-le": lambda text: text.encode("utf-16-le"),
    "utf-16-be": lambda text: text.encode("utf-16-be"),
    "hex": lambda text: text.encode().hex().encode(),
    "HEX": lambda text: text.encode().hex().upper().encode(),
    "latin-1 hex": lambda text: text.encode("latin-1").hex().encode(),
    "url": lambda text: quote(text, safe="").encode(),
    "url with slashes": lambda text: quote(text).encode(),
    "url lower": lambda text: re.sub("%..", lambda found: found[0].lower(), quote(text, safe="")).encode(),
    "form": lambda text: quote_plus(text).encode(),
    "url latin-1": lambda text: quote(text, safe="", encoding="latin-1").encode(),
    "form cp1252": lambda text: quote_plus(text, encoding="cp1252").encode(),
    "json": lambda text: json.dumps(text)[1:-1].encode(),
    "json utf-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1].encode(),
    "json php": lambda text: json.dumps(text)[1:-1].replace("/", "\\/").encode(),
    "json for html": lambda text: (
        json.dumps(text)[1:-1].replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode()
    ),
    "html": lambda text: html.escape(text).encode(),
    "html text": lambda text: html.escape(text, quote=False).encode(),
    "html numeric": lambda text: html.escape(text).encode("ascii", "xmlcharrefreplace"),
    "html named": lambda text: html.escape(text).replace("é", "&eacute;").encode(),
    "html all numeric": lambda text: "".join(f"&#{ord(char)};" for char in text).encode(),
    "html all hex": lambda text: "".join(f"&#x{ord(char):X};" for char in text).encode(),
    "read as latin-1": lambda text: text.encode().decode("latin-1").encode(),
    "read as latin-1, in a form": lambda text: quote_plus(text.encode().decode("latin-1")).encode(),
    "bytes literal": lambda text: repr(text.encode())[2:-1].encode(),
    **{
        f"base64 {kind} after {before!r}": encoded_after(before, encode)
        for kind, encode in (("std", base64.b64encode), ("url", base64.urlsafe_b64encode))
        for before in (b"", b"u", b"u:")
    },
    "base64 utf-16": lambda text: base64.b64encode(text.encode("utf-16-le")),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("secret", [SECRET, "correct horse battery", "ghp_16C7e42F292c6912E7710c838347Ae178B4a"])
def test_every_form_is_found_at_every_border_between_chunks(form: str, secret: str) -> None:
    content = b"GET /?q=" + FORMS[form](secret) + b"\r\n{}; the rest"
    redactor = knowing(secret)
    whole = streamed(redactor, content, len(content))
    assert MARK in whole
    shown = FORMS[form](secret)[3:-3]
    assert shown not in whole
    assert whole.endswith(b"; the rest") and whole.startswith(b"GET /?q=")
    assert {streamed(redactor, content, size) for size in range(1, 65)} == {whole}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_that_is_text_is_found_in_text(form: str) -> None:
    text = f"before {FORMS[form](SECRET).decode('utf-8', 'replace')} after"
    redactor = knowing(SECRET)
    redacted = redactor.text(text)
    assert redacted.startswith("before ") and redacted.endswith(" after")
    assert MARK.decode() in redacted
    assert "7f3Q" not in redacted
    assert redactor.value({text: [text, 1]}) == {redacted: [redacted, 1]}


VALUES = st.lists(st.text("ab", min_size=MINIMUM_LENGTH, max_size=12), min_size=1, max_size=3)


@given(VALUES, st.text("abc", max_size=80), st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_however_bytes_are_cut_the_same_comes_out_and_nothing_else_is_changed(
    values: list[str], text: str, sizes: list[int]
) -> None:
    """Secrets that overlap each other and themselves included."""
    redactor = Redactor()
    for number, value in enumerate(values):
        redactor.learn(value, name=str(number))
    content, passed, at = text.encode(), [], 0
    stream = redactor.stream()
    for number in range(len(content)):
        size = sizes[number % len(sizes)]
        passed.append(stream.feed(content[at : at + size]))
        at += size
    redacted = b"".join([*passed, stream.finish()])
    assert redacted == streamed(redactor, content, max(len(content), 1)) == redactor.text(text).encode()
    # Every byte that a secret covers is gone, also where two overlap, and every other one is there.
    covered = {
        place
        for value in values
        for start in range(len(text))
        if text.startswith(value, start)
        for place in range(start, start + len(value))
    }
    rest = "".join(char for place, char in enumerate(text) if place not in covered)
    kept = redacted.decode()
    for number in range(len(values)):
        kept = kept.replace(f"[redacted:{number}]", "")
    assert kept == rest


def test_only_the_beginning_of_a_secret_is_held_back() -> None:
    stream = knowing("s3cret-value").stream()
    assert stream.feed(b"Password: ") == b"Password: "
    assert stream.feed(b"s3cret") == b""
    assert stream.feed(b"ary") == b"s3cretary"
    assert stream.feed(b" s3cret-val") == b" "
    assert stream.finish() == b"s3cret-val"


def test_how_much_is_held_back_is_told() -> None:
    stream = knowing("s3cret-value").stream()
    for fed, held in ((b"Password: ", 0), (b"s3cret", 6), (b"-", 7), (b"value", 0)):
        stream.feed(fed)
        assert stream.held_bytes == held


@pytest.mark.parametrize("secret", ["s3cret-value", "sk-" + "0123456789" * 5 + "x"])
def test_content_that_ends_in_the_second_half_of_a_secret_is_told_by_its_beginning(secret: str) -> None:
    redactor, half = knowing(secret), (len(secret) + 1) // 2
    assert redactor.begun(secret[:half].encode()) == redactor.begun(secret.encode()) == "prod/api"
    for other in (secret[: half - 1], secret[:half] + "?", "?" + secret[:half], secret[1:], ""):
        assert redactor.begun(other.encode()) is None
    assert Redactor().begun(secret.encode()) is None


def test_a_secret_longer_than_a_piece_is_redacted_as_one() -> None:
    long = "".join(f"{number:05d}\n" for number in range(3000))
    redactor = knowing(long)
    for name in ("raw", "base64 std after b''", "json"):
        content = b"<<" + FORMS[name](long) + b">>"
        redacted = streamed(redactor, content, 1000)
        assert redacted.startswith(b"<<") and redacted.endswith(b">>")
        assert redacted.count(MARK) == 1 and len(redacted) < 40
    assert max(map(len, forms(long))) == PIECE_BYTES


def test_a_secret_of_several_lines_is_known_without_its_last_line_end_and_on_a_terminal() -> None:
    redactor = knowing("first line\nsecond line\n")
    for shown in (b"first line\nsecond line", b"first line\r\nsecond line\r\n"):
        assert streamed(redactor, b"<" + shown + b">", 3) == b"<" + MARK + b">"


LONG = "sk-proj-" + "".join(chr(65 + number * 7 % 26) for number in range(160))
WRAPPED = {
    "base64(1)": base64.encodebytes(f"{LONG}\n".encode()),
    "mail": base64.encodebytes(LONG.encode()).replace(b"\n", b"\r\n"),
    "openssl": b"\n".join(re.findall(b".{1,64}", base64.b64encode(LONG.encode()))),
    "xxd": b"\n".join(re.findall(b".{1,60}", LONG.encode().hex().encode())),
}


@pytest.mark.parametrize("tool", WRAPPED)
def test_a_long_secret_is_known_in_the_lines_that_tools_make_of_it(tool: str) -> None:
    content = b"> " + WRAPPED[tool] + b"\n$ "
    for size in (1, 7, 1000):
        redacted = streamed(knowing(LONG), content, size)
        assert redacted.startswith(b"> " + MARK) and redacted.endswith(b"\n$ ")
        assert len(redacted) < len(MARK) + 12


def test_v22_a_value_of_less_than_six_characters_is_not_learnt() -> None:
    redactor = knowing("admin", "ééé")
    assert redactor.idle
    assert redactor.text("admin") == "admin"
    assert redactor.stream().feed(b"admin") == b"admin"


def test_a_secret_beyond_ascii_does_not_eat_what_could_not_be_decoded() -> None:
    assert knowing("éèêëöüß").text("\ufffd" * 20) == "\ufffd" * 20
    # Read as latin-1, 鎊 begins like é: a text is never cut inside of a character.
    assert knowing("cafetié").text("cafeti鎊") == "cafeti鎊"


def test_our_own_keys_are_taken_out_of_texts_without_being_learnt() -> None:
    assert Redactor().text(f"key=msp_{'a' * 26}_{'B' * 43}.") == "key=[redacted:key]."


def test_l21_what_was_redacted_is_counted_by_name() -> None:
    redactor = knowing(SECRET)
    streamed(redactor, SECRET.encode() * 2, 5)
    redactor.text(json.dumps(SECRET))
    assert dict(redactor.counts) == {"prod/api": 3}
