"""What the engine is told: a LoadSpec, as JSON in a file. And the guard: nothing but loopback or listed addresses is loaded."""

from __future__ import annotations

import csv
import dataclasses
import ipaddress
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import GuardRefused, UsageError

ROLES = ("mx", "submission", "imap", "pop3")
#: Environment variable that carries the users' password, so that no file of a run holds it.
PASSWORD_ENV = "MAILGALE_LOAD_PASSWORD"
TLS_MODES = ("none", "starttls", "implicit")


@dataclass(frozen=True)
class Access:
    """Where one service is reached.

    :param hosts: addresses (a name is resolved once, by :meth:`LoadSpec.guarded`); a client takes the first of its family.
    :param tls: ``none``, ``starttls`` or ``implicit``.
    :param proxy: send a PROXY v2 header with the simulated client's address first.
    """

    hosts: tuple[str, ...]
    port: int
    tls: str = "none"
    proxy: bool = False

    def host_for(self, client: str) -> str:
        """The address of the same family as ``client``, else the first."""
        wanted = ":" in client
        return next((h for h in self.hosts if (":" in h) is wanted), self.hosts[0])


@dataclass(frozen=True)
class LoadSpec:
    """One engine's task.

    :param run_id: run's name in trace headers.
    :param arm: ``<block>-<arm>``, likewise.
    :param scenario: file name in ``scenarios/`` without ``.py``.
    :param endpoints: role (``mx``, ``submission``, ``imap``, ``pop3``) → where.
    :param params: see harness.load.params.Params.
    :param out: directory for ``load-<n>.log``; it must exist.
    :param users: ``user1@<mail_domain>`` … with one ``password``; or
    :param user_file: CSV ``address,password``, one user a line, instead of ``users`` and ``password``.
    :param allow: addresses and networks that may be loaded beside loopback.
    :param sources: local addresses to connect from: a sender or reader keeps to one of them, of the family of the server it connects to. () = the
        system's choice. One address has some 28,000 ports for one server (ip(7)).
    :param ca_file: PEM that TLS certificates must chain to; "" = certificates are not checked.
    :param engine: number ``n`` of this engine, of ``engines``.
    """

    run_id: str
    arm: str
    seed: int
    scenario: str
    endpoints: Mapping[str, Access]
    params: Mapping[str, Any]
    out: str
    users: int = 0
    password: str = field(default="", repr=False)
    mail_domain: str = "example.org"
    user_file: str = ""
    internet_domains: tuple[str, ...] = ("example.net", "example.com")
    time_scale: float = 1.0
    allow: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    ca_file: str = ""
    tls_name: str = ""
    engine: int = 1
    engines: int = 1

    def to_json(self, *, private: bool = False) -> str:
        """As JSON; :meth:`from_json` reads it back. The password is in it only when ``private``; else it goes by PASSWORD_ENV."""
        return json.dumps({k: v for k, v in dataclasses.asdict(self).items() if private or k != "password"}, indent=1)

    @classmethod
    def from_json(cls, text: str, *, where: str = "load spec") -> LoadSpec:
        """Read back what :meth:`to_json` wrote.

        :raises UsageError: not JSON, unknown or missing keys, an unknown role or TLS mode.
        """
        try:
            data = json.loads(text)
            accesses = {role: _access(role, a, where) for role, a in data.pop("endpoints").items()}
            data |= {key: tuple(data.get(key, ())) for key in ("allow", "internet_domains", "sources")}
            return cls(endpoints=accesses, **data)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"not a load spec: {error}", where=where) from error

    @classmethod
    def read(cls, path: Path) -> LoadSpec:
        """The spec in a file, with the password from the environment. Raises as :meth:`from_json`, and UsageError when there is no such file."""
        try:
            spec = cls.from_json(path.read_text(), where=str(path))
        except OSError as error:
            raise UsageError(f"cannot read the load spec: {error.strerror}", where=str(path)) from error
        return spec if spec.password else spec.replace(password=os.environ.get(PASSWORD_ENV, ""))

    def replace(self, **changes: Any) -> LoadSpec:
        """A copy with ``changes``."""
        return dataclasses.replace(self, **changes)

    def source_for(self, host: str, number: int) -> str:
        """The local address of the ``number``-th client for a server at ``host``; "" = the system's choice.

        :raises UsageError: there are addresses, but none of its family.
        """
        fitting = [s for s in self.sources if (":" in s) == (":" in host)]
        if self.sources and not fitting:
            raise UsageError(f"none of the source addresses can reach {host}: they are of the other family", where=", ".join(self.sources))
        return fitting[number % len(fitting)] if fitting else ""

    def accounts(self) -> list[tuple[str, str]]:
        """(address, password) of every user, probe users first.

        :raises UsageError: an unreadable user file, or one without users.
        """
        if not self.user_file:
            return [(f"user{i}@{self.mail_domain}", self.password) for i in range(1, self.users + 1)]
        try:
            with open(self.user_file, newline="") as handle:
                rows = [(r[0].strip(), r[1].strip() if len(r) > 1 else "") for r in csv.reader(handle) if r and "@" in r[0]]
        except OSError as error:
            raise UsageError(f"cannot read the user file: {error.strerror}", where=self.user_file) from error
        if not rows:
            raise UsageError("the user file names no user", where=self.user_file, todo="one 'address,password' a line")
        return rows

    def guarded(self) -> LoadSpec:
        """The same spec with every host resolved to addresses that may be loaded.

        :raises GuardRefused: an address that is neither loopback nor inside ``allow``, or a name that does not resolve.
        """
        networks = [_network(a) for a in self.allow]
        return self.replace(endpoints={
            role: dataclasses.replace(access, hosts=tuple(_allowed(h, networks) for h in access.hosts))
            for role, access in self.endpoints.items()
        })


def _access(role: str, data: Mapping[str, Any], where: str) -> Access:
    if role not in ROLES:
        raise UsageError(f"unknown role '{role}'", where=where, todo=f"valid: {', '.join(ROLES)}")
    access = Access(**{**data, "hosts": tuple(data["hosts"])})
    if access.tls not in TLS_MODES:
        raise UsageError(f"unknown TLS mode '{access.tls}' of {role}", where=where, todo=f"valid: {', '.join(TLS_MODES)}")
    if not access.hosts or not 0 < access.port < 65536:
        raise UsageError(f"{role} needs a host and a port", where=where)
    return access


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise GuardRefused(f"the allow-list holds no network: {error}", where=text) from None


def _allowed(host: str, networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> str:
    address = ipaddress.ip_address(_resolve(host))
    if address.is_loopback or any(address in n for n in networks if n.version == address.version):
        return str(address)
    raise GuardRefused(
        f"{host} is neither loopback nor in the allow-list: nothing is sent", where=str(address),
        todo="list the address in 'allow' if the server is yours to load",
    )


def _resolve(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise GuardRefused(f"the name does not resolve: {error.strerror}", where=host) from None
