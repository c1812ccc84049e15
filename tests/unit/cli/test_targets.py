"""Which cluster a command acts on: no implicit context, no cluster that is not allowed by name, and nothing asked before that."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from harness.cli import main as border
from harness.cluster import kind, tools

#: Every command that may change a cluster, and those that only look at one.
COMMANDS = (
    ("stack", "up"), ("stack", "down"), ("stack", "status"), ("run", "mx-pod-kill"), ("rehearse", "mx-pod-kill"), ("preflight", "mx-pod-kill"),
    ("recover",), ("dns", "count", "example.net", "--pod", "mx-0", "--libc", "glibc"),
)
IDS = [" ".join(c) for c in COMMANDS]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user whose kubeconfig has a current context, and whose kubectl, engine and kind cluster must not be asked."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "prod", "users": [{"name": "u", "user": {"token": "t"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}], "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "u"}}],
    }))  # fmt: skip
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\necho "$@" >> "$(dirname "$0")/calls"\n'
                       """case "$*" in *kube-system*) echo '{"metadata": {"uid": "u1"}}' ;; *) exit 1 ;; esac\n""")
    kubectl.chmod(0o755)
    monkeypatch.setattr(tools, "kubectl_path", lambda checkout: kubectl)
    monkeypatch.setattr(kind, "up", _not_asked)
    monkeypatch.setattr(kind, "current", _not_asked)
    return tmp_path


def _not_asked(*_: object) -> None:
    raise AssertionError("the kind cluster was brought in")


def allow(home: Path, *entries: object) -> None:
    (home / "mailgale").mkdir(exist_ok=True)
    (home / "mailgale" / "config.yaml").write_text(yaml.safe_dump({"allowed_contexts": list(entries)}))


def end(*words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["mailgale", *words])
    return border._guarded(), capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS, ids=IDS)
@pytest.mark.parametrize(
    ("options", "code", "says"),
    [(("--target", "context"), 4, "go together"), (("--context", "prod"), 4, "go together"),
     (("--target", "context", "--context", ""), 7, "the context '' is not allowed"),
     (("--target", "context", "--context", "prod"), 7, "the context 'prod' is not allowed")],
    ids=["no context", "no target", "empty", "not allowed"],
)  # fmt: skip
def test_what_is_not_named_and_allowed_is_not_even_asked(
    home: Path, command: tuple[str, ...], options: tuple[str, ...], code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    allow(home, "lab")
    found, text = end(*command, *options, monkeypatch=monkeypatch, capsys=capsys)
    assert (found, says in text) == (code, True), text
    assert not (home / "calls").exists()


@pytest.mark.parametrize("command", COMMANDS, ids=IDS)
def test_another_cluster_under_the_allowed_name_is_only_asked_who_it_is(
    home: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    allow(home, {"name": "prod", "uid": "u0"})
    found, text = end(*command, "--target", "context", "--context", "prod", monkeypatch=monkeypatch, capsys=capsys)
    assert (found, "is another cluster now" in text) == (7, True), text
    (call,) = (home / "calls").read_text().splitlines()
    assert call.startswith("--context prod ")
    assert " get namespace kube-system" in call


@pytest.mark.parametrize("command", [("cluster", "up"), ("cluster", "down"), ("cluster", "status")], ids=lambda c: " ".join(c))
def test_cluster_commands_know_no_context(command: tuple[str, ...]):
    done = CliRunner().invoke(border.cli, [*command, "--context", "prod"])
    assert done.exit_code == 2
    assert "No such option" in done.output


def test_every_command_that_takes_a_target_is_held_against_these_tests():
    found = {name for name, one in border.cli.commands.items() if any(p.name == "context" for p in one.params)}
    found |= {f"{g} {n}" for g, group in border.cli.commands.items() for n, c in getattr(group, "commands", {}).items()
              if any(p.name == "context" for p in c.params)}
    assert found == {" ".join(c[:2]) if c[0] in ("stack", "dns") else c[0] for c in COMMANDS}
