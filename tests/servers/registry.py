"""A real registry (Debian's docker-registry) on a loopback port, and a docker whose ``push`` is a few HTTP requests.

``docker manifest inspect`` is the real client: it needs no engine. What needs one (tag, push, image inspect, info) is a
script beside it that keeps its images in a file and pushes as the distribution specification says.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.support.clock import wait_for

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """``127.0.0.1:PORT`` of a registry that holds nothing; skip where none is installed."""
    program = shutil.which("docker-registry")
    if program is None or shutil.which("docker") is None:
        pytest.skip("not installed here: docker-registry and the docker client")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    config = folder / "registry.yml"
    config.write_text(json.dumps({
        "version": "0.1", "storage": {"filesystem": {"rootdirectory": str(folder / "data")}}, "http": {"addr": f"127.0.0.1:{port}"},
        "log": {"level": "error"},
    }))  # fmt: skip
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(config)], stdout=log, stderr=log)
    try:
        wait_for(lambda: _answers(port), deadline_s=20, what="the registry", every_s=0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=2) as answer:
        return bool(answer.status == 200)
    return False


def config_of(content: str) -> bytes:
    """The configuration of an image that differs by ``content``; its digest is the image's id."""
    return json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "content": content}).encode()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def push(ref: str, content: str) -> None:
    """Put an image without layers into the registry, over whatever the tag held."""
    host, _, rest = ref.partition("/")
    name, _, tag = rest.rpartition(":")
    config = config_of(content)
    with _request("POST", f"http://{host}/v2/{name}/blobs/uploads/", b"") as begun:
        place = begun.headers["Location"]
    _request("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest(config)}", config).close()
    described = {"mediaType": _CONFIG, "size": len(config), "digest": digest(config)}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": []}).encode()
    _request("PUT", f"http://{host}/v2/{name}/manifests/{tag}", manifest, MANIFEST).close()


def held(ref: str) -> str:
    """Digest of the configuration that the registry holds under ``ref``; "" = none."""
    host, _, rest = ref.partition("/")
    name, _, tag = rest.rpartition(":")
    asked = urllib.request.Request(f"http://{host}/v2/{name}/manifests/{tag}", headers={"Accept": MANIFEST})
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return str(json.load(answer)["config"]["digest"])
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return ""


def _request(method: str, url: str, data: bytes, kind: str = "application/octet-stream"):
    return urllib.request.urlopen(urllib.request.Request(url, data=data, method=method, headers={"Content-Type": kind}), timeout=10)


def docker(folder: Path, images: dict[str, str], *, cidrs: tuple[str, ...] = ("127.0.0.0/8",)) -> Path:
    """A folder for ``PATH`` with such a docker.

    :param images: what the engine holds: reference → content.
    :param cidrs: what it counts as insecure registries.
    """
    made = folder / "bin"
    made.mkdir()
    (made / "images.json").write_text(json.dumps(images))
    (made / "info.json").write_text(json.dumps({"IndexConfigs": {"docker.io": {"Secure": True}}, "InsecureRegistryCIDRs": list(cidrs)}))
    program = made / "docker"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -m tests.servers.registry {shutil.which('docker')} {made} \"$@\"\n")
    program.chmod(0o755)
    return made


def main(real: str, folder: Path, *words: str) -> int:
    """What the docker above does."""
    with (folder / "calls").open("a") as calls:
        calls.write(" ".join(words) + "\n")
    images = json.loads((folder / "images.json").read_text())
    if words[0] == "manifest":
        return subprocess.run([real, *words], check=False, timeout=60).returncode
    if words[0] == "info":
        print((folder / "info.json").read_text())
    elif words[0] == "image":
        if words[-1] not in images:
            return 1
        print(digest(config_of(images[words[-1]])))
    elif words[0] == "tag":
        (folder / "images.json").write_text(json.dumps({**images, words[2]: images[words[1]]}))
    elif words[0] == "push":
        push(words[-1], images[words[-1]])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))
