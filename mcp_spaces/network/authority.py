"""A certificate authority for one space, and the leaves that it signs: trusted inside of the space's sandboxes alone."""

from __future__ import annotations

import datetime
import os
import ssl
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mcp_spaces.network.tls import server_context

AUTHORITY_DAYS = 3_650
LEAF_DAYS = 30
LEAVES_MAX = 1_000
SLACK = datetime.timedelta(days=1)
"""Clocks inside may be behind."""


class Authority:
    """`key` signs; it is in the daemon's memory, and sealed on the disk."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._leaves: dict[str, tuple[ssl.SSLContext, datetime.datetime]] = {}

    @classmethod
    def new(cls, space_id: str, now: datetime.datetime) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"mcp-spaces gateway of {space_id}"[:64])])
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            _begun(name, name, key, now, days=AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def read(cls, certificate: bytes, key: bytes) -> Authority:
        """What `certificate` and `key_bytes` gave. Raises ValueError."""
        read = serialization.load_der_private_key(key, password=None)
        if not isinstance(read, ec.EllipticCurvePrivateKey):
            raise ValueError("another kind of key")
        return cls(x509.load_pem_x509_certificate(certificate), read)

    @property
    def certificate(self) -> bytes:
        """PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def key_bytes(self) -> bytes:
        """To be sealed."""
        return self._key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def context(self, host: str, now: datetime.datetime) -> ssl.SSLContext:
        """For a server that is `host` and no other."""
        known = self._leaves.get(host)
        if known is not None and now < known[1]:
            return known[0]
        if len(self._leaves) >= LEAVES_MAX:
            self._leaves.clear()
        context = self._context(self._leaf(host, now))
        self._leaves[host] = context, now + datetime.timedelta(days=LEAF_DAYS) - SLACK
        return context

    def _leaf(self, host: str, now: datetime.datetime) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
        return (
            _begun(subject, self._certificate.subject, self._leaf_key, now, days=LEAF_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_name(host)]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._leaf_key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _context(self, leaf: x509.Certificate) -> ssl.SSLContext:
        key = self._leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        # Python reads keys from files only: this one has no name and is never on a disk.
        descriptor = os.memfd_create("leaf", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(leaf.public_bytes(serialization.Encoding.PEM) + key)
            file.flush()
            return server_context(f"/proc/self/fd/{descriptor}")


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime.datetime, *, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SLACK)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
