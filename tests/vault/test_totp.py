"""One-time codes: RFC 6238's own vectors, pyotp as a second opinion, and what sites hand out."""

from __future__ import annotations

import base64
import hashlib

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_spaces.errors import InvalidInput
from mcp_spaces.vault.totp import Seed, parse_seed

DIGITS = b"1234567890"
KEYS = {"SHA1": (DIGITS * 2)[:20], "SHA256": (DIGITS * 4)[:32], "SHA512": (DIGITS * 7)[:64]}
# RFC 6238, appendix B.
VECTORS = [
    (59, "94287082", "46119246", "90693936"),
    (1_111_111_109, "07081804", "68084774", "25091201"),
    (1_111_111_111, "14050471", "67062674", "99943326"),
    (1_234_567_890, "89005924", "91819424", "93441116"),
    (2_000_000_000, "69279037", "90698825", "38618901"),
    (20_000_000_000, "65353130", "77737706", "47863826"),
]


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: str(row[0]))
def test_codes_are_those_of_rfc_6238(row: tuple[int, str, str, str]) -> None:
    at, *codes = row
    seeds = [Seed(key, algorithm=name, digits=8) for name, key in KEYS.items()]
    assert [seed.code(seed.step_at(at)) for seed in seeds] == codes


@given(
    key=st.binary(min_size=16, max_size=64),
    name=st.sampled_from(["SHA1", "SHA256", "SHA512"]),
    digits=st.integers(6, 8),
    period=st.integers(5, 120),
    now=st.integers(0, 1 << 34),
)
def test_codes_agree_with_another_implementation(key: bytes, name: str, digits: int, period: int, now: int) -> None:
    other = pyotp.TOTP(
        base64.b32encode(key).decode(), digits=digits, interval=period, digest=getattr(hashlib, name.lower())
    )
    seed = parse_seed(
        f"otpauth://totp/x?secret={base64.b32encode(key).decode().rstrip('=')}"
        f"&algorithm={name}&digits={digits}&period={period}"
    )
    assert seed.code(seed.step_at(now)) == other.at(now)


@pytest.mark.parametrize(
    "text",
    [
        "JBSWY3DPEHPK3PXP",
        "jbsw y3dp ehpk 3pxp",
        "JBSW-Y3DP-EHPK-3PXP",
        " JBSWY3DPEHPK3PXP\n",
        "otpauth://totp/Acme:ann?secret=JBSWY3DPEHPK3PXP&issuer=Acme",
        "OTPAUTH://TOTP/Acme?secret=jbswy3dpehpk3pxp&digits=6&period=30&algorithm=sha-1",
    ],
)
def test_a_seed_is_understood_as_sites_write_it(text: str) -> None:
    assert parse_seed(text) == Seed(b"Hello!\xde\xad\xbe\xef")


def test_a_seed_does_not_show_itself() -> None:
    assert "JBSWY3DPEHPK3PXP" not in repr(parse_seed("JBSWY3DPEHPK3PXP"))
    assert "Hello" not in repr(parse_seed("JBSWY3DPEHPK3PXP"))


def test_padding_is_optional() -> None:
    assert parse_seed("GEZDGNBVGY3TQOJQGE======") == parse_seed("GEZDGNBVGY3TQOJQGE") == Seed(b"12345678901")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not base32!",
        "JBSWY3DP",
        "otpauth://hotp/x?secret=JBSWY3DPEHPK3PXP&counter=1",
        "otpauth://totp/x?secret=JBSWY3DPEHPK3PXP&secret=GEZDGNBVGY3TQOJQ",
        "otpauth://totp/x?secret=JBSWY3DPEHPK3PXP&digits=5",
        "otpauth://totp/x?secret=JBSWY3DPEHPK3PXP&digits=9",
        "otpauth://totp/x?secret=JBSWY3DPEHPK3PXP&digits=six",
        "otpauth://totp/x?secret=JBSWY3DPEHPK3PXP&digits=٦",
        "otpauth://totp/x?secret=JBSWY3DPEHPK3PXP&period=0",
        "otpauth://totp/x?secret=JBSWY3DPEHPK3PXP&period=301",
        "otpauth://totp/x?secret=JBSWY3DPEHPK3PXP&period=" + "0" * 5_000 + "30",
        "otpauth://totp/x?secret=JBSWY3DPEHPK3PXP&algorithm=",
        "otpauth://totp/x?secret=JBSWY3DPEHPK3PXP&algorithm=MD5",
        "otpauth://totp/x",
        "otpauth://[x",
        "A" * 5_000,
    ],
)
def test_what_is_no_seed_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_seed(text)
    assert len(text) < 5 or text not in refused.value.message + refused.value.hint
