"""Images to a real registry: pushed once, left alone when they are there, never over another image."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cluster.engine import Engine
from harness.errors import StackFailed
from harness.stack import publish
from harness.stack.images import Image
from harness.support.progress import SilentProgress
from tests.servers import registry

ROOT = Path(__file__).resolve().parents[2]
ENGINE = Engine("28")


def image(name: str, content: str) -> Image:
    return Image(name, f"mailgale/{name}:1a2b", registry.digest(registry.config_of(content)))


IMAGES = {i.name: i for i in (image("mx", "one"), image("postfix", "two"))}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    with registry.registry(tmp_path) as made:
        yield made


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = registry.docker(tmp_path, {"mailgale/mx:1a2b": "one", "mailgale/postfix:1a2b": "two"})
    monkeypatch.setenv("PATH", f"{made}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no-logins"))
    return made


def calls(docker: Path) -> list[str]:
    return (docker / "calls").read_text().splitlines()


def pushed(docker: Path) -> list[str]:
    return [c for c in calls(docker) if c.startswith("push")]


def test_what_is_lacking_is_tagged_and_pushed_under_its_content_hash(host: str, docker: Path):
    made = publish.publish(ENGINE, f"{host}/team/mail", IMAGES, SilentProgress())
    assert {n: (i.ref, i.id) for n, i in made.items()} == {n: (f"{host}/team/mail/{n}:1a2b", i.id) for n, i in IMAGES.items()}
    assert {registry.held(i.ref) for i in made.values()} == {i.id for i in IMAGES.values()}
    assert f"tag mailgale/mx:1a2b {host}/team/mail/mx:1a2b" in calls(docker)
    assert sorted(pushed(docker)) == [f"push --quiet {host}/team/mail/{n}:1a2b" for n in ("mx", "postfix")]


def test_what_is_there_is_left_alone(host: str, docker: Path):
    publish.publish(ENGINE, f"{host}/team", IMAGES, SilentProgress())
    before = len(pushed(docker))
    again = publish.publish(ENGINE, f"{host}/team", IMAGES, SilentProgress())
    assert set(again) == set(IMAGES)
    assert len(pushed(docker)) == before


def test_a_tag_with_another_image_is_never_overwritten(host: str, docker: Path):
    registry.push(f"{host}/team/mx:1a2b", "somebody else's")
    with pytest.raises(StackFailed, match=r"another image under this tag.*it is not overwritten.*docker pull") as caught:
        publish.publish(ENGINE, f"{host}/team", IMAGES, SilentProgress())
    assert caught.value.exit_code == 8
    assert registry.held(f"{host}/team/mx:1a2b") == registry.digest(registry.config_of("somebody else's"))
    assert f"push --quiet {host}/team/mx:1a2b" not in calls(docker)


def test_a_tag_of_the_engine_with_another_image_is_not_overwritten_either(host: str, docker: Path):
    ref = f"{host}/team/mx:1a2b"
    (docker / "images.json").write_text(json.dumps({**json.loads((docker / "images.json").read_text()), ref: "the user's own"}))
    with pytest.raises(StackFailed, match=r"the engine has another image under this tag.*docker rmi"):
        publish.publish(ENGINE, f"{host}/team", {"mx": IMAGES["mx"]}, SilentProgress())
    assert pushed(docker) == []


def test_a_registry_without_tls_that_the_engine_would_not_use_so_is_not_taken_for_empty(host: str, docker: Path):
    """Without --insecure docker says of every tag in there that there is none; the engine would refuse the push as well."""
    ref = f"{host}/team/mx:1a2b"
    registry.push(ref, "one")
    assert publish._held(ENGINE, ref, ()) is None
    assert IMAGES["mx"].id in (publish._held(ENGINE, ref, ("--insecure",)) or ())
    assert publish.insecure(ENGINE, host)
    (docker / "info.json").write_text(json.dumps({"InsecureRegistryCIDRs": ["192.0.2.0/24"], "IndexConfigs": {host: {"Secure": False}}}))
    assert publish.insecure(ENGINE, host)
    (docker / "info.json").write_text(json.dumps({"InsecureRegistryCIDRs": ["192.0.2.0/24"]}))
    assert not publish.insecure(ENGINE, host)


def test_a_registry_that_does_not_answer_is_told_and_nothing_is_pushed(docker: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    with pytest.raises(StackFailed, match="does not say whether it holds this"):
        publish.publish(ENGINE, f"127.0.0.1:{free}/team", IMAGES, SilentProgress())
    assert pushed(docker) == []


def test_a_push_that_did_nothing_is_seen(host: str, docker: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(publish, "_push", lambda *_: None)
    with pytest.raises(StackFailed, match="does not hold it"):
        publish.publish(ENGINE, f"{host}/team", IMAGES, SilentProgress())
