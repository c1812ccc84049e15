"""What the process that carries out an arm's faults is told: ``chaos.json`` in the arm's directory. It holds no secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.model.target import Node, Target

FILE = "chaos.json"
VARIABLE = "MAILGALE_CHAOS_SPEC"


@dataclass(frozen=True)
class ChaosSpec:
    """One arm's faults and where they act.

    :param arm: ``<block>-<arm>``. :param workloads: component → its ``Kind/name``.
    :param faults: names of the faults that must happen.
    :param holder: who holds the run's lease in the cluster; entries of the undo log are mirrored there for the janitor ("" = they are not).
    :param may: what the plan lets faults do to nodes (``model.plan.NodeFaults``).
    :param trigger_deadline_s: a fault whose trigger has not come by then, from the process' start, has failed.
    """

    run_id: str
    arm: str
    arm_dir: str
    checkout_id: str
    namespace: str
    target: Mapping[str, Any]
    workloads: Mapping[str, tuple[str, ...]]
    faults: tuple[str, ...] = field(default=())
    trigger_deadline_s: float = 900.0
    holder: str = ""
    may: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        """What the trace of every mail of this arm begins with."""
        return f"{self.run_id}.{self.arm}."

    @property
    def directory(self) -> Path:
        return Path(self.arm_dir)

    def target_object(self) -> Target:
        """The Target that ``dataclasses.asdict`` made :attr:`target` of."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in self.target.items()}
        values["nodes"] = tuple(Node(**{**n, "addresses": tuple(n["addresses"])}) for n in self.target.get("nodes", ()))
        return Target(**values)

    def save(self) -> Path:
        """Write it into the arm's directory; the file's path."""
        path = self.directory / FILE
        path.write_text(json.dumps(asdict(self), indent=1, sort_keys=True))
        return path

    @classmethod
    def load(cls, path: Path) -> ChaosSpec:
        """The spec in ``path``.

        :raises UsageError: not readable, an unknown or a missing key.
        """
        try:
            data = json.loads(path.read_text())
            data["workloads"] = {k: tuple(v) for k, v in data["workloads"].items()}
            return cls(**{**data, "faults": tuple(data["faults"]), "may": tuple(data.get("may", ()))})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"is no spec of faults: {error!r}", where=str(path)) from None
