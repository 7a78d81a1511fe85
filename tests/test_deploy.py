"""The files for containers: nginx in front of real services, and manifests beside their schemas."""
from __future__ import annotations

import re
import shutil
import ssl
import subprocess
from collections import Counter
from pathlib import Path

import httpx
import pytest

from nextword.serve.web.middleware.body_limit import BODY_LIMIT, PROFILE_LIMIT
from tests.benchmarks.serving import replicas
from tests.harness.client import free_port
from tests.harness.nginx import CONFIGURATION, find_nginx, nginx
from tests.service_fixtures import PATIENCE, ROOT

DEPLOY = ROOT / "serve" / "deploy"


@pytest.mark.skipif(not find_nginx(), reason="nginx is not installed")
def test_nginx_keeps_to_a_replica_and_goes_past_those_that_end(tmp_path, tiny_bundle):
    with replicas.replicas(tmp_path, tiny_bundle, "--deadline", "30") as several:
        ports = [replica.port for replica in several]
        with nginx(tmp_path, ports) as url, httpx.Client(base_url=url, timeout=PATIENCE) as client:
            direct = httpx.post(
                f"{several[0].url}/v1/next-words", json={"text": "I went to the"}, timeout=PATIENCE
            ).json()

            def ask(session: str) -> None:
                answer = client.post("/v1/next-words", json={"text": "I went to the"}, headers={"x-session": session})
                assert (answer.status_code, answer.json()) == (200, direct)

            sessions = [f"session {number}" for number in range(30)]
            for session in sessions:
                before = counts(several)
                ask(session)
                ask(session)
                assert sorted((counts(several) - before).values()) == [2], "both are for one replica"
            assert min(counts(several).values()) > 1, "each replica has some sessions"

            several[0].kill()
            for session in sessions:
                ask(session)
            several[0].restart()
            several[1].roll()
            for session in sessions:
                ask(session)
            for replica in several:
                replica.kill()
            refused = client.post("/v1/next-words", json={"text": ""})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.json()["error"]["type"] == "unavailable"


@pytest.mark.skipif(not (find_nginx() and shutil.which("openssl")), reason="nginx or openssl is not installed")
def test_nginx_has_tls_and_limits_what_an_address_asks(tmp_path):
    (tmp_path / "tls").mkdir()
    port, certificate, key = free_port(), tmp_path / "tls.crt", tmp_path / "tls.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-keyout", key, "-out", certificate], check=True, capture_output=True)
    tls = (DEPLOY / "tls.conf").read_text().replace("/run/secrets", str(tmp_path))
    (tmp_path / "tls" / "tls.conf").write_text(tls.replace("listen 8443", f"listen 127.0.0.1:{port}"))
    with nginx(tmp_path, [free_port()] * replicas.REPLICAS, limited=True) as url:
        context = ssl.create_default_context(cafile=certificate)
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=context, timeout=PATIENCE) as client:
            assert client.get("/v1/models").status_code == 503  # there is no replica
            assert client.get("/metrics").status_code == 404
            assert "max-age" in client.get("/metrics").headers["strict-transport-security"]
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            refused = next(answer for answer in (client.get("/v1/models") for _ in range(2000))
                           if answer.status_code == 429)
        assert (refused.headers["retry-after"], refused.json()["error"]["type"]) == ("1", "rate_limit_exceeded")


def test_containers_are_safe_as_they_come():
    yaml = pytest.importorskip("yaml")
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    for name, container in compose["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in container.get("ports", ()))
        if name == "redis":
            assert not container.get("ports") and container["networks"] == ["profiles"]
            assert compose["networks"]["profiles"]["internal"]
        elif name != "nginx":
            assert container["environment"]["NEXTWORD_SERVE_PROFILES"] == "redis://redis:6379/0"
            assert container["environment"]["NEXTWORD_SERVE_API_KEYS_FILE"] == "/run/secrets/keys"
            assert container["secrets"] == ["keys"] and not container.get("ports")
    manifests = {file.stem: yaml.safe_load(file.read_text()) for file in (DEPLOY / "kubernetes").glob("*.yaml")}
    pod = manifests["deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    variable, password, profiles = container["env"]
    assert variable["name"] == "NEXTWORD_SERVE_API_KEYS_FILE"
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    secret = volumes[mounted[str(Path(variable["value"]).parent)]]["secret"]
    assert secret["secretName"] == "nextword-keys" and "optional" not in secret
    redis = manifests["redis"]["spec"]["template"]
    assert {policy["kind"] for policy in (manifests["network-policy"], manifests["redis-network-policy"])} == {
        "NetworkPolicy"}
    assert password["valueFrom"] == redis["spec"]["containers"][0]["env"][0]["valueFrom"]
    host = manifests["redis-service"]["metadata"]["name"]
    assert profiles["value"] == f"redis://:$({password['name']})@{host}:6379/0"
    for pods, ways in (("network-policy", "egress"), ("redis-network-policy", "ingress")):
        assert manifests[pods]["spec"][ways] and all(rule["ports"] for rule in manifests[pods]["spec"][ways])
    policy, ingress = manifests["network-policy"]["spec"], manifests["ingress"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert all(rule["from"] for rule in policy["ingress"])
    assert ingress["tls"][0]["hosts"] == [rule["host"] for rule in ingress["rules"]]
    assert {path["path"] for path in ingress["rules"][0]["http"]["paths"]} == {"/v1", "/health"}


def counts(several: list[replicas.Replica]) -> Counter:
    """How many questions each replica had, but for the first that was asked directly."""
    found = Counter()
    for replica in several:
        metrics = httpx.get(f"{replica.url}/metrics", timeout=PATIENCE).text
        counted = re.findall(r'^nextword_request_seconds_count\{route="/v1/next-words".* (\S+)$', metrics, re.MULTILINE)
        found[replica.port] = sum(int(float(number)) for number in counted)
    return found


@pytest.mark.parametrize("file", sorted((DEPLOY / "kubernetes").glob("*.yaml")), ids=lambda file: file.stem)
def test_manifests_fit_their_schemas(file):
    schemas = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    import yaml

    manifest = yaml.safe_load(file.read_text())
    for version in ("1.29", schemas.latest_version()):
        schemas.validate(manifest, version, strict=True)


def test_the_image_copies_what_is_there_and_ignores_the_rest():
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    copied = {
        name for line in re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.MULTILINE) for name in line.split()
    }
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert copied == {name[1:] for name in ignored if name.startswith("!")}
    for name in [*copied, *(name for name in ignored if name.startswith("serve/"))]:
        assert (ROOT / name).exists(), name


def test_nginx_lets_the_bodies_through_that_the_service_takes():
    sizes = {limit: f"{-(-limit // 2**20)}m" for limit in (BODY_LIMIT, PROFILE_LIMIT)}
    assert re.findall(r"client_max_body_size (\S+);", CONFIGURATION.read_text()) == list(sizes.values())
    for name, limit in (("ingress", BODY_LIMIT), ("ingress-profiles", PROFILE_LIMIT)):
        manifest = (DEPLOY / "kubernetes" / f"{name}.yaml").read_text()
        assert re.findall(r"proxy-body-size: (\S+)", manifest) == [sizes[limit]]


def test_all_files_name_the_same_replicas():
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    balanced = re.findall(r"^ *server (\S+):8000", CONFIGURATION.read_text(), re.MULTILINE)
    assert balanced == [name for name in services if name not in ("nginx", "redis")]
    assert list(services["nginx"]["depends_on"]) == balanced and len(balanced) == replicas.REPLICAS
