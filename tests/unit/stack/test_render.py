"""Rendering: what kustomize does not do, and what is refused."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StackFailed, UsageError
from harness.model.target import Target
from harness.stack.params import Credentials, Params, free_dns_address, make_credentials
from harness.stack.render import Rendered, images_of, kustomize, render, render_preview
from harness.support.checkout import Checkout

NAMESPACE = "mailgale-aaaa1111-t"
IMAGES = {"mx": "mailgale/mx:1", "queue-status": "mailgale/queue-status:2"}
LABELS = {"app.kubernetes.io/managed-by": "mailgale"}
SECRETS = Credentials("pass", "CA", "CERT", "KEY")


def params(**changes: Any) -> Params:
    return replace(Params(NAMESPACE, 20, 30.0, ("192.0.2.0/24",), ("10.244.0.0/16",)), **changes)


def rendered(checkout: Checkout, variants: tuple[str, ...] = (), *, images: Mapping[str, str] = IMAGES, shared: bool = True, **changes: Any) -> Rendered:
    found = kustomize(checkout, profile="minimal", variants=variants, namespace=NAMESPACE)
    return render(found, params=params(**changes), credentials=SECRETS, images=images, owner_labels=LABELS, shared_volumes=shared)


def render_with(checkout: Checkout, **options: Any) -> Rendered:
    found = kustomize(checkout, profile="minimal", variants=(), namespace=NAMESPACE)
    return render(found, params=params(), credentials=SECRETS, images=IMAGES, owner_labels=LABELS, **{"shared_volumes": True, **options})


def one(made: Rendered, kind: str, name: str | None = None) -> dict[str, Any]:
    found = [m for m in made.manifests if m["kind"] == kind and name in (None, m["metadata"]["name"])]
    assert len(found) == 1
    return found[0]


def test_images_of_the_profile(checkout: Checkout):
    assert images_of(kustomize(checkout, profile="minimal", variants=(), namespace=NAMESPACE)) == {"mx", "queue-status"}


def test_images_namespace_and_labels_are_set(checkout: Checkout):
    made = rendered(checkout)
    workload = one(made, "StatefulSet")
    assert [c["image"] for c in workload["spec"]["template"]["spec"]["containers"]] == ["mailgale/mx:1", "mailgale/queue-status:2"]
    assert workload["metadata"]["namespace"] == NAMESPACE
    assert all(m["metadata"]["labels"].items() >= LABELS.items() for m in made.manifests)


def test_params_and_secrets_replace_the_defaults(checkout: Checkout):
    made = rendered(checkout, overrides={"LIMIT_RATE": "5 / 1s"})
    data = one(made, "ConfigMap")["data"]
    assert (data["USERS"], data["LIMIT_RATE"], data["GENERATOR_NETWORKS"]) == ("20", "5 / 1s", "192.0.2.0/24")
    secret = one(made, "Secret")["data"]
    assert base64.b64decode(secret["user-password"]) == b"pass"
    assert base64.b64decode(secret["tls.crt"]) == b"CERTCA"


def test_an_unknown_parameter_is_refused_with_the_nearest(checkout: Checkout):
    with pytest.raises(UsageError, match="nearest: LIMIT_RATE"):
        rendered(checkout, overrides={"LIMIT_RAT": "1"})


def test_an_unknown_variant_or_profile_is_refused_with_the_nearest(checkout: Checkout):
    with pytest.raises(UsageError, match="nearest: mx-2x"):
        rendered(checkout, ("mx-2",))
    with pytest.raises(UsageError, match="nearest: minimal"):
        kustomize(checkout, profile="minimum", variants=(), namespace=NAMESPACE)


def test_kustomize_itself_failing_is_told(checkout: Checkout):
    (checkout.root / "deploy/variants/mx-2x/kustomization.yaml").write_text("kind: Component\nnonsense: true\n")
    with pytest.raises(StackFailed, match="kustomize refuses"):
        rendered(checkout, ("mx-2x",))


def test_cluster_scoped_names_carry_the_namespace(checkout: Checkout):
    binding = one(rendered(checkout), "ClusterRoleBinding")
    assert binding["metadata"]["name"] == binding["roleRef"]["name"] == f"{NAMESPACE}-dns"
    assert binding["subjects"][0]["namespace"] == NAMESPACE
    assert binding["metadata"]["labels"]["mailgale.dev/namespace"] == NAMESPACE


def test_the_address_of_the_dns_is_replaced_as_a_whole_word(checkout: Checkout):
    workload = one(rendered(checkout, dns_address="10.50.0.53"), "StatefulSet")
    pod = workload["spec"]["template"]["spec"]
    assert pod["dnsConfig"]["nameservers"] == ["10.50.0.53"]
    assert pod["containers"][0]["env"][0]["value"] == "110.96.0.53 10.96.0.530"


def test_every_claim_gets_its_own_volume_with_room_to_scale(checkout: Checkout):
    volumes = [m for m in rendered(checkout).manifests if m["kind"] == "PersistentVolume"]
    assert [v["spec"]["claimRef"]["name"] for v in volumes] == [f"spool-mx-{i}" for i in range(4)]
    assert volumes[0]["spec"]["hostPath"]["path"] == f"/var/lib/mailgale/volumes/{NAMESPACE}/spool-mx-0"
    many = [m for m in rendered(checkout, ("mx-2x",)).manifests if m["kind"] == "PersistentVolume"]
    assert len(many) == 6


def test_without_shared_volumes_claims_take_the_default_class(checkout: Checkout):
    made = rendered(checkout, shared=False)
    assert not [m for m in made.manifests if m["kind"] in ("PersistentVolume", "StorageClass")]
    assert "storageClassName" not in one(made, "StatefulSet")["spec"]["volumeClaimTemplates"][0]["spec"]


def test_without_shared_volumes_a_class_can_be_named(checkout: Checkout):
    made = render_with(checkout, shared_volumes=False, storage_class="fast")
    assert one(made, "StatefulSet")["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"] == "fast"


def test_the_edge_can_be_bound_to_a_node_that_has_no_label(checkout: Checkout):
    path = checkout.root / "deploy/components/mx/manifests.yaml"
    path.write_text(path.read_text().replace("dnsPolicy: None", 'nodeSelector: {mailgale.dev/edge: "true", disk: ssd}\n      dnsPolicy: None'))
    pod = one(render_with(checkout), "StatefulSet")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"mailgale.dev/edge": "true", "disk": "ssd"}
    pod = one(render_with(checkout, edge_node="w3"), "StatefulSet")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"disk": "ssd"}
    (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term == {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["w3"]}]}


def test_a_missing_image_is_told(checkout: Checkout):
    with pytest.raises(StackFailed, match="'queue-status' was not built"):
        rendered(checkout, images={"mx": "mailgale/mx:1"})


def test_a_foreign_image_is_told(checkout: Checkout):
    path = checkout.root / "deploy/components/mx/manifests.yaml"
    path.write_text(path.read_text().replace("mailgale/mx:dev", "docker.io/postfix:latest"))
    with pytest.raises(StackFailed, match="not built from deploy/components"):
        rendered(checkout)


def test_the_digest_sees_everything_but_secrets_and_the_namespace(checkout: Checkout):
    first = rendered(checkout)
    assert rendered(checkout).sha256 == first.sha256
    assert rendered(checkout, users=21).sha256 != first.sha256
    assert rendered(checkout, images={**IMAGES, "mx": "mailgale/mx:9"}).sha256 != first.sha256
    found = kustomize(checkout, profile="minimal", variants=(), namespace="mailgale-aaaa1111-other")
    other = render(
        found, params=params(namespace="mailgale-aaaa1111-other"), credentials=replace(SECRETS, password="q"), images=IMAGES, owner_labels=LABELS,
        shared_volumes=True,
    )
    assert other.sha256 == first.sha256


def test_the_preview_holds_no_secret(checkout: Checkout, monkeypatch: pytest.MonkeyPatch):
    text = render_preview(checkout, profile="minimal", variants=("mx-2x",))
    assert "replicas: 6" in text
    assert "mailgale/mx:dev" in text
    assert base64.b64encode(b"made-for-each-run").decode() in text


def test_certificates_verify_and_cover_pods_services_and_the_edge(target: Target, tmp_path: Path):
    from cryptography import x509
    from cryptography.x509.verification import PolicyBuilder, Store

    made = make_credentials(params(), target)
    ca, leaf = x509.load_pem_x509_certificate(made.ca_pem.encode()), x509.load_pem_x509_certificate(made.cert_pem.encode())
    for name in (f"mx.{NAMESPACE}.svc.cluster.local", f"mailbox-0.mailbox.{NAMESPACE}.svc.cluster.local", "mail.example.org"):
        PolicyBuilder().store(Store([ca])).build_server_verifier(x509.DNSName(name)).verify(leaf, [])
    with pytest.raises(x509.verification.VerificationError):
        PolicyBuilder().store(Store([ca])).build_server_verifier(x509.DNSName("mail.example.net")).verify(leaf, [])
    other = make_credentials(params(), target)
    assert other.password != made.password
    foreign = Store([x509.load_pem_x509_certificate(other.ca_pem.encode())])
    with pytest.raises(x509.verification.VerificationError):
        PolicyBuilder().store(foreign).build_server_verifier(x509.DNSName("mail.example.org")).verify(leaf, [])


def test_the_dns_address_avoids_what_is_taken(target: Target):
    assert free_dns_address(target, []) == "10.96.0.53"
    assert free_dns_address(target, ["10.96.0.53"]) == "10.96.0.20"
    assert free_dns_address(replace(target, service_networks=("fd00::/112", "10.50.0.0/20")), []) == "10.50.0.53"
    with pytest.raises(UsageError, match="no IPv4 service network"):
        free_dns_address(replace(target, service_networks=("fd00::/112",)), [])
    with pytest.raises(UsageError, match="no address is left"):
        free_dns_address(target, [f"10.96.0.{i}" for i in range(256)])


@pytest.mark.parametrize(("name", "value"), [("users", 7), ("users", 10**6), ("time_scale", 0.5), ("time_scale", 5000.0)])
def test_impossible_parameters_are_refused(name: str, value: float):
    with pytest.raises(UsageError):
        params(**{name: value})
