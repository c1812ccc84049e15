"""Progress without a terminal: plain lines, stages with their time, an unbalanced end said."""

from __future__ import annotations

import io

import pytest

from harness.cli.terminal import PlainProgress


def test_stages_and_notes_are_plain_lines():
    out = io.StringIO()
    progress = PlainProgress(out)
    with progress.stage("outer"):
        with progress.stage("inner"):
            progress.note("a note [with brackets]")
    lines = out.getvalue().splitlines()
    assert [line.split("]", 1)[1].strip() for line in lines][:3] == ["outer …", "inner …", "a note [with brackets]"]
    assert "inner: done in" in lines[3]
    assert "\x1b" not in out.getvalue()


def test_a_stage_that_fails_says_so():
    out = io.StringIO()
    progress = PlainProgress(out)
    with pytest.raises(ValueError), progress.stage("outer"):
        raise ValueError
    assert "outer: stopped after" in out.getvalue()


def test_waiting_for_the_same_thing_is_not_said_again_at_once():
    out = io.StringIO()
    progress = PlainProgress(out)
    progress._said_at = -100
    for _ in range(50):
        progress.waiting("pods")
    assert out.getvalue().count("waiting for pods") == 1
