"""The README is true: its catalogue is what `mailgale list` says, its files and commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from harness.cli.catalogue import entries
from harness.cli.main import cli
from harness.cli.plan import markdown
from harness.support.checkout import Checkout

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_the_catalogue_is_what_mailgale_list_says():
    block = re.search(r"<!-- catalogue:[^>]*-->\n(.*?)<!-- /catalogue -->", README, re.S)
    assert block is not None
    assert block[1].strip() == markdown(entries(Checkout.find())).strip(), "run: mailgale list -o markdown"


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_linked_file_exists(link: str):
    assert (ROOT / link).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)", README))))
def test_every_make_target_exists(target: str):
    assert re.search(rf"^{target}\b.*:", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.parametrize("words", sorted(set(re.findall(r"`mailgale ([a-z]+)(?: ([a-z]+))?", README))))
def test_every_command_exists(words: tuple[str, str]):
    command: click.Command = cli
    for word in filter(None, words):
        if not isinstance(command, click.Group):
            break
        assert word in command.commands
        command = command.commands[word]


def test_every_command_has_help_with_an_example():
    def walk(command: click.Command, name: str) -> list[str]:
        below = [bad for child in command.commands.values() for bad in walk(child, f"{name} {child.name}")] if isinstance(command, click.Group) else []
        return below if (command.help or "").strip() else [name, *below]

    assert walk(cli, "mailgale") == []
    assert [c.name for c in cli.commands.values() if "\b\n" not in (c.help or "") and "Example" not in (c.help or "")] == []
