"""HTTPS: the certificate that is given, or one of our own for a trial in a local network."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mediaserver.config import ConfigError
from mediaserver.settings import HttpSettings

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

DAYS = 365
RENEW_DAYS = 7


def server_context(settings: HttpSettings, folder: Path, addresses: Sequence[str], now: float) -> ssl.SSLContext | None:
    """The TLS context of the HTTP port, None for plain HTTP. Raises `ConfigError`.

    A self-signed certificate is kept in `folder`, so that a browser's exception for it holds over restarts.
    """
    if settings.certificate:
        certificate, key = Path(settings.certificate), Path(settings.key)
    elif settings.tls == "self-signed":
        certificate, key = _self_signed(folder, addresses, now)
    else:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password="")  # never ask on the terminal
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(_fault(certificate, key) or f"http.certificate {certificate}: {error}") from None
    return context


def _fault(certificate: Path, key: Path) -> str:
    """What is wrong with a certificate or its key and what to do, where that can be said."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    for name, path in (("certificate", certificate), ("key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            return f"http.{name} {path} can't be read: {error.strerror}"
    try:
        public = x509.load_pem_x509_certificates(certificate.read_bytes())[0].public_key()
    except ValueError:
        return f"http.certificate {certificate} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"
    try:
        private = load_pem_private_key(key.read_bytes(), None)
    except TypeError:
        return f"http.key {key} is encrypted: give the key without a passphrase (openssl pkey -in {key} -out KEY)"
    except ValueError:
        return f"http.key {key} holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)"
    if private.public_key() != public:
        return f"http.key {key} belongs to another certificate than {certificate}: give the two that belong together"
    return ""


def _self_signed(folder: Path, addresses: Sequence[str], now: float) -> tuple[Path, Path]:
    certificate, key = folder / "self-signed.pem", folder / "self-signed.key"
    if not _still_good(certificate, key, addresses, now):
        folder.mkdir(parents=True, exist_ok=True)
        _make(certificate, key, addresses, now)
    return certificate, key


def _still_good(certificate: Path, key: Path, addresses: Sequence[str], now: float) -> bool:
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    fresh = found.not_valid_after_utc.timestamp() > now + RENEW_DAYS * 86400
    covered = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    return fresh and key.exists() and covered >= set(addresses)


def _make(certificate: Path, key: Path, addresses: Sequence[str], now: float) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with open(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(text)
    certificate.write_bytes(_signed(private, addresses, now).public_bytes(serialization.Encoding.PEM))


def _signed(private: object, addresses: Sequence[str], now: float) -> Certificate:
    import socket

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    assert isinstance(private, ec.EllipticCurvePrivateKey)
    start = datetime.fromtimestamp(now, UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mediaserver trial")])
    hosts = [x509.DNSName(host) for host in sorted({"localhost", socket.gethostname()}) if host.isascii() and host]
    ips = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - timedelta(days=1))
        .not_valid_after(start + timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([*hosts, *ips]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(private, hashes.SHA256())
    )
