"""The envelope: master key → data key → one AES-256-GCM box for each version of each secret.

    box = nonce (12 random bytes) || ciphertext || tag (16)
    associated text = v1 | vault id | entry id | path | kind | version | data key id | sha256 of the bindings

A box that was swapped with another, rolled back, or whose bindings were changed does not open. Random 96-bit nonces
are safe for 2^32 boxes under one key (NIST SP 800-38D, 8.3); `vault rotate` makes a new key long before that.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mcp_spaces.core.ids import new_id
from mcp_spaces.errors import WrongState
from mcp_spaces.vault.model import Entry, Purpose, SecretValue

KEY_BYTES = 32
NONCE_BYTES = 12
TALLY_MODULUS = 1 << 256


@dataclass(frozen=True, slots=True)
class MasterKey:
    """Wraps data keys and nothing else. `id` says which one it is, and nothing about its bytes."""

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise ValueError("a master key has 32 bytes")

    @property
    def id(self) -> str:
        return hmac.digest(self.key, b"mcp-spaces vault master key id", hashlib.sha256).hex()[:32]


@dataclass(frozen=True, slots=True)
class DataKey:
    id: str
    key: bytes = field(repr=False)

    @classmethod
    def new(cls) -> DataKey:
        return cls(new_id("dk"), os.urandom(KEY_BYTES))


def new_master_key() -> MasterKey:
    return MasterKey(os.urandom(KEY_BYTES))


def master_key_of(text: str, *, where: str) -> MasterKey:
    """Out of its 64 hexadecimal digits. Raises WrongState, which names `where` it was and never the text."""
    try:
        return MasterKey(binascii.unhexlify(text.strip()))
    except ValueError:
        raise WrongState(
            f"What {where} holds is no master key.", hint="It has 64 hexadecimal digits: openssl rand -hex 32"
        ) from None


def wrap(data_key: DataKey, *, master: MasterKey, vault_id: str) -> bytes:
    return _boxed(master.key, data_key.key, f"v1|{vault_id}|data key|{data_key.id}|{master.id}".encode())


def unwrap(wrapped: bytes, *, key_id: str, master: MasterKey, vault_id: str) -> DataKey:
    """Raises WrongState: another master key, or changed bytes."""
    try:
        return DataKey(key_id, _unboxed(master.key, wrapped, f"v1|{vault_id}|data key|{key_id}|{master.id}".encode()))
    except InvalidTag:
        raise damaged() from None


def seal_secret(fields: Mapping[str, str], *, entry: Entry, data_key: DataKey, vault_id: str) -> bytes:
    content = json.dumps(dict(fields), sort_keys=True).encode()
    return _boxed(data_key.key, content, _associated(entry, data_key.id, vault_id))


def open_secret(
    sealed: bytes, *, entry: Entry, data_key: DataKey, vault_id: str, purpose: Purpose
) -> Mapping[str, SecretValue]:
    """The one function that turns a stored secret into plain text. `purpose` is why; it stands in the audit log.

    Raises WrongState, with one text for every reason, when the box is not the one that was sealed for this entry.
    """
    try:
        content = json.loads(_unboxed(data_key.key, sealed, _associated(entry, data_key.id, vault_id)))
    except (InvalidTag, ValueError):
        raise damaged() from None
    return {name: SecretValue(value, name=f"{entry.path}#{name}") for name, value in content.items()}


def seal_key(content: bytes, *, label: str, data_key: DataKey, vault_id: str) -> bytes:
    """For keys of other rooms."""
    return _boxed(data_key.key, content, f"v1|{vault_id}|key|{data_key.id}|{label}".encode())


def open_key(box: bytes, *, label: str, data_key: DataKey, vault_id: str) -> bytes:
    """Raises WrongState."""
    try:
        return _unboxed(data_key.key, box, f"v1|{vault_id}|key|{data_key.id}|{label}".encode())
    except InvalidTag:
        raise damaged() from None


def damaged() -> WrongState:
    return WrongState(
        "The vault was damaged or changed outside of mcp-spaces; it opens nothing.",
        hint="Run `mcp-spaces audit verify` and restore a backup with the master key that belongs to it.",
    )


class IndexSeal:
    """MACs over the list of entries, so that a row which is removed, added or rolled back is noticed (threat V10).

    Each entry has a MAC. The list's is over their sum modulo 2^256 and a number that grows with every change: the
    sum does not depend on order and is kept up to date without reading the rest (Clarke et al. 2003, MSet-Add-Hash).
    """

    def __init__(self, data_key: DataKey) -> None:
        self._key = hmac.digest(data_key.key, b"mcp-spaces vault index v1", hashlib.sha256)

    def of_entry(self, path: str, version: int, body: str) -> bytes:
        return self._mac(b"entry", path.encode(), str(version).encode(), body.encode())

    def of_list(self, *, generation: int, count: int, tally: int) -> bytes:
        return self._mac(b"list", str(generation).encode(), str(count).encode(), tally.to_bytes(32, "big"))

    def fingerprint(self, secret: SecretValue) -> str:
        """For records: equal for the same value in the same field, as long as the data key is the same."""
        return self._mac(b"fingerprint", secret.name.encode(), secret.reveal().encode("utf-8", "surrogatepass"))[
            :8
        ].hex()

    def _mac(self, *parts: bytes) -> bytes:
        framed = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(self._key, framed, hashlib.sha256)


def _associated(entry: Entry, key_id: str, vault_id: str) -> bytes:
    # None of these can hold a bar: ids, a path by its grammar, a number, a hash.
    parts = ("v1", vault_id, entry.id, entry.path, entry.kind, str(entry.version), key_id, entry.bindings.digest)
    return "|".join(parts).encode()


def _boxed(key: bytes, content: bytes, associated: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, content, associated)


def _unboxed(key: bytes, box: bytes, associated: bytes) -> bytes:
    if len(box) < NONCE_BYTES + 16:
        raise InvalidTag
    return AESGCM(key).decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], associated)
