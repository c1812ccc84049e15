"""The ledger's live state beside Locust's web UI: ``/mailgale`` (a page that renews itself) and ``/mailgale.json``."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Flask, Response, request
from locust.web import WebUI

_PAGE = """<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=2><title>mailgale</title>
<style>:root{{color-scheme:light dark}}body{{font:16px system-ui;margin:2rem}}td{{padding:.2rem 1.5rem .2rem 0}}
td+td{{text-align:right;font-variant-numeric:tabular-nums}}</style><h1>Ledger, live</h1><table>{rows}</table>"""


def add_live_page(web_ui: WebUI, state: Callable[[], dict[str, Any]]) -> None:
    """Serve ``state()`` next to Locust's own pages, and name the page in its UI as a tab."""
    app: Flask | None = web_ui.app
    if app is None:
        return
    pages = Blueprint("mailgale", __name__)

    @pages.route("/mailgale")
    def page() -> Response:
        rows = "".join(f"<tr><td>{html.escape(str(k))}<td>{html.escape(str(v))}" for k, v in sorted(state().items()))
        return Response(_PAGE.format(rows=rows), mimetype="text/html")

    @pages.route("/mailgale.json")
    def data() -> Response:
        return Response(json.dumps(state()), mimetype="application/json")

    app.register_blueprint(pages)
    web_ui.template_args["extended_tabs"] = [{"title": "Ledger", "key": "ledger"}]
    web_ui.template_args["extended_tables"] = [{"key": "ledger", "structure": [{"key": k, "title": t} for k, t in _SHOWN.items()]}]

    def extend(response: Response) -> Response:
        """Locust's UI takes the rows of an extended table out of /stats/requests."""
        if request.path.endswith("/stats/requests") and isinstance(body := response.get_json(silent=True), dict):
            row = {"name": "engine", "safe_name": "engine", **{k: state().get(k, 0) for k in _SHOWN}}
            response.set_data(json.dumps({**body, "extended_stats": [{"key": "ledger", "data": [row]}]}))
        return response

    app.after_request(extend)


#: Columns of the tab.
_SHOWN = {k: k for k in ("phase", "offered", "accepted", "deferred", "rejected", "undetermined", "seen", "failed", "connections")}
