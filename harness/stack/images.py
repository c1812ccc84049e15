"""Component images: built from ``deploy/components/*/Dockerfile*``, tagged by what they are made of, brought to the nodes at once.

A tag is a hash over the Dockerfile, the files that it copies (also from the checkout: ``# with:``), its build arguments and the base image's id, so an image
whose recipe did not change is never built or loaded again, and nobody's own tags are overwritten.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.cluster import base_image, kind, wheels
from harness.cluster.engine import Engine
from harness.errors import CommandFailed, StackFailed
from harness.support.checkout import Checkout
from harness.support.progress import Progress

REPOSITORY = "mailgale"
_BUILD_TIMEOUT_S = 900.0
_PARALLEL = 2
_ARG = re.compile(r"^\s*ARG\s+([A-Z_]+)", re.MULTILINE)
_COPY = re.compile(r"^\s*(?:COPY|ADD)\s+(.+)$", re.MULTILINE | re.IGNORECASE)
#: A comment of ours: files of the checkout that the build finds under ``checkout/``.
_WITH = re.compile(r"^#\s*with:\s*(.+)$", re.MULTILINE)
_CONTINUED = re.compile(r"\\\n")


@dataclass(frozen=True)
class Source:
    """Where an image comes from."""

    name: str
    folder: Path
    dockerfile: Path

    @property
    def shared(self) -> dict[str, Path]:
        """Files of the checkout that the Dockerfile asks for (``# with: …``), by their path in it."""
        root = self.folder.parents[2]
        return {name: root / name for line in _WITH.findall(self.dockerfile.read_text()) for name in line.split()}


@dataclass(frozen=True)
class Image:
    """An image that the engine holds. ``id`` is its ``sha256:…``."""

    name: str
    ref: str
    id: str


class BaseImages(Protocol):
    """Gives the base image for a build argument, e.g. ``BASE`` → ``debian:trixie-slim``."""

    def __call__(self, argument: str) -> str: ...


def sources(checkout: Checkout) -> dict[str, Source]:
    """Every image by name: ``Dockerfile`` makes one called as its folder, ``Dockerfile.NAME`` one called NAME.

    :raises StackFailed: two Dockerfiles make an image of the same name.
    """
    found: dict[str, Source] = {}
    for path in sorted((checkout.root / "deploy" / "components").glob("*/Dockerfile*")):
        name = path.name.removeprefix("Dockerfile").removeprefix(".") or path.parent.name
        if name in found:
            raise StackFailed(f"image '{name}' is made twice", where=f"{path} and {found[name].dockerfile}")
        found[name] = Source(name, path.parent, path)
    return found


def ensure(checkout: Checkout, engine: Engine, names: Iterable[str], progress: Progress) -> dict[str, Image]:
    """The images called ``names``, built where they are not there yet.

    :raises StackFailed: no Dockerfile makes such an image, or a build fails; the message ends with its last lines.
    """
    known, wanted = sources(checkout), sorted(set(names))
    missing = [n for n in wanted if n not in known]
    if missing:
        raise StackFailed(f"no Dockerfile makes the image '{missing[0]}'", where="deploy/components")
    bases = _Bases(checkout, engine, progress)
    recipes = {n: _recipe(known[n], bases, engine) for n in wanted}
    with progress.stage("images"), ThreadPoolExecutor(_PARALLEL) as pool:
        return {i.name: i for i in pool.map(lambda n: _ensure_one(known[n], *recipes[n], engine, progress), wanted)}


def bring(checkout: Checkout, engine: Engine, images: Iterable[Image], progress: Progress) -> None:
    """Bring the images to every node of this checkout's kind cluster; those that have them are left alone."""
    with progress.stage("images to the nodes"):
        kind.load_images(engine, checkout, [i.ref for i in images], progress)


def content_hash(source: Source, arguments: Mapping[str, str]) -> str:
    """16 hex digits over all that an image is made of.

    :param arguments: build argument → value and id of the image it names.
    """
    text = source.dockerfile.read_text()
    digest = hashlib.sha256()
    for part in (text, json.dumps(dict(arguments), sort_keys=True)):
        digest.update(hashlib.sha256(part.encode()).digest())
    parts = {str(p.relative_to(source.folder)): p for p in _copied(source.folder, text)}
    for name, path in [*parts.items(), *sorted(source.shared.items())]:
        mode = stat.S_IMODE(path.stat().st_mode) & 0o111
        digest.update(f"{name}\0{mode}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def arguments_of(dockerfile: str) -> list[str]:
    """Names of the build arguments that a Dockerfile declares."""
    return _ARG.findall(dockerfile)


class _Bases:
    """Base images, each ensured once."""

    def __init__(self, checkout: Checkout, engine: Engine, progress: Progress) -> None:
        self._checkout, self._engine, self._progress = checkout, engine, progress
        self._found: dict[str, str] = {}

    def __call__(self, argument: str) -> str:
        if argument not in self._found:
            self._found[argument] = self._ensure(argument)
        return self._found[argument]

    def _ensure(self, argument: str) -> str:
        if argument in ("BASE", "BASE_TRIXIE"):
            return base_image.ensure_base_image(self._engine, self._checkout, self._progress, "trixie")
        if argument == "BASE_BOOKWORM":
            return base_image.ensure_base_image(self._engine, self._checkout, self._progress, "bookworm")
        if argument in ("COREDNS", "COREDNS_IMAGE"):
            return base_image.ensure_coredns_image(self._engine, self._checkout, self._progress)
        if argument.endswith("_WHEELS"):
            component = argument.removesuffix("_WHEELS").lower().replace("_", "-")
            return wheels.ensure_wheels_image(self._engine, self._checkout, self._progress, component)
        return ""


def _recipe(source: Source, bases: BaseImages, engine: Engine) -> tuple[str, dict[str, str]]:
    """The image's reference and its build arguments."""
    values = {a: v for a in arguments_of(source.dockerfile.read_text()) if (v := bases(a))}
    ids = {a: f"{v}@{_image_id(engine, v)}" for a, v in values.items()}
    return f"{REPOSITORY}/{source.name}:{content_hash(source, ids)}", values


def _ensure_one(source: Source, ref: str, arguments: Mapping[str, str], engine: Engine, progress: Progress) -> Image:
    found = _image_id(engine, ref)
    if not found:
        progress.note(f"building {ref}")
        _build(source, ref, arguments, engine)
        found = _image_id(engine, ref)
    if not found:
        raise StackFailed("the engine does not hold the image it just built", where=ref)
    return Image(source.name, ref, found)


def _build(source: Source, ref: str, arguments: Mapping[str, str], engine: Engine) -> None:
    words: Sequence[str] = [w for a, v in sorted(arguments.items()) for w in ("--build-arg", f"{a}={v}")]
    try:
        with _context(source) as folder:
            engine.docker(
                "build", "--network", "host", "--label", "mailgale.dev/image=component", *words,
                "-f", str(source.dockerfile), "-t", ref, str(folder), timeout_s=_BUILD_TIMEOUT_S,
            )
    except CommandFailed as error:
        raise StackFailed(f"the image does not build: {error.what}", where=os.path.relpath(source.dockerfile)) from error


@contextmanager
def _context(source: Source) -> Iterator[Path]:
    """The folder that is built from: the component's own, or a copy of it with files of the checkout below ``checkout/``."""
    if not source.shared:
        yield source.folder
        return
    with tempfile.TemporaryDirectory(prefix="mailgale-build-") as made:
        folder = Path(made) / "context"
        shutil.copytree(source.folder, folder)
        for name, path in source.shared.items():
            (folder / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, folder / "checkout" / name)
        yield folder


def _image_id(engine: Engine, ref: str) -> str:
    found = engine.docker("image", "inspect", "--format", "{{.Id}}", ref, check=False, timeout_s=60)
    return found.stdout.strip() if found.code == 0 else ""


def _copied(folder: Path, dockerfile: str) -> list[Path]:
    """Files that COPY and ADD name, sorted; the whole folder where an instruction is not plain."""
    found: set[Path] = set()
    for words in (line.split() for line in _COPY.findall(_CONTINUED.sub(" ", dockerfile))):
        if any(w.startswith("--from") for w in words):
            continue
        plain = [w for w in words if not w.startswith("--")]
        patterns = [w.lstrip("/").removeprefix("./").rstrip("/") for w in plain[:-1]]
        if any(p in ("", ".") or any(c in p for c in '$"<[') for p in patterns) or not patterns:
            return _files([folder])
        found.update(_files(p for pattern in patterns for p in folder.glob(pattern)))
    return sorted(found)


def _files(paths: Iterable[Path]) -> list[Path]:
    found = [f for p in paths for f in (p.rglob("*") if p.is_dir() else [p])]
    return sorted(f for f in found if f.is_file() and "__pycache__" not in f.parts)
