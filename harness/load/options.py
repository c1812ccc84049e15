"""Command-line options that scenarios add to Locust's own, and the spec they make."""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UsageError
from harness.load.params import Params
from harness.load.spec import Access, LoadSpec

_HOST = re.compile(r"^(?:(?P<scheme>[a-z0-9]+)://)?(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]/]+):(?P<port>\d{1,5})/?$")
_IMPLICIT = frozenset({"smtps", "submissions", "imaps", "pop3s"})


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add mailgale's group to Locust's parser."""
    group = parser.add_argument_group("mailgale")
    group.add_argument("--submission", metavar="HOST:PORT", default="", help="where authenticated users submit")
    group.add_argument("--imap", metavar="HOST:PORT", default="", help="IMAP server")
    group.add_argument("--pop3", metavar="HOST:PORT", default="", help="POP3 server")
    group.add_argument("--mail-tls", choices=("none", "starttls", "implicit"), default="none", help="TLS of all of them")
    group.add_argument("--load-users", type=int, default=20, metavar="N", help="user1@DOMAIN … userN@DOMAIN exist")
    group.add_argument("--load-password", default="", help="their password")
    group.add_argument("--user-file", default="", help="CSV 'address,password' instead")
    group.add_argument("--mail-domain", default="example.org")
    group.add_argument("--seed", type=int, default=1)
    group.add_argument("--time-scale", type=float, default=1.0, help="divides back-off and deadlines")
    group.add_argument("--allow", action="append", default=[], metavar="CIDR", help="network that may be loaded beside loopback")
    group.add_argument("--source", action="append", default=[], metavar="ADDRESS", help="local address to connect from; repeat it for a pool")
    group.add_argument("--load-out", default="", metavar="DIR", help="directory of load-<n>.log (default: a new one)")
    group.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the scenario")


def spec_from_options(options: Any, scenario: str) -> LoadSpec:
    """The spec that Locust's command line describes. ``--host smtp://HOST:PORT`` (or ``lmtp``) names the MX.

    :raises UsageError: an option that says nothing useful.
    """
    endpoints = {"mx": access(options.host or "smtp://127.0.0.1:2525", options.mail_tls)}
    for role in ("submission", "imap", "pop3"):
        if value := getattr(options, role):
            endpoints[role] = access(value, options.mail_tls)
    params = dict(parameter(word) for word in options.set)
    Params.of(params, where="--set")
    out = options.load_out or tempfile.mkdtemp(prefix="mailgale-load-")
    Path(out).mkdir(parents=True, exist_ok=True)
    return LoadSpec(
        run_id=time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), arm="1-locust", seed=options.seed, scenario=scenario, endpoints=endpoints,
        params=params, out=out, users=options.load_users, password=options.load_password, mail_domain=options.mail_domain,
        user_file=options.user_file, time_scale=options.time_scale, allow=tuple(options.allow), sources=tuple(options.source),
    )


def access(text: str, tls: str) -> Access:
    """``smtp://HOST:PORT``, ``HOST:PORT`` or ``[IPV6]:PORT``; ``smtps``, ``submissions``, ``imaps`` and ``pop3s`` mean implicit TLS (RFC 8314).

    :param tls: where the scheme does not say.
    :raises UsageError: anything else.
    """
    found = _HOST.match(text)
    if not found:
        raise UsageError(f"'{text}' is no HOST:PORT", todo="e.g. smtp://127.0.0.1:2525 or [::1]:143")
    return Access((found["host"].strip("[]"),), int(found["port"]), "implicit" if found["scheme"] in _IMPLICIT else tls)


def parameter(word: str) -> tuple[str, Any]:
    """``NAME=VALUE``, the value as YAML reads it.

    :raises UsageError: no ``=``, or no YAML.
    """
    name, separator, value = word.partition("=")
    if not separator:
        raise UsageError(f"'{word}' is no NAME=VALUE", where="--set")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"'{value}' is no value: {error}", where="--set") from error
