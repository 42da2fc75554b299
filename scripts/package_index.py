"""Tell uv which package index pip would use: prints shell assignments from pip's settings and environment.

uv reads neither pip.conf nor PIP_* variables. What uv itself was told (UV_*) is left as it is.
"""

import ast
import os
import shlex
import subprocess
import sys
from pathlib import Path

_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "no-index": "UV_NO_INDEX",
}
_RANK = {"global": 0, "install": 1, ":env:": 2}


def pip_settings(listing: str) -> dict[str, str]:
    """Read `pip config list`: one `section.key='value'` a line; the environment wins over [install] over [global]."""
    found: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        name, separator, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if not separator or section not in _RANK or key not in _NAMES:
            continue
        rank = _RANK[section]
        if key not in found or rank >= found[key][0]:
            found[key] = (rank, str(ast.literal_eval(value)))
    return {key: value for key, (_, value) in found.items()}


def assignments(settings: dict[str, str], environment: dict[str, str]) -> dict[str, str]:
    """The variables to set for uv; a variable that the environment already has is not touched."""
    result = {}
    for key, value in settings.items():
        name = _NAMES[key]
        taken = {name, "UV_INDEX_URL"} if key == "index-url" else {name, name.lower()}
        if not taken & environment.keys() and (text := _as_uv_reads_it(key, value)):
            result[name] = text
    return result


def _as_uv_reads_it(key: str, value: str) -> str:
    if key == "find-links":
        # uv ends with an error for a folder that pip would pass over in silence
        return ",".join(place for place in value.split() if "://" in place or Path(place).is_dir())
    return " ".join(value.split())


def main() -> None:
    """Print `export NAME=value` lines."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    for name, value in assignments(pip_settings(listing), dict(os.environ)).items():
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
