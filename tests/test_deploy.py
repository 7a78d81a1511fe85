"""The files for containers: nginx in front of real services, and manifests beside their schemas."""
from __future__ import annotations

import re
from collections import Counter

import httpx
import pytest

from tests.benchmarks.serving import replicas
from tests.harness.nginx import CONFIGURATION, find_nginx, nginx
from tests.servers import PATIENCE, ROOT

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


def test_all_files_name_the_same_replicas():
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    balanced = re.findall(r"^ *server (\S+):8000", CONFIGURATION.read_text(), re.MULTILINE)
    assert balanced == [name for name in services if name != "nginx"]
    assert list(services["nginx"]["depends_on"]) == balanced and len(balanced) == replicas.REPLICAS
