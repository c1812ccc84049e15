"""HTTP to the API server: one function, plain JSON in and out, one kind of error.

The official client brings authentication, TLS and connection pools; its models are left out, since turning every pod into
some two hundred Python objects costs more CPU than a sampler may use.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client as k8s
from kubernetes import config as k8s_config

from harness.errors import GuardRefused, MailgaleError, NotReady

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
#: Of a connection that broke or a read that timed out. urllib3's own three would make a server that hangs cost four time limits a call.
RETRIES = 1


class ApiFailed(MailgaleError):
    """The API server said no, or did not answer. ``status`` is the HTTP status; 0 = no answer at all."""

    def __init__(self, what: str, *, status: int, where: str = "", todo: str = "", body: str = "") -> None:
        super().__init__(what, where=where, todo=todo)
        self.status, self.body = status, body


class NotFound(ApiFailed):
    """404: there is no such thing."""


class Conflict(ApiFailed):
    """409: it exists already, is another one by now, or belongs to someone else."""


class Gone(ApiFailed):
    """410: the resource version asked for is too old; list again."""


_BY_STATUS: dict[int, type[ApiFailed]] = {404: NotFound, 409: Conflict, 410: Gone}


class Api:
    """A connection to one cluster, by one context of one kubeconfig.

    :param kubeconfig: a file, or several joined by ``:`` as in ``KUBECONFIG``.
    :raises NotReady: the kubeconfig cannot be read or has no such context.
    :raises GuardRefused: no context is named: the client would take the current one.
    """

    def __init__(self, kubeconfig: str, context: str) -> None:
        if not context:
            raise GuardRefused("no context is named, and the current one is never taken", where=kubeconfig)
        try:
            settings = k8s.Configuration()
            settings.retries = RETRIES
            self.client = k8s_config.new_client_from_config(config_file=kubeconfig, context=context, client_configuration=settings)
        except (k8s_config.ConfigException, OSError) as error:
            raise NotReady(f"no usable kubeconfig: {error}", where=kubeconfig, todo="mailgale cluster up") from error
        self.kubeconfig, self.context = kubeconfig, context

    def fresh_client(self) -> Any:
        """A client of its own on the same configuration: the websocket calls swap methods of the one they use."""
        return k8s.ApiClient(self.client.configuration)

    def kubeconfig_with(self, token: str, name: str) -> dict[str, Any]:
        """A kubeconfig of the same server with this token and nothing else of the user's, as data; its context is called ``name``."""
        settings = self.client.configuration
        cluster: dict[str, Any] = {"server": settings.host}
        if settings.ssl_ca_cert:
            cluster["certificate-authority-data"] = base64.b64encode(Path(settings.ssl_ca_cert).read_bytes()).decode()
        if not settings.verify_ssl:
            cluster["insecure-skip-tls-verify"] = True
        if settings.tls_server_name:
            cluster["tls-server-name"] = settings.tls_server_name
        return {
            "apiVersion": "v1", "kind": "Config", "current-context": name, "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}}], "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        }

    def raw(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
        timeout_s: float = 15.0,
        accept: str = "application/json",
    ) -> Any:
        """The urllib3 response to one request, its body not yet read. The caller releases it.

        :raises ApiFailed: any status but 2xx (NotFound, Conflict, Gone for theirs), or no answer within ``timeout_s``.
        """
        try:
            return self.client.call_api(
                path, method, query_params=list((query or {}).items()),
                header_params={"Accept": accept, "Content-Type": content_type},
                body=body, auth_settings=["BearerToken"], response_type=None,
                _preload_content=False, _return_http_data_only=True, _request_timeout=(min(5.0, timeout_s), timeout_s),
            )
        except k8s.ApiException as error:
            raise _failed(error, f"{method} {path}") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiFailed(f"the API server did not answer: {_brief(error)}", status=0, where=f"{method} {path}") from error

    def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """One request, its JSON answer. Options and errors as of :meth:`raw`."""
        data = self.read(method, path, **options)
        try:
            answer = json.loads(data)
        except ValueError as error:
            raise ApiFailed("the answer is no JSON", status=0, where=f"{method} {path}") from error
        return answer if isinstance(answer, dict) else {"value": answer}

    def read(self, method: str, path: str, **options: Any) -> bytes:
        """One request, the bytes of its answer. Options and errors as of :meth:`raw`."""
        response = self.raw(method, path, **options)
        try:
            return bytes(response.data)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiFailed(f"the answer broke off: {_brief(error)}", status=0, where=f"{method} {path}") from error
        finally:
            response.release_conn()


def join(*parts: str) -> str:
    """A path of the API from its parts, empty ones left out."""
    return "/" + "/".join(p.strip("/") for p in parts if p)


def _failed(error: Any, where: str) -> ApiFailed:
    status, body = int(error.status or 0), _text(error.body)
    reason = _message(body) or str(error.reason or "no reason given")
    kind = _BY_STATUS.get(status, ApiFailed)
    return kind(f"the API server says {status}: {reason}", status=status, where=where, body=body)


def _message(body: str) -> str:
    try:
        found = json.loads(body)
    except ValueError:
        return body.strip()[:300]
    return str(found.get("message", "")) if isinstance(found, dict) else ""


def _text(body: str | bytes | None) -> str:
    return body.decode(errors="replace") if isinstance(body, bytes) else body or ""


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def selector(labels: Mapping[str, str] | Sequence[str]) -> str:
    """A label selector: ``{"a": "b"}`` → ``a=b``; a sequence is joined as it is."""
    return ",".join(f"{k}={v}" for k, v in labels.items()) if isinstance(labels, Mapping) else ",".join(labels)
