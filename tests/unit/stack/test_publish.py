"""What is asked of the engine to publish images, and in which order; with a real registry: tests/servers/test_publish.py."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.cluster.engine import Engine
from harness.errors import CommandFailed, StackFailed
from harness.stack import publish
from harness.stack.images import Image
from harness.support.progress import SilentProgress
from harness.support.shell import Completed

MX = Image("mx", "mailgale/mx:1a2b", "sha256:mine")
REF = "registry.example.org/team/mx:1a2b"


@dataclass(frozen=True)
class Registry(Engine):
    """An engine and what a registry holds: reference → (manifest's digest, configuration's digest)."""

    version: str = "28"
    held: dict[str, tuple[str, str]] = field(default_factory=dict)
    asked: list[tuple[str, ...]] = field(default_factory=list)
    broken: str = ""
    config: str = "{}"

    def docker(self, *words: str | Path, timeout_s: float = 60, check: bool = True, input: str | None = None) -> Completed:
        said = tuple(map(str, words))
        self.asked.append(said)
        if said[0] == "info":
            return Completed(said, 0, self.config, "")
        if said[0] == "manifest":
            return self._manifest(said)
        if said[0] == "push":
            if self.broken:
                raise CommandFailed(self.broken)
            self.held[said[-1]] = ("sha256:manifest", MX.id)
        return Completed(said, 1 if said[0] == "image" else 0, "", "")

    def _manifest(self, said: tuple[str, ...]) -> Completed:
        if said[-1] not in self.held:
            return Completed(said, 1, "", self.broken or f"no such manifest: {said[-1]}")
        manifest, config = self.held[said[-1]]
        return Completed(said, 0, json.dumps({"Descriptor": {"digest": manifest}, "SchemaV2Manifest": {"config": {"digest": config}}}), "")

    def verbs(self) -> list[str]:
        return [w[0] for w in self.asked]


def published(engine: Registry) -> Image:
    return publish.publish(engine, "registry.example.org/team", {"mx": MX}, SilentProgress())["mx"]


def test_what_is_lacking_is_looked_for_tagged_pushed_and_looked_at_again():
    engine = Registry()
    assert published(engine) == Image("mx", REF, MX.id)
    assert engine.verbs() == ["info", "manifest", "image", "tag", "push", "manifest"]
    assert ("tag", MX.ref, REF) in engine.asked
    assert ("push", "--quiet", REF) in engine.asked


@pytest.mark.parametrize("digests", [("sha256:manifest", MX.id), (MX.id, "sha256:configuration")], ids=["by configuration", "by manifest"])
def test_what_is_there_is_only_looked_at(digests: tuple[str, str]):
    engine = Registry(held={REF: digests})
    published(engine)
    assert engine.verbs() == ["info", "manifest"]


def test_a_tag_with_another_image_is_refused_before_anything_is_tagged_or_pushed():
    engine = Registry(held={REF: ("sha256:x", "sha256:y")})
    with pytest.raises(StackFailed, match=r"holds another image under this tag.*not overwritten"):
        published(engine)
    assert engine.verbs() == ["info", "manifest"]


@pytest.mark.parametrize("answer", ["unauthorized: authentication required", "failed to configure transport: connection refused"])
def test_a_registry_that_cannot_be_asked_is_not_pushed_to(answer: str):
    engine = Registry(broken=answer)
    with pytest.raises(StackFailed, match="does not say whether it holds this"):
        published(engine)
    assert "push" not in engine.verbs()


@pytest.mark.parametrize(
    ("config", "flag"),
    [('{"InsecureRegistryCIDRs": ["127.0.0.0/8"]}', False), ('{"IndexConfigs": {"registry.example.org": {"Secure": false}}}', True),
     ('{"IndexConfigs": {"registry.example.org": {"Secure": true}}}', False), ("null", False)],
)  # fmt: skip
def test_certificates_are_left_unchecked_only_where_the_engine_does_not_check_them_either(config: str, flag: bool):
    engine = Registry(config=config, held={REF: ("sha256:manifest", MX.id)})
    published(engine)
    assert ("--insecure" in engine.asked[-1]) is flag
