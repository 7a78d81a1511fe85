"""Settings: flags, environment, file; what is said about them."""
from __future__ import annotations

import argparse
import json

import httpx
import pytest

from nextword.serve.settings import PREFIX, Settings, SettingsError, add_flags, read
from tests.service_fixtures import PATIENCE, serving

KEY = "a-key-of-enough-letters"


def flags(*arguments: str) -> dict:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return vars(parser.parse_args(arguments))


def test_flags_come_before_the_environment_before_the_file_before_defaults(tmp_path):
    file = tmp_path / "nextword.toml"
    file.write_text('port = 1\nworkers = 2\ndeadline = 3.5\ncors_origins = ["https://a.example"]\n')
    environment = {f"{PREFIX}CONFIG": str(file), f"{PREFIX}PORT": "4", f"{PREFIX}WORKERS": "5", "OTHER": "x"}
    settings, shown = read(flags("--port", "6", "--access-log", "off"), environment)
    assert (settings.port, settings.workers, settings.deadline, settings.cache) == (6, 5, 3.5, 48)
    assert settings.cors_origins == ("https://a.example",) and settings.access_log is False
    assert f"port=6 (--port), workers=5 ({PREFIX}WORKERS), deadline=3.5 (deadline in {file}), cache=48," in shown
    assert read(flags(), {})[0] == Settings()


def test_keys_come_from_the_environment_and_a_file_and_are_not_shown(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# of the kitchen\n{KEY}-1\n\n  {KEY}-2\n")
    settings, shown = read(flags("--api-keys-file", str(file)), {f"{PREFIX}API_KEYS": f"{KEY}-3, {KEY}-4"})
    assert sorted(settings.keys()) == [f"{KEY}-{number}" for number in (1, 2, 3, 4)]
    assert "4 API keys" in shown and KEY not in shown and KEY not in repr(settings)


def test_the_password_of_redis_is_not_shown():
    settings, shown = read(flags("--profiles-drop", "on"), {f"{PREFIX}PROFILES": "redis://me:secret@host:6379/0"})
    assert settings.profiles == "redis://me:secret@host:6379/0" and settings.limits.drop
    assert f"profiles=redis://…@host:6379/0 ({PREFIX}PROFILES)" in shown and "secret" not in shown


@pytest.mark.parametrize(("arguments", "environment", "file", "message"), [
    ((), {"PRT": "1"}, "", f"{PREFIX}PRT: there is no such setting; do you mean port?"),
    ((), {}, "prot = 1", "prot in .*: there is no such setting; do you mean port?"),
    ((), {}, "zzzzzz = 1", "accepted: .*bundle, .*host, port"),
    ((), {}, "port = ", "cannot be read"),
    ((), {"CONFIG": "no/such/file.toml"}, "", "cannot be read: .*no/such/file.toml"),
    (("--port", "99999"), {"PORT": "1"}, "", "--port: '99999': .* 65535"),
    ((), {"PORT": "http"}, "", f"{PREFIX}PORT: 'http': .*integer"),
    ((), {"DEADLINE": "nan"}, "", f"{PREFIX}DEADLINE: .*finite"),
    ((), {}, "deadline = 0", "deadline in .*: 0: .*0.1"),
    (("--rate-limit", "many"), {}, "", "--rate-limit: 'many': it should be like 10/second"),
    (("--cors-origins", "example.org"), {}, "", "--cors-origins: .*https://example.org"),
    (("--access-log", "loud"), {}, "", "--access-log: 'loud': .*boolean"),
    (("--log-format", "xml"), {}, "", "--log-format: 'xml': .*'text' or 'json'"),
    (("--layout", "colemak"), {}, "", "--layout: 'colemak': .*'dvorak'"),
    (("--layout", '{"ab": [0, 0], "c": [1, 0]}'), {}, "", "--layout: 'ab': .*at most 1 character"),
    (("--api-keys-file", "no/such/keys"), {}, "", "api_keys_file cannot be read"),
    (("--api-keys-file", "/dev/null"), {}, "", "has no key"),
    ((), {"API_KEYS": "short"}, "", "API key number 1 cannot be used: a key has 16 or more"),
    ((), {"API_KEYS": "with space inside of it"}, "", "without spaces"),
    ((), {"API_KEYS": ""}, "", f"{PREFIX}API_KEYS: it is set but holds no key"),
    ((), {"API_KEYS": " , "}, "", f"{PREFIX}API_KEYS: it is set but holds no key"),
    ((), {}, "api_keys = []", "api_keys in .*: it is set but holds no key"),
    (("--allowed-hosts", "example.org:80"), {}, "", "--allowed-hosts: .*with no port"),
    (("--trusted-proxies", "*"), {}, "", "--trusted-proxies: .*an address or a network"),
])
def test_what_cannot_be_used_is_refused_with_its_place(tmp_path, arguments, environment, file, message):
    environment = {PREFIX + name: value for name, value in environment.items()}
    if file:
        (tmp_path / "nextword.toml").write_text(file)
        arguments = (*arguments, "--config", str(tmp_path / "nextword.toml"))
    with pytest.raises(SettingsError, match=message) as refused:
        read(flags(*arguments), environment)
    assert "\n" not in str(refused.value) and "short" not in str(refused.value)


@pytest.mark.parametrize(("arguments", "hosts"), [
    ((), {"localhost", "127.0.0.1", "::1"}),
    (("--host", "::1"), {"localhost", "127.0.0.1", "::1"}),
    (("--host", "[::1]"), {"localhost", "127.0.0.1", "::1"}),
    (("--host", "127.0.0.2"), {"localhost", "127.0.0.1", "::1", "127.0.0.2"}),
    (("--host", "0.0.0.0"), set()),
    (("--host", "0.0.0.0", "--allowed-hosts", "Words.example.org, [::1]"), {"words.example.org", "::1"}),
    (("--allowed-hosts", "*"), set()),
], ids=lambda value: "" if isinstance(value, set) else " ".join(value))  # sets have no order
def test_a_service_for_this_machine_has_its_names_alone(arguments, hosts):
    settings = read(flags(*arguments), {})[0]
    assert settings.hosts == hosts and "[" not in settings.host


def test_a_key_where_litserve_looks_for_one_is_no_false_safety():
    with pytest.raises(SettingsError, match=f"guards nothing here: set {PREFIX}API_KEYS"):
        read(flags(), {"LIT_SERVER_API_KEY": KEY})


def test_json_lines_of_a_service_set_up_by_file_and_environment(tmp_path, tiny_bundle, monkeypatch):
    file = tmp_path / "nextword.toml"
    file.write_text('log_format = "json"\n')
    monkeypatch.setenv(f"{PREFIX}CONFIG", str(file))
    monkeypatch.setenv(f"{PREFIX}API_KEYS", KEY)
    (tmp_path / "server").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    with (serving(tmp_path / "server", tiny_bundle) as server,
          httpx.Client(base_url=server.url, timeout=PATIENCE) as client):
        client.headers["x-request-id"] = "mine-1"
        assert client.post("/v1/next-words", json={"text": "a secret"}, headers={"x-api-key": KEY}).status_code == 200
        assert client.get("/v1/models/secret", headers={"x-api-key": KEY}).status_code == 404
        assert list((tmp_path / "temporary").iterdir()) == []  # nothing needs a disk that can be written to
        assert KEY not in str(server.worker().environ())
    log = server.log.read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert any(line["message"] == f"Serving tiny on {server.url}" for line in lines)
    assert lines[0]["message"].startswith("settings: ")
    assert f"log_format=json (log_format in {file})" in lines[0]["message"]
    asked, other = [line for line in lines if line.get("id") == "mine-1"]
    assert (asked["level"], asked["method"], asked["route"], asked["status"]) == ("info", "POST", "/v1/next-words", 200)
    assert 0 < asked["ms"] < 1000 * PATIENCE and asked["time"].endswith("Z")
    assert other["route"] == "/v1/models/{name:any}" and other["status"] == 404
    assert "secret" not in log and KEY not in log
