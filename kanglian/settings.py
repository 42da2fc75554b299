"""All settings of the platform: environment variables `KANGLIAN_*`, read here and nowhere else (docs/settings.md)."""

import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from ehr.errors import KanglianError

_BROKERS = {
    "amqp": "amqp", "amqps": "amqps", "redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss",
}  # fmt: skip
"""Schemes of a broker's address, and what Celery calls them: Valkey speaks the protocol of Redis."""
PRESETS = ("cn-county", "cn-strict")
_CHECKOUT = Path(__file__).resolve().parent.parent


class SettingsError(KanglianError):
    """One issue for each setting that is wrong; the text names the variable and says what it takes."""

    code = "value"


@dataclass(frozen=True)
class Settings:
    """What the environment says, checked; `Settings.read()` makes one."""

    host: str = "127.0.0.1"
    port: int = 8000
    given_base_url: str | None = None
    mllp_port: int = 2575
    data_dir: Path = _CHECKOUT / ".data"
    database_url: str | None = None
    oidc_issuer: str | None = None
    given_policy: str | None = None
    timezone: str = "Asia/Shanghai"
    given_workers: int | None = None
    feeds_dir: Path | None = None
    demo_residents: int = 200
    ballast_mib: int = 256
    broker_url: str | None = None
    import_addresses: tuple[str, ...] = ()
    cors_origins: frozenset[str] = frozenset()

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read and check the environment; an empty variable counts as not set.

        Raises:
            SettingsError: with every wrong setting at once.
        """
        given = {name: value for name, value in (os.environ if environment is None else environment).items() if value}
        values: dict[str, Any] = {}
        wrong = []
        for name, (field, parse) in VARIABLES.items():
            if name in given:
                try:
                    values[field] = parse(given[name].strip())
                except ValueError as error:
                    wrong.append(f"{name}={given[name]!r}: {error}")
        if wrong:
            raise SettingsError(*wrong)
        return cls(**values)

    @property
    def embedded_default(self) -> bool:
        """No database, no issuer configured, and reachable from this machine only: demo accounts are allowed."""
        return self.database_url is None and self.oidc_issuer is None and is_loopback(self.host)

    @property
    def base_url(self) -> str:
        """How clients reach the platform, without a closing slash: links, issuer and audience start with it."""
        if self.given_base_url is not None:
            return self.given_base_url
        host = self.reachable_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def reachable_host(self) -> str:
        """How this machine itself reaches what listens on `host`."""
        return "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104 - compared, not bound

    @property
    def policy(self) -> str:
        """The preset where a person has no consent: as set, else cn-county in the embedded default, else cn-strict."""
        return self.given_policy or ("cn-county" if self.embedded_default else "cn-strict")

    @cached_property
    def workers(self) -> int:
        """HTTP processes: as set, else one for each two processors, PostgreSQL having the other."""
        return self.given_workers or max(1, len(os.sched_getaffinity(0)) // 2)

    @property
    def feeds_folder(self) -> Path:
        """The folder of the feeds' YAML files."""
        return self.feeds_dir or self.data_dir / "feeds"

    def check_serving(self) -> None:
        """Refuse a combination that would leave nobody able to sign in, or demo accounts within others' reach."""
        if not self.embedded_default and self.oidc_issuer is None:
            cause = (
                "KANGLIAN_DATABASE_URL is set" if self.database_url else f"KANGLIAN_HOST={self.host} is not loopback"
            )
            raise SettingsError(
                f"{cause}, so the demo accounts are off: set KANGLIAN_OIDC_ISSUER to the address of your OpenID "
                "Connect issuer, for example https://sso.example.cn/realms/kanglian"
            )

    def check_broker(self) -> None:
        """Refuse to run a part that only talks to a broker where none is named."""
        if self.broker_url is None:
            raise SettingsError(
                "set KANGLIAN_BROKER_URL to the address of RabbitMQ, Redis or Valkey, for example "
                "redis://127.0.0.1:6379/0; without it `kanglian serve` does bulk jobs by itself"
            )


def unknown_variables(environment: Mapping[str, str] | None = None) -> list[str]:
    """Names that look like settings and are none: a misspelling, most likely."""
    names = os.environ if environment is None else environment
    known = VARIABLES.keys() | OTHER_VARIABLES
    return sorted(name for name in names if name.startswith("KANGLIAN_") and name not in known)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def _host(text: str) -> str:
    if not text or any(sign in text for sign in "/ @") or (":" in text.strip("[]") and not _is_ip(text)):
        raise ValueError("an IP address or host name, without port")
    return text.strip("[]")


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def _web_address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("an http or https address without query")
    return text.rstrip("/")


def _origins(text: str) -> frozenset[str]:
    if text == "*":
        return frozenset({"*"})
    origins = frozenset(text.replace(",", " ").split())
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}" or not parts.hostname:
            raise ValueError("origins such as https://app.example.cn, separated by commas, or *")
    return origins


def _web_addresses(text: str) -> tuple[str, ...]:
    return tuple(_web_address(each.strip()) for each in text.split(",") if each.strip())


def _issuer(text: str) -> str:
    address = _web_address(text)
    parts = urlsplit(address)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise ValueError("https is needed, except on loopback: sign-in keys come from there")
    return text if text.endswith("/") else address


def _database_url(text: str) -> str:
    if urlsplit(text).scheme not in ("postgresql", "postgres"):
        raise ValueError("an address of PostgreSQL 15 or later, postgresql://user:password@host:5432/database")
    return text


def _broker_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in _BROKERS or not parts.hostname:
        raise ValueError("an address of RabbitMQ, Redis or Valkey: amqp://, redis:// or valkey://host:port")
    return _BROKERS[parts.scheme] + text[len(parts.scheme) :]


def _policy(text: str) -> str:
    if text not in PRESETS:
        raise ValueError(f"one of {', '.join(PRESETS)}")
    return text


def _timezone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (KeyError, OSError, ValueError) as error:
        raise ValueError("a name of the time zone database, such as Asia/Shanghai") from error
    return text


def _folder(text: str) -> Path:
    return Path(text).expanduser().absolute()


VARIABLES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "KANGLIAN_HOST": ("host", _host),
    "KANGLIAN_PORT": ("port", _whole_number(1, 65_535)),
    "KANGLIAN_BASE_URL": ("given_base_url", _web_address),
    "KANGLIAN_MLLP_PORT": ("mllp_port", _whole_number(1, 65_535)),
    "KANGLIAN_DATA_DIR": ("data_dir", _folder),
    "KANGLIAN_DATABASE_URL": ("database_url", _database_url),
    "KANGLIAN_OIDC_ISSUER": ("oidc_issuer", _issuer),
    "KANGLIAN_POLICY": ("given_policy", _policy),
    "KANGLIAN_TIMEZONE": ("timezone", _timezone),
    "KANGLIAN_WORKERS": ("given_workers", _whole_number(1, 256)),
    "KANGLIAN_FEEDS_DIR": ("feeds_dir", _folder),
    "KANGLIAN_DEMO_RESIDENTS": ("demo_residents", _whole_number(0, 100_000)),
    "KANGLIAN_BROKER_URL": ("broker_url", _broker_url),
    "KANGLIAN_IMPORT_ADDRESSES": ("import_addresses", _web_addresses),
    "KANGLIAN_BALLAST_MIB": ("ballast_mib", _whole_number(0, 65_536)),
    "KANGLIAN_CORS_ORIGINS": ("cors_origins", _origins),
}
"""Each variable: the field it sets and the function that checks it."""

OTHER_VARIABLES = frozenset({"KANGLIAN_SHARED_DATA"}) | {
    f"KANGLIAN_TEST_{name}" for name in ("ALL", "DATABASE_URL", "PRESET", "REQUESTS", "SEED")
}
"""Read by tests and benchmarks only."""
