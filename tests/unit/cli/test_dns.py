"""``mailgale dns count``: what cannot be asked is refused in one sentence, before anything is touched."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.cli import main as border


@pytest.mark.parametrize(("words", "said"), [
    (["a.example", "--local", "--pod", "x"], "--local and --pod exclude each other"),
    (["a.example", "--missing", "a.example"], "--missing goes with --local"),
    (["a.example", "--missing", "b.example", "--local"], "no such NAME is asked for"),
    (["a.example", "--libc", "glibc,bionic"], "'bionic' is none of glibc, musl"),
    (["a.example", "--ndots", "16"], "'16' is none of 0, 1"),
    (["mail.corp.test"], "unbound answers this by itself"),
    (["a.example", "mail.corp.invalid."], "default local zone 'invalid.'"),
    ([], "NAME"), (["a..b", "--local"], "no DNS name"), (["a b.example", "--local"], "no host name"), (["x" * 64 + ".example"], "no DNS name"),
])
def test_refusals(words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["mailgale", "dns", "count", *words])
    assert border._guarded() == 4
    assert said in " ".join(capsys.readouterr().err.split())


def test_without_root_the_local_network_is_not_supported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("harness.dns.netns.os.geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["mailgale", "dns", "count", "a.example", "--local", "--libc", "glibc"])
    assert border._guarded() == 8
    assert "not supported here" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "code", "said"), [
    (["--target", "context", "--context", "staging"], 7, "the context 'staging' is not allowed"), (["--target", "context"], 4, "go together"),
])
def test_contexts_are_asked_for_as_everywhere(words: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["mailgale", "dns", "count", "a.example", "--libc", "glibc", *words])
    assert border._guarded() == code
    assert said in " ".join(capsys.readouterr().err.split())
