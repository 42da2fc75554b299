"""Feeds: what a hospital sends, how to read it and whose records it makes; one YAML file a feed.

    feed: first-hospital            # name, also the file's stem
    organisation: first-hospital    # custodian of every record, prefix of every id
    kind: hl7v2                     # hl7v2, csv or fhir
    timezone: Asia/Shanghai         # of time stamps without a zone
    port: 2576                      # hl7v2: where this hospital's messages arrive, else KANGLIAN_MLLP_PORT
    code_maps:                      # local codes, by map name
      PID-8: {男: male}

A csv feed adds the keys that `hospital_adapters.csv.layout` describes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import yaml

from ehr.errors import Invalid

_SHANGHAI = ZoneInfo("Asia/Shanghai")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")


@dataclass(frozen=True, slots=True)
class Feed:
    """One feed; `settings` is the whole file for the adapter of its kind."""

    name: str
    organisation: str
    kind: Literal["hl7v2", "csv", "fhir"]
    timezone: ZoneInfo = _SHANGHAI
    port: int | None = None
    """Where messages of HL7 v2 arrive; None: on the platform's own MLLP port."""
    code_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def read_feed(path: Path) -> Feed:
    """Read one feed file; `Invalid` names the file and the key that is wrong.

    A file that was not written since is not parsed again: the worker asks before each batch of messages.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise Invalid(f"{path}: not a readable YAML file: {error}") from error
    return _written_feed(path, (status.st_mtime_ns, status.st_size, status.st_ino))


@lru_cache(maxsize=256)
def _written_feed(path: Path, _written: tuple[int, int, int]) -> Feed:
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Invalid(f"{path}: not a readable YAML file: {error}") from error
    if not isinstance(settings, dict):
        raise Invalid(f"{path}: a feed file is a YAML mapping")
    name, organisation, kind = (settings.get(key) for key in ("feed", "organisation", "kind"))
    for key, value in (("feed", name), ("organisation", organisation)):
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise Invalid(f"{path}: '{key}' must be lower-case letters, digits and hyphens, at most 41")
    if kind not in ("hl7v2", "csv", "fhir"):
        raise Invalid(f"{path}: 'kind' must be hl7v2, csv or fhir")
    return Feed(
        name=str(name),
        organisation=str(organisation),
        kind=kind,
        timezone=_timezone(path, settings.get("timezone", "Asia/Shanghai")),
        port=_port(path, settings.get("port"), kind),
        code_maps=_code_maps(path, settings.get("code_maps", {})),
        settings=settings,
    )


def read_feeds(folder: Path) -> dict[str, Feed]:
    """Read all `*.yaml` of a folder, by feed name; `Invalid` where two files name the same feed."""
    feeds: dict[str, Feed] = {}
    for path in sorted(folder.glob("*.yaml")):
        feed = read_feed(path)
        if feed.name in feeds:
            raise Invalid(f"{path}: feed '{feed.name}' is described by two files")
        feeds[feed.name] = feed
    return feeds


def listening(feeds: Mapping[str, Feed], default_port: int) -> dict[int, Feed]:
    """The HL7 v2 feeds by the port on which their messages arrive; `Invalid` where two would share one."""
    found: dict[int, Feed] = {}
    for feed in feeds.values():
        if feed.kind != "hl7v2":
            continue
        port = feed.port or default_port
        if port in found:
            raise Invalid(
                f"the feeds '{found[port].name}' and '{feed.name}' would both listen on port {port}: give one of "
                "their files a 'port' of its own, since the port says whose messages arrive"
            )
        found[port] = feed
    return found


def _port(path: Path, port: object, kind: str) -> int | None:
    if port is None:
        return None
    if kind != "hl7v2" or not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65_535:
        raise Invalid(f"{path}: 'port' is a TCP port from 1 to 65535, for feeds of kind hl7v2")
    return port


def _timezone(path: Path, name: object) -> ZoneInfo:
    try:
        return ZoneInfo(str(name))
    except (KeyError, ValueError, OSError) as error:
        raise Invalid(f"{path}: unknown timezone '{name}'") from error


def _code_maps(path: Path, maps: object) -> dict[str, dict[str, str]]:
    if not isinstance(maps, dict) or not all(isinstance(m, dict) for m in maps.values()):
        raise Invalid(f"{path}: 'code_maps' is a mapping of mappings from local code to target code")
    return {str(name): {str(k): str(v) for k, v in m.items()} for name, m in maps.items()}
