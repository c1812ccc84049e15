"""Content hashes: what is in an image changes its tag, what is not does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import StackFailed
from harness.stack.images import _context, content_hash, sources
from harness.support.checkout import Checkout

ARGUMENTS = {"BASE": "debian@sha256:1"}


def test_names_come_from_folders_and_suffixes(checkout: Checkout):
    assert sorted(sources(checkout)) == ["mx", "queue-status"]


def test_an_image_that_is_made_twice_is_refused(checkout: Checkout):
    folder = checkout.root / "deploy/components/other"
    folder.mkdir()
    (folder / "Dockerfile.mx").write_text("FROM scratch\n")
    with pytest.raises(StackFailed, match="made twice"):
        sources(checkout)


@pytest.mark.parametrize("changed", ["start", "conf/a", "Dockerfile"])
def test_what_is_copied_changes_the_hash(checkout: Checkout, changed: str):
    source = sources(checkout)["mx"]
    before = content_hash(source, ARGUMENTS)
    path: Path = source.folder / changed
    path.write_text(path.read_text() + "\n# more\n")
    assert content_hash(source, ARGUMENTS) != before


def test_modes_new_files_and_the_base_image_change_the_hash(checkout: Checkout):
    source = sources(checkout)["mx"]
    seen = {content_hash(source, ARGUMENTS), content_hash(source, {"BASE": "debian@sha256:2"})}
    (source.folder / "start").chmod(0o755)
    seen.add(content_hash(source, ARGUMENTS))
    (source.folder / "conf/b").write_text("new")
    seen.add(content_hash(source, ARGUMENTS))
    assert len(seen) == 4


@pytest.mark.parametrize("changed", ["unused", "manifests.yaml", "Dockerfile.queue-status"])
def test_what_is_not_copied_does_not(checkout: Checkout, changed: str):
    source = sources(checkout)["mx"]
    before = content_hash(source, ARGUMENTS)
    (source.folder / changed).write_text("# other\n")
    assert content_hash(source, ARGUMENTS) == before


@pytest.mark.parametrize("line", ["COPY . /x", 'COPY ["start", "/x"]', "COPY $WHAT /x"])
def test_where_a_copy_is_not_plain_the_whole_folder_counts(checkout: Checkout, line: str):
    source = sources(checkout)["mx"]
    source.dockerfile.write_text(f"FROM scratch\n{line}\n")
    before = content_hash(source, ARGUMENTS)
    (source.folder / "unused").write_text("other")
    assert content_hash(source, ARGUMENTS) != before


def test_files_of_other_stages_do_not_count_as_files(checkout: Checkout):
    source = sources(checkout)["mx"]
    source.dockerfile.write_text("FROM scratch\nCOPY --from=build /unused /x\n")
    before = content_hash(source, ARGUMENTS)
    (source.folder / "unused").write_text("other")
    assert content_hash(source, ARGUMENTS) == before


def test_a_file_of_the_checkout_that_an_image_asks_for_changes_the_hash(checkout: Checkout):
    source = sources(checkout)["mx"]
    (checkout.root / "harness").mkdir(exist_ok=True)
    shared = checkout.root / "harness" / "errors.py"
    shared.write_text("1\n")
    source.dockerfile.write_text("# with: harness/errors.py\n" + source.dockerfile.read_text())
    before = content_hash(source, ARGUMENTS)
    shared.write_text("2\n")
    assert source.shared == {"harness/errors.py": shared}
    assert content_hash(source, ARGUMENTS) != before


def test_it_lies_in_the_context_beside_the_components_own(checkout: Checkout):
    source = sources(checkout)["mx"]
    (checkout.root / "harness").mkdir(exist_ok=True)
    (checkout.root / "harness" / "errors.py").write_text("1\n")
    with _context(source) as folder:
        assert folder == source.folder
    source.dockerfile.write_text("# with: harness/errors.py\n" + source.dockerfile.read_text())
    with _context(source) as folder:
        assert (folder / "checkout/harness/errors.py").read_text() == "1\n"
        assert (folder / "start").read_text() == (source.folder / "start").read_text()
    assert not folder.exists()
