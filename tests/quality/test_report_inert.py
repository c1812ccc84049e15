"""The report is inert: whatever a mail, a server or a cluster says stays text. Checked by parsing, and in a real browser."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from harness import report
from harness.report.text import plain
from harness.selftest.builder import HistoryBuilder
from tests.unit.report.sample import verdict

PAYLOADS = {
    "script": "<script>document.title='run'</script>",
    "script in svg": "</text></svg><script>document.title='run'</script>",
    "end of style": "</style></title><script>document.title='run'</script>",
    "handler": "\"><img src=x onerror=\"document.title='run'\">",
    "single quotes": "' onmouseover='document.title=1' x='",
    "request": "<img src=http://evil.example/pixel><img src=https://evil.example/tls><link rel=stylesheet href=http://evil.example/s><style>@import 'http://evil.example/i'</style>",
    "frame": "<iframe srcdoc=\"<script>parent.document.title='run'</script>\"></iframe><meta http-equiv=refresh content='0;url=http://evil.example'>",
    "link": "[free](javascript:alert(1)) <a href=\"javascript:alert(1)\">x</a> http://evil.example/auto",
    "template": "{{ 7*7 }}{% raw %}${7*7}#{7*7}",
    "bidi": "user\u202e\u2066gpj.exe\u2069\u200f@example.org",
    "invisible": "a\u200bb\ufeffc\u00add\u2028e\u2029f\U000e0041g",
    "ansi": "\x1b[31mred\x1b[0m\x1b]8;;http://evil.example\x07link\x9b1m\x08\x00\x7f\r\n",
    "markdown": "# h\n| a | b |\n```\n**bold** _x_ ![i](http://evil.example/i) <!-- --> \\ ~~s~~ @all #1 $x$ &lt;",
    "formula": "=HYPERLINK(\"http://evil.example\";\"x\") +1 -1 @SUM(A1)",
    "surrogate": "lone \ud800 \ufffe end",
    "cdata": "]]></failure><x/>&amp;<!DOCTYPE x>",
}
HOSTILE = " ".join(PAYLOADS.values())
#: Names of faults come from the plan, which is UTF-8.
HOSTILE_NAME = HOSTILE.replace(PAYLOADS["surrogate"], "")
#: In the Host header, or in the clear in the server name of a TLS hello, of what the browser does for itself.
ERRANDS = b".google"
BROWSER = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[report.ReportPaths, report.Sheet]:
    return write_hostile(tmp_path_factory.mktemp("runs"))


def write_hostile(root: Path) -> tuple[report.ReportPaths, report.Sheet]:
    """A run in which every text that can come from outside is hostile."""
    builder = HistoryBuilder(root, meta={
        "unsupported": {HOSTILE: HOSTILE}, "versions": {HOSTILE: HOSTILE}, "images": {HOSTILE: HOSTILE},
        "target": {"kind": "kind", "name": HOSTILE, "nodes": 4}, "cleanup": {"complete": False, "left": [HOSTILE]},
        "timings_s": {HOSTILE: 3}, "command": HOSTILE,
    })
    arm = builder.arm("1x")
    arm.event("observe.log", "sample_missed", 40, what=HOSTILE, why=HOSTILE)
    arm.event("conductor.log", "incident", 41, what=HOSTILE, where=HOSTILE)
    arm.event("observe.log", "endpoints", 42, service=HOSTILE, ready=[HOSTILE])
    arm.of("load-1.log", "load_state")[9]["phase"] = HOSTILE
    for t in (40, 42, 44):
        arm.event("observe.log", "queue", t, pod=HOSTILE, component=HOSTILE, incoming=9, active=0, deferred=0, hold=0, corrupt=0, oldest_s=1.0)
        arm.event("observe.log", "throttle", t, pod=HOSTILE, component=HOSTILE, periods=t * 10, throttled=t * 9, throttled_ns=1, usage_ns=1, quota_cores=1)
    for edge, t in (("begin", 40), ("failed", 45)):
        arm.event("faults.log", "fault", t, name=HOSTILE_NAME, fault=HOSTILE_NAME, edge=edge, targets=[HOSTILE], detail={HOSTILE: HOSTILE})
    run = builder.write()
    changes: dict[tuple[str, str], dict[str, Any]] = {
        ("no-loss", "1x"): {"status": "FAIL", "reason": HOSTILE, "figures": {HOSTILE: 1}, "evidence": list(PAYLOADS.values())},
        ("integrity", "2x"): {"status": "INCONCLUSIVE", "reason": HOSTILE},
        ("queue-drained", "2x"): {"reason": HOSTILE},
    }
    data = verdict(run.run_id, status="FAIL", changes=changes)
    data["sentence"] = HOSTILE
    data["findings"][0].update(reason=HOSTILE, conditions=HOSTILE, claim=HOSTILE, figures={f"{HOSTILE}_ratio": 2.0})
    data["figures"]["1x"][HOSTILE] = HOSTILE
    return report.write(run.path, data)


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, k, v or "") for k, v in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def active_parts(page: Page) -> list[str]:
    """Everything in a page that could run or load something."""
    found = [f"<{t}>" for t in page.tags & {"script", "iframe", "object", "embed", "form", "base", "img", "audio", "video", "link", "a:http"}]
    for tag, name, value in page.attributes:
        loads = name in ("src", "srcset", "action", "formaction", "data", "poster", "srcdoc", "background", "xlink:href", "ping", "style")
        if name.startswith("on") or loads or (name == "href" and not value.startswith("#")):
            found.append(f"<{tag} {name}={value}>")
    return found


def hidden_characters(text: str) -> set[str]:
    return {c for c in text if re.match(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffe\ud800-\udfff\U000e0000-\U000e007f]", c)}


def test_nothing_in_the_page_can_run_or_load(hostile: tuple[report.ReportPaths, report.Sheet]):
    text = hostile[0].html.read_text()
    page = Page(text)
    assert active_parts(page) == []
    assert "javascript:" not in "".join(v for _, _, v in page.attributes)
    assert re.search(r"url\s*\(|@import|expression\s*\(", text.split("</style>")[0]) is None
    assert "default-src 'none'" in text


@pytest.mark.parametrize("name", PAYLOADS)
def test_every_payload_is_shown_as_it_came(hostile: tuple[report.ReportPaths, report.Sheet], name: str):
    shown = Page(hostile[0].html.read_text()).texts
    assert plain(PAYLOADS[name]) in shown


def test_no_hidden_character_reaches_any_file(hostile: tuple[report.ReportPaths, report.Sheet]):
    paths, sheet = hostile
    for path in (paths.html, paths.markdown, paths.junit):
        assert hidden_characters(path.read_text()) == set(), path.name
    for line in report.summary_lines(sheet, paths.html):
        assert hidden_characters(line) == set()
        assert "\n" not in line


def test_the_summary_holds_no_markup_but_its_own(hostile: tuple[report.ReportPaths, report.Sheet]):
    text = hostile[0].markdown.read_text()
    assert set(re.findall(r"<[^>]*>", text)) <= {"<code>", "</code>"}
    for forbidden in ("](", "![", "http://", "javascript:", "```", "{{", "@all", "=HYPERLINK"):
        assert forbidden not in text, forbidden
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} <= {3, 4}
    assert all(line.startswith(("#", "|", "- ", "**", "accepted", "2 arms", "None in any arm")) for line in text.splitlines() if line)


def test_junit_reads_as_xml_with_the_payloads_as_text(hostile: tuple[report.ReportPaths, report.Sheet]):
    root = ET.parse(hostile[0].junit).getroot()
    failure = next(root.iter("failure"))
    assert {e.tag for e in root.iter()} <= {"testsuites", "testsuite", "properties", "property", "testcase", "failure", "error", "system-out"}
    for payload in PAYLOADS.values():
        assert plain(payload, lines=True) in (failure.text or "")


def test_the_search_for_active_parts_finds_them():
    assert active_parts(Page("<script>1</script>"))
    assert active_parts(Page("<p onclick=x>"))
    assert active_parts(Page("<a href='javascript:x'>y</a>"))
    assert active_parts(Page("<div style='background:red'>"))
    assert hidden_characters("a\u202eb\x1b") == {"\u202e", "\x1b"}


# -- in a real browser ------------------------------------------------------------------------------------------------
@contextmanager
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A port on loopback that every name resolves to; the list holds the head of every request, or its TLS hello."""
    requests: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                try:
                    requests.append(connection.recv(4096))
                    connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                except OSError:
                    requests.append(b"unreadable")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1], requests
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


def browse(page: Path) -> tuple[str, list[bytes]]:
    """The document after everything in it ran, and every request made to anywhere, but for the browser's errands to its maker."""
    with tempfile.TemporaryDirectory() as profile, listener() as (port, requests):
        words = [
            str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--no-proxy-server", f"--user-data-dir={profile}",
            f"--host-resolver-rules=MAP * 127.0.0.1:{port}", "--virtual-time-budget=3000", "--dump-dom", page.as_uri(),
        ]
        done = subprocess.run(words, capture_output=True, timeout=60, check=False)
        seen = [r for r in requests if r and ERRANDS not in r]
    return done.stdout.decode("utf-8", "replace"), seen


needs_browser = pytest.mark.skipif(BROWSER is None, reason="not supported here: no chromium is installed")


@needs_browser
def test_a_real_browser_runs_nothing_and_asks_for_nothing(hostile: tuple[report.ReportPaths, report.Sheet]):
    document, requests = browse(hostile[0].html)
    assert requests == []
    assert "<title>run</title>" not in document
    assert "<title>FAIL" in document
    assert document.rstrip().endswith("</html>")


@needs_browser
def test_the_browser_would_have_shown_it(tmp_path: Path):
    """The same payloads unescaped do run and do load, so the test above can fail."""
    page = tmp_path / "bad.html"
    page.write_text("<!DOCTYPE html><title>FAIL</title><body>" + PAYLOADS["script"] + PAYLOADS["request"])
    document, requests = browse(page)
    assert "<title>run</title>" in document
    assert any(b"/pixel" in r for r in requests)
    assert any(r.startswith(b"\x16\x03") and b"evil.example" in r for r in requests), "requests by TLS are seen as well"


@needs_browser
def test_the_policy_alone_would_hold_too(tmp_path: Path, hostile: tuple[report.ReportPaths, report.Sheet]):
    """Second line of defence: unescaped payloads under the page's own policy neither run nor load."""
    policy = re.search(r'<meta http-equiv="Content-Security-Policy"[^>]*>', hostile[0].html.read_text())
    assert policy
    page = tmp_path / "policy.html"
    page.write_text(f"<!DOCTYPE html>{policy[0]}<title>FAIL</title><body>" + PAYLOADS["script"] + PAYLOADS["handler"] + PAYLOADS["request"])
    document, requests = browse(page)
    assert "<title>run</title>" not in document
    assert requests == []
