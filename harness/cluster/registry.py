"""Pulling from the public image registry, where there is one.

Whether it answers is asked with a short deadline, and a "no" is remembered for a day, so that machines without one do
not wait for it again and again.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

from harness.cluster.engine import Engine, registry_mirrors
from harness.errors import CommandFailed
from harness.support.checkout import Checkout
from harness.support.progress import Progress

#: ``MAILGALE_REGISTRY=no`` builds everything here; ``yes`` asks again at once.
SWITCH = "MAILGALE_REGISTRY"
_PING = "https://registry-1.docker.io/v2/"
_PING_S = 6
_PULL_S = 1800
_REMEMBER_S = 24 * 3600


def pull(engine: Engine, checkout: Checkout, ref: str, progress: Progress) -> bool:
    """Whether ``ref`` is in the engine now, pulled from a registry or there before."""
    if engine.has_image(ref):
        return True
    if not answers(engine, checkout):
        return False
    progress.waiting(f"docker pull {ref}")
    try:
        engine.docker("pull", "--quiet", ref, timeout_s=_PULL_S)
    except CommandFailed as error:
        progress.note(f"no {ref} from the registry: {error.what.splitlines()[-1]}")
        _remember(checkout, answer=False)
        return False
    return True


def answers(engine: Engine, checkout: Checkout) -> bool:
    """Whether a registry answers: asked once in a day when it does not, each time when it does."""
    wanted = os.environ.get(SWITCH, "")
    if wanted == "no":
        return False
    if wanted != "yes" and _remembered_silence(checkout):
        return False
    found = bool(registry_mirrors(engine)) or _ping()
    _remember(checkout, answer=found)
    return found


def _ping() -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(_PING, method="GET"), timeout=_PING_S):
            return True
    except urllib.error.HTTPError as error:
        return error.code == 401  # it asks for a token, as it does of everybody
    except OSError:
        return False


def _memory(checkout: Checkout) -> Path:
    return checkout.cache / "registry.json"


def _remembered_silence(checkout: Checkout) -> bool:
    try:
        said = json.loads(_memory(checkout).read_text())
        return not said["answers"] and 0 <= time.time() - said["at"] < _REMEMBER_S
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _remember(checkout: Checkout, *, answer: bool) -> None:
    checkout.cache.mkdir(parents=True, exist_ok=True)
    _memory(checkout).write_text(json.dumps({"answers": answer, "at": time.time()}))
