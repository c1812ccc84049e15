"""Images for a foreign cluster: tagged ``PREFIX/NAME:CONTENT-HASH`` and pushed by the engine to a registry the nodes pull from.

A tag that the registry holds with another image is never overwritten; one that it holds with this very image is left alone.
The registry is asked with ``docker manifest inspect``, which uses the user's own logins (docker-login(1)) and certificates.
Source: docker-push(1), docker-manifest-inspect(1); the OCI distribution specification 1.1.

Known limits: two processes that push the same tag at the same moment are seen afterwards only (the digest is read again); a
registry that answers "denied" for a repository that does not exist yet must have it made by hand.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from harness.cluster.engine import Engine
from harness.errors import CommandFailed, StackFailed
from harness.stack.images import REPOSITORY, Image
from harness.support.progress import Progress
from harness.support.shell import tail

_ASK_S = 60.0
_PUSH_S = 900.0
_PARALLEL = 2
#: What docker says when a registry answers that it has no such tag or repository.
_ABSENT = "no such manifest"


def publish(engine: Engine, prefix: str, images: Mapping[str, Image], progress: Progress) -> dict[str, Image]:
    """Push what the registry lacks.

    :param prefix: ``HOST[:PORT]/PREFIX``.
    :param images: by name, as of ``images.ensure``.
    :return: the images by name, under the references by which nodes pull them.
    :raises StackFailed: the registry holds another image under such a tag, does not answer, or refuses.
    """
    flags = ("--insecure",) if insecure(engine, prefix.partition("/")[0]) else ()
    with progress.stage(f"images to {prefix}"), ThreadPoolExecutor(_PARALLEL) as pool:
        return {i.name: i for i in pool.map(partial(_publish, engine, prefix, flags, progress), images.values())}


def reference(prefix: str, image: Image) -> str:
    """``mailgale/mx:1a2b`` → ``PREFIX/mx:1a2b``."""
    return f"{prefix}/{image.ref.removeprefix(f'{REPOSITORY}/')}"


def insecure(engine: Engine, host: str) -> bool:
    """Whether the engine would talk to ``host`` without verified TLS: only then may the question go so, too.

    Asked otherwise, ``docker manifest inspect`` takes a registry without TLS for one that holds nothing.
    """
    found = json.loads(engine.docker("info", "--format", "{{json .RegistryConfig}}").stdout or "null") or {}
    known = (found.get("IndexConfigs") or {}).get(host)
    if known is not None:
        return not known.get("Secure", True)
    networks = [ipaddress.ip_network(n) for n in found.get("InsecureRegistryCIDRs") or []]
    return any(a in n for a in _addresses(host) for n in networks)


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        found = socket.getaddrinfo(urlsplit(f"//{host}").hostname, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [ipaddress.ip_address(str(a[4][0]).partition("%")[0]) for a in found]


def _publish(engine: Engine, prefix: str, flags: Iterable[str], progress: Progress, image: Image) -> Image:
    ref = reference(prefix, image)
    if not _same(_held(engine, ref, flags), ref, image):
        progress.note(f"pushing {ref}")
        _push(engine, ref, image)
        if not _same(_held(engine, ref, flags), ref, image):
            raise StackFailed("the registry took the image but does not hold it", where=ref)
    return Image(image.name, ref, image.id)


def _push(engine: Engine, ref: str, image: Image) -> None:
    here = engine.docker("image", "inspect", "--format", "{{.Id}}", ref, check=False)
    if here.code == 0 and here.stdout.strip() != image.id:
        raise StackFailed(f"the engine has another image under this tag, {here.stdout.strip()}; it is not overwritten", where=ref, todo=f"docker rmi {ref}")
    try:
        engine.docker("tag", image.ref, ref)
        engine.docker("push", "--quiet", ref, timeout_s=_PUSH_S)
    except CommandFailed as error:
        raise StackFailed(f"the image cannot be pushed: {error.what}", where=ref, todo="docker login? is the registry's certificate trusted?") from error


def _held(engine: Engine, ref: str, flags: Iterable[str]) -> frozenset[str] | None:
    """Digests of the image that the registry holds under ``ref``: its manifest's and its configuration's. None: it has no such tag."""
    found = engine.docker("manifest", "inspect", "--verbose", *flags, ref, check=False, timeout_s=_ASK_S)
    if found.code != 0:
        if _ABSENT in found.stderr:
            return None
        raise StackFailed(f"the registry does not say whether it holds this: {tail(found.stderr)}", where=ref, todo="docker login? does the registry run?")
    try:
        return frozenset(_digests(json.loads(found.stdout)))
    except (ValueError, TypeError, AttributeError) as error:
        raise StackFailed(f"the registry's answer is not understood: {error}", where=ref) from error


def _digests(answer: Any) -> Iterable[str]:
    for one in answer if isinstance(answer, list) else [answer]:
        yield str(one["Descriptor"]["digest"])
        for form in ("SchemaV2Manifest", "OCIManifest"):
            yield from [one[form]["config"]["digest"]] if one.get(form) else []


def _same(held: frozenset[str] | None, ref: str, image: Image) -> bool:
    """False where nothing is held.

    :raises StackFailed: another image is.
    """
    if held is not None and image.id not in held:
        raise StackFailed(
            f"the registry holds another image under this tag ({', '.join(sorted(held))}), this machine built {image.id}; it is not overwritten", where=ref,
            todo=f"use the registry's (docker pull {ref}; docker tag {ref} {image.ref}), or another prefix",
        )
    return held is not None
