"""What is different in every deployment: the ConfigMap ``run-params`` and the Secret ``run-secrets``."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from harness.errors import UsageError
from harness.model.target import Target

MAIL_DOMAIN = "example.org"
CLUSTER_DOMAIN = "cluster.local"
#: The address that the manifests in deploy/ carry for the lab's DNS.
DEFAULT_DNS_ADDRESS = "10.96.0.53"
_VALID_DAYS = 30
#: Keys of ``run-params`` that every deployment fills in itself; a plan sets the others only.
FILLED_IN = frozenset({"USERS", "TIME_SCALE", "MAIL_DOMAIN", "GENERATOR_NETWORKS", "POD_NETWORKS", "CLUSTER_DOMAIN", "DNS_ADDRESS"})


@dataclass(frozen=True)
class Credentials:
    """Password and certificates of one deployment, PEM. Nothing of them is ever used again."""

    password: str
    ca_pem: str
    cert_pem: str
    key_pem: str


@dataclass(frozen=True)
class Params:
    """Parameters of one deployment.

    :param users: how many users there are, ``user1`` …
    :param time_scale: back-offs, TTLs and lags of the stack are divided by it.
    :param dns_address: cluster IP of the lab's DNS.
    :param overrides: further keys of ``run-params``, e.g. ``LIMIT_RATE``.
    """

    namespace: str
    users: int
    time_scale: float
    generator_networks: Sequence[str]
    pod_networks: Sequence[str]
    dns_address: str = DEFAULT_DNS_ADDRESS
    mail_domain: str = MAIL_DOMAIN
    cluster_domain: str = CLUSTER_DOMAIN
    overrides: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 8 <= self.users <= 100_000:
            raise UsageError(f"{self.users} users", todo="8 to 100000: the first eight are probe users")
        if not 1 <= self.time_scale <= 1000:
            raise UsageError(f"time scale {self.time_scale}", todo="1 to 1000")

    def data(self) -> dict[str, str]:
        """The data of ``run-params``, overrides last."""
        return {
            "USERS": str(self.users), "TIME_SCALE": f"{self.time_scale:g}", "MAIL_DOMAIN": self.mail_domain,
            "GENERATOR_NETWORKS": " ".join(self.generator_networks), "POD_NETWORKS": " ".join(self.pod_networks),
            "CLUSTER_DOMAIN": self.cluster_domain, "DNS_ADDRESS": self.dns_address, **self.overrides,
        }


def secret_data(credentials: Credentials) -> dict[str, str]:
    """The data of ``run-secrets``, base64 as the API wants it."""
    plain = {"user-password": credentials.password, "tls.crt": credentials.cert_pem + credentials.ca_pem,
             "tls.key": credentials.key_pem, "ca.crt": credentials.ca_pem}
    return {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}


def credentials_of(secret: Mapping[str, Any]) -> Credentials:
    """The credentials in a ``run-secrets`` Secret as the API gives it (the chain of ``tls.crt`` stays whole)."""
    plain = {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}
    return Credentials(plain["user-password"], plain["ca.crt"], plain["tls.crt"], plain["tls.key"])


def make_credentials(params: Params, target: Target) -> Credentials:
    """A new password, CA and one certificate for every name and address that clients inside and outside use."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name(f"mailgale CA of {params.namespace}"[:64])
    ca = (
        _builder(issuer, issuer, ca_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    leaf = (
        _builder(_name(f"mail.{params.mail_domain}"), issuer, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName(_alternative_names(params, target)), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Credentials(secrets.token_urlsafe(18), _pem(ca), _pem(leaf), private.decode())


def free_dns_address(target: Target, taken: Iterable[str]) -> str:
    """A cluster IP for the lab's DNS that no Service has: offset 53 of the IPv4 service network, else 20 … 250.

    These offsets are in the band from which the API server gives out no address by itself (KEP-3070).

    :raises UsageError: the target names no IPv4 service network, or every address is taken.
    """
    networks = [n for n in map(ipaddress.ip_network, target.service_networks) if n.version == 4]
    if not networks:
        raise UsageError("the target has no IPv4 service network", where=target.name, todo="for a context: 'service_networks' in the configuration")
    used = set(taken)
    for offset in (53, *range(20, 251)):
        address = str(networks[0][offset])
        if address not in used:
            return address
    raise UsageError("no address is left for the lab's DNS", where=target.name, todo="mailgale stack down")


def _alternative_names(params: Params, target: Target) -> list[x509.GeneralName]:
    base = f"{params.namespace}.svc.{params.cluster_domain}"
    names = ["localhost", params.mail_domain, f"*.{params.mail_domain}", f"*.{base}"]
    # A wildcard covers one label only (RFC 6125 section 6.4.3), so the pods of headless Services need their own.
    names += [f"*.{service}.{base}" for service in ("mx", "mailbox", "mailbox-proxy", "submission", "outbound", "internet")]
    addresses = ["127.0.0.1", "::1", *target.edge.addresses]
    return [*(x509.DNSName(n) for n in names), *(x509.IPAddress(ipaddress.ip_address(a)) for a in addresses)]


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime) -> x509.CertificateBuilder:
    # An hour back: clocks of nodes differ.
    return (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
    )


def _usage(**on: bool) -> x509.KeyUsage:
    every = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
             "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: on.get(name, False) for name in every})


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
