"""The settings of the service. Precedence: flags, environment, config file, defaults.

    nextword serve --port 9000
    NEXTWORD_SERVE_PORT=9000 nextword serve
    nextword serve --config nextword.toml          # port = 9000

Unknown settings are errors, in the environment (with the prefix) and in the file. API keys have no flag, because other
users of the machine could read it.
"""
from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from limits import RateLimitItem, parse
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_serializer,
    field_validator,
)

from nextword.lm.blocklist import OWN
from nextword.lm.keyboards import QWERTY
from nextword.serve.profiles.store import Limits
from nextword.serve.schemas import Layout

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "NEXTWORD_SERVE_"
CONFIG = "config"  # names the config file; only a flag or the environment can set it
SHORTEST_KEY = 16  # characters
OTHER_KEY = "LIT_SERVER_API_KEY"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class SettingsError(ValueError):
    """A setting is not valid. The message names the setting, its source, and the accepted values."""


def _parts(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Parts = BeforeValidator(_parts)


def _places(value: Any) -> Any:
    """Read the JSON of an object; other values stay as they are."""
    if not isinstance(value, str) or not value.startswith("{"):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"it is no JSON: {error}") from None


class Settings(BaseModel):
    """The settings. The names are those of the config file; flags have `-` instead of `_`."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    bundle: Path | None = Field(None, description="folder of the model to serve; default: the English one")
    unprompted_blocklist: str = Field(
        OWN, description="file of words never suggested unprompted, one a line; own is lm/unprompted.txt; or none")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="0 takes a free one")
    workers: int = Field(1, ge=1, le=64, description="processes that compute")
    deadline: float = Field(2.0, ge=0.1, le=60, allow_inf_nan=False,
                            description="seconds by when a request is answered or refused")
    cache: int = Field(48, ge=0, le=1_000_000, description="MB that each worker may use to remember recent texts")
    profiles: str | None = Field(
        None, description="where profiles of persons are kept: a file, or redis://HOST:PORT where several services "
        "share them; default: nowhere")
    profiles_limit: int = Field(10_000, ge=1, description="the most profiles")
    profile_characters: int = Field(1_000_000, ge=1_000, le=1_000_000, description="the most characters of a profile")
    profiles_drop: bool = Field(
        False, description="on or off: at the limit, drop the least recently used profile of the same key; off refuses "
        "new ones")
    allowed_hosts: Annotated[tuple[str, ...], Parts] = Field(
        (), description="names under which browsers may ask, separated by commas, such as words.example.org; * is any; "
        "default: localhost, 127.0.0.1 and [::1] where host is one of them, else any")
    trusted_proxies: Annotated[tuple[str, ...], Parts] = Field(
        (), description="addresses or networks of the proxies whose X-Forwarded-For is believed, separated by commas, "
        "such as 127.0.0.1 or 10.0.0.0/8")
    layout: Annotated[Layout, BeforeValidator(_places)] = Field(
        QWERTY, description="keyboard on which requests are typed, unless they name another: qwerty, qwertz, azerty, "
        "dvorak, or JSON with the place of each key, such as {\"a\": [0, 1], \"b\": [4.5, 2]}")
    api_keys: Annotated[tuple[SecretStr, ...], Parts] = Field((), exclude=True, description="keys, separated by commas")
    api_keys_file: Path | None = Field(None, description="file with one API key a line; # begins a comment")
    rate_limit: str | None = Field(
        None, description="requests to /v1/ for each API key (or address, where no keys are set), such as 20/second; "
        "whoever types makes one at each letter, and a request for much counts as several")
    cors_origins: Annotated[tuple[str, ...], Parts] = Field(
        (), description="origins whose pages may send requests, separated by commas, such as https://example.org; "
        "* is any")
    log_format: Literal["text", "json"] = Field("text", description="text or json")
    access_log: bool = Field(True, description="on or off: a line for each request, without its text")

    @field_serializer("profiles")
    def _without_password(self, value: str | None) -> str | None:
        return value and re.sub("//.*@", "//…@", value)

    @field_validator("rate_limit")
    @classmethod
    def _check_rate(cls, value: str | None) -> str | None:
        try:
            value and parse(value)
        except ValueError:
            raise ValueError("it should be like 10/second, 100/minute or 1000/hour") from None
        return value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            scheme, _, host = value.partition("://")
            if value != "*" and (scheme not in ("http", "https") or not host or "/" in host):
                raise ValueError("an origin is like https://example.org, with no path")
        return values

    @field_validator("api_keys")
    @classmethod
    def _some_key(cls, values: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not values:
            raise ValueError("it is set but holds no key: set one, or leave it out to serve everybody")
        return values

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, value: str) -> str:
        return value[1:-1] if value.startswith("[") and value.endswith("]") else value  # of an IPv6 address, as in URLs

    @field_validator("allowed_hosts")
    @classmethod
    def _host_names(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if value != "*" and host_name(value) != value.lower().strip("[]"):
                raise ValueError("a host is a name or an address, with no port, such as words.example.org")
        return values

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            try:
                ip_network(value)
            except ValueError:
                raise ValueError("a proxy is an address or a network, such as 127.0.0.1 or 10.0.0.0/8") from None
        return values

    @property
    def limits(self) -> Limits:
        """The limits of the store of profiles."""
        return Limits(self.profiles_limit, self.profile_characters, self.profiles_drop)

    @property
    def hosts(self) -> frozenset[str]:
        """The host names that are answered, in the form of `host_name`; empty if all are."""
        names = [host_name(name) for name in self.allowed_hosts]
        if not names and _is_loopback(self.host):
            names = [*LOOPBACK, host_name(f"[{self.host}]" if ":" in self.host else self.host)]
        return frozenset() if "*" in names else frozenset(names)

    @property
    def rate(self) -> RateLimitItem | None:
        return parse(self.rate_limit) if self.rate_limit else None

    def keys(self) -> list[str]:
        """Return all API keys, including those of the file. Raises SettingsError."""
        keys = [key.get_secret_value() for key in self.api_keys]
        if self.api_keys_file:
            try:
                lines = self.api_keys_file.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeError) as error:
                raise SettingsError(f"api_keys_file cannot be read: {error}") from None
            lines = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
            if not lines:
                raise SettingsError(f"api_keys_file {self.api_keys_file} has no key: write one a line")
            keys += lines
        for number, key in enumerate(keys, 1):
            if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
                raise SettingsError(
                    f"API key number {number} cannot be used: a key has {SHORTEST_KEY} or more characters of ASCII "
                    "without spaces; `python -c 'import secrets; print(secrets.token_urlsafe())'` makes one")
        return keys


def host_name(host: str) -> str:
    """Return the name or address of a Host header, without the port, in lower case."""
    host = host.strip().lower()
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def forget_keys(environment: MutableMapping[str, str] = os.environ) -> None:
    """Take the API keys out of the environment, which every process that starts from now on inherits."""
    for name in list(environment):
        if name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() == "api_keys":
            del environment[name]


class Sources:
    """The sources of the settings, in the order of their precedence."""

    def __init__(self, flags: Mapping[str, Any], environment: Mapping[str, str]):
        variables = {
            name.removeprefix(PREFIX).lower(): value for name, value in environment.items() if name.startswith(PREFIX)
        }
        file = flags.get(CONFIG, variables.get(CONFIG))
        self._sources = [
            ("--{}", {name: value for name, value in flags.items() if name != CONFIG}),
            (PREFIX + "{}", {name: value for name, value in variables.items() if name != CONFIG}),
            (f"{{}} in {file}", _read_file(Path(file)) if file else {}),
        ]

    def merged(self) -> dict[str, Any]:
        return {name: value for _, values in reversed(self._sources) for name, value in values.items()}

    def of(self, name: str) -> str | None:
        """Return the name of a setting in its source, or None if the setting has its default."""
        for label, values in self._sources:
            if name in values:
                own_name = name.replace("_", "-") if label.startswith("--") else name
                return label.format(own_name.upper() if label.startswith(PREFIX) else own_name)
        return None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"the settings in {path} cannot be read: {error}") from None


def read(flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> tuple[Settings, str]:
    """Return the settings, and a line that shows them and their sources without secrets. Raises SettingsError."""
    if environment.get(OTHER_KEY):
        raise SettingsError(f"{OTHER_KEY} guards nothing here: set {PREFIX}API_KEYS instead")
    sources = Sources(flags, environment)
    try:
        settings = Settings.model_validate(sources.merged())
    except ValidationError as error:
        raise SettingsError(_explained(error, sources)) from None
    keys = len(settings.keys())
    parts = [f"{name}={_as_text(value)}{f' ({place})' if (place := sources.of(name)) else ''}"
             for name, value in settings.model_dump().items()]
    return settings, f"settings: {', '.join(parts)}, {keys} API key{'' if keys == 1 else 's'}"


def _as_text(value: Any) -> str:
    return " ".join(value) or "none" if isinstance(value, tuple) else "none" if value is None else str(_switch(value))


def _explained(error: ValidationError, sources: Sources) -> str:
    fault = error.errors()[0]
    name = str(fault["loc"][0])
    place = sources.of(name) or name
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, [*Settings.model_fields, CONFIG], 1, cutoff=0.5)
        hint = f"do you mean {near[0]}?" if near else f"accepted: {', '.join(Settings.model_fields)}"
        return f"{place}: there is no such setting; {hint}"
    value = "" if name == "api_keys" else f"{fault['input']!r}: "
    return f"{place}: {value}{fault['msg'].removeprefix('Value error, ')}"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting that is not secret. The parsed result has only the flags of the command line."""
    parser.add_argument(f"--{CONFIG}", metavar="FILE", default=argparse.SUPPRESS, help="settings in TOML")
    for name, field in Settings.model_fields.items():
        if not field.exclude:
            default = "" if field.default in (None, ()) else f" (default: {_switch(field.default)})"
            text = f"{field.description}{default}".replace("%", "%%")
            parser.add_argument(f"--{name.replace('_', '-')}", metavar=name.split("_")[-1].upper(),
                                default=argparse.SUPPRESS, help=text)


def _switch(value: Any) -> Any:
    return ("off", "on")[value] if isinstance(value, bool) else value
