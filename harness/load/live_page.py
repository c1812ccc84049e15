"""The ledger's live state in Locust's web UI: the tab "Ledger", and beside it ``/mailgale`` (a plain page) and ``/mailgale.json``.

A row for each engine, and with several of them one for all: what was offered, what became of it, what the IDLE watchers saw delivered, and how
far the engine is behind its schedule. Locust's page asks for it with its own statistics every two seconds. In a distributed load each worker
sends its engine's state to the master along with its statistics.

Source: "Extending Locust's web UI" in Locust's documentation (``template_args`` ``extended_tabs`` and ``extended_tables``, ``extended_stats`` in
the answer of ``/stats/requests``).
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Flask, Response, request

from harness.model.outcome import Deferral

if TYPE_CHECKING:  # importing locust patches the standard library, which the pages themselves do not need
    from locust.env import Environment
    from locust.web import WebUI

#: Key of an engine's state in what a worker reports to its master.
REPORTED = "mailgale_state"
TAB = "ledger"
_ALL = "all"
State = Mapping[str, Any]
_DEFERRED = {f"deferred_{d.name.lower()}": f"Deferred: {d.name.lower().replace('_', ' ')}" for d in Deferral if d is not Deferral.NONE}
#: Columns of the tab: key in a row → title.
COLUMNS = {
    "name": "Engine", "phase": "Phase", "offered": "Offered", "accepted": "Accepted", **_DEFERRED, "rejected": "Rejected",
    "undetermined": "Undetermined", "failed": "Without a reply", "in_flight": "In flight", "waiting_total": "Waiting", "seen": "Delivered (seen)",
    "lag_p99_ms": "Schedule lag p99 (ms)", "lag_max_ms": "Schedule lag max (ms)",
}
#: Of several engines the worst counts, not the sum.
_WORST = frozenset({"lag_p99_ms", "lag_max_ms"})
_PAGE = """<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=2><title>mailgale</title>
<style>:root{{color-scheme:light dark}}body{{font:16px system-ui;margin:2rem}}td,th{{padding:.2rem 1.5rem .2rem 0;text-align:left}}
td+td{{text-align:right;font-variant-numeric:tabular-nums}}</style><h1>Ledger, live</h1><table>{rows}</table>"""


class Live:
    """The last state of each engine, by a name for it."""

    def __init__(self) -> None:
        self.states: dict[str, State] = {}

    def told(self, name: str, state: State) -> None:
        """What an engine said of itself last."""
        if state:
            self.states[f"engine {name}"] = state

    def rows(self) -> list[dict[str, Any]]:
        """A row for each engine by name, the one for all of them first where there are several."""
        each = [_row(name, self.states[name]) for name in sorted(self.states)]
        return [_sum(each), *each] if len(each) > 1 else each


def follow_workers(environment: Environment, live: Live, state: Callable[[], State]) -> None:
    """Hand an engine's state from a worker to its master.

    :param live: takes what workers report; that of the master's page.
    :param state: of this process' own engine; {} where it runs none.
    """

    def report(client_id: str, data: dict[str, Any]) -> None:
        data[REPORTED] = dict(state())

    def reported(client_id: str, data: dict[str, Any]) -> None:
        found = data.get(REPORTED)
        if isinstance(found, dict) and found:
            live.told(f"{found.get('engine', client_id)}", found)

    hooks: Any = environment.events  # locust's hooks carry no types
    hooks.report_to_master.add_listener(report)
    hooks.worker_report.add_listener(reported)


def add_live_page(web_ui: WebUI, rows: Callable[[], list[dict[str, Any]]]) -> None:
    """Add the tab and the pages.

    :param rows: as of :meth:`Live.rows`.
    """
    app: Flask | None = web_ui.app
    if app is None:
        return
    pages = Blueprint("mailgale", __name__)

    @pages.route("/mailgale")
    def page() -> Response:
        return Response(_PAGE.format(rows=_table(rows())), mimetype="text/html")

    @pages.route("/mailgale.json")
    def data() -> Response:
        return Response(json.dumps(rows()), mimetype="application/json")

    app.register_blueprint(pages)
    web_ui.template_args["extended_tabs"] = [{"title": "Ledger", "key": TAB}]
    web_ui.template_args["extended_tables"] = [{"key": TAB, "structure": [{"key": k, "title": t} for k, t in COLUMNS.items()]}]

    def extend(response: Response) -> Response:
        """Locust's page takes the rows of an extended table out of /stats/requests."""
        if request.path.endswith("/stats/requests") and isinstance(body := response.get_json(silent=True), dict):
            shown = [{**row, "safe_name": row["name"]} for row in rows()]
            response.set_data(json.dumps({**body, "extended_stats": [{"key": TAB, "data": shown}]}))
        return response

    app.after_request(extend)


def _row(name: str, state: State) -> dict[str, Any]:
    by_class = state.get("deferred_by") or {}
    deferred = {key: by_class.get(key.removeprefix("deferred_"), 0) for key in _DEFERRED}
    return {"name": name, **{k: state.get(k, 0) for k in COLUMNS if k not in ("name", *_DEFERRED)}, **deferred}


def _sum(each: list[dict[str, Any]]) -> dict[str, Any]:
    phases = dict.fromkeys(str(r["phase"]) for r in each)
    total: dict[str, Any] = {"name": _ALL, "phase": ", ".join(phases)}
    for key in COLUMNS.keys() - {"name", "phase"}:
        total[key] = max(r[key] for r in each) if key in _WORST else sum(r[key] for r in each)
    return total


def _table(rows: list[dict[str, Any]]) -> str:
    """Quantities downwards, engines to the right."""
    lines = []
    for key, title in COLUMNS.items():
        cells = "".join(f"<td>{html.escape(str(row[key]))}" for row in rows)
        lines.append(f"<tr><td>{html.escape(title)}{cells}")
    return "".join(lines)
