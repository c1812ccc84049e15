"""The real cluster: brought up once in a session, left running afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.cluster import kind
from harness.model.target import Target
from harness.support.checkout import Checkout
from tests.cluster.conftest_stack import stack  # noqa: F401 - a fixture: one stack a session


class CapturedProgress:
    """Progress into pytest's captured output: shown when a test fails."""

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        print(f"> {title}", flush=True)
        yield

    def note(self, text: str) -> None:
        print(f"  {text}", flush=True)

    def waiting(self, what: str) -> None:
        return


@pytest.fixture(scope="session")
def checkout() -> Checkout:
    return Checkout.find()


@pytest.fixture(scope="session")
def cluster(checkout: Checkout) -> Target:
    """The checkout's kind cluster as a Target, up and well. The first test that asks pays for making it."""
    with checkout.lock("cluster"):
        return kind.up(checkout, "single", CapturedProgress())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for the cluster is marked so, and may take as long as a cold set-up does."""
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.cluster)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(2700))
