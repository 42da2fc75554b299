"""Seconds from `make run` to the ready line: cold, warm, and warm at once after a kill -9 of all but PostgreSQL.

Cold is a fresh clone with an empty package cache, and the demo is loaded.

    .venv/bin/python benchmarks/start_times.py [--residents 200]

Budgets: 180 s cold, 8 s warm.
"""

import argparse
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from calibration import free_port

_CHECKOUT = Path(__file__).resolve().parents[1]


def start(clone: Path, environment: dict[str, str], end: signal.Signals = signal.SIGINT) -> float:
    """Seconds to the ready line; the platform is ended, with Ctrl-C, and must end within 30 s."""
    begun = time.monotonic()
    process = subprocess.Popen(
        ["make", "--no-print-directory", "run"],
        cwd=clone,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("kanglian ready"):
            break
    else:
        raise SystemExit("the platform did not start")
    seconds = time.monotonic() - begun
    os.killpg(process.pid, end)
    process.wait(30)
    return seconds


def main() -> None:
    """Clone, start cold, start warm three times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--residents", default="200")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kanglian-start-") as folder:
        clone = Path(folder) / "clone"
        Path(folder).chmod(0o711)  # as root, PostgreSQL's own user passes through
        subprocess.run(["git", "clone", "--quiet", str(_CHECKOUT), str(clone)], check=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KANGLIAN_")}
        environment = kept | {
            "UV_CACHE_DIR": str(Path(folder) / "cache"),
            "KANGLIAN_PORT": str(free_port()),
            "KANGLIAN_MLLP_PORT": str(free_port()),
            "KANGLIAN_DEMO_RESIDENTS": arguments.residents,
        }
        print(f"cold: {start(clone, environment):6.1f} s (budget 180)", flush=True)
        for _ in range(3):
            print(f"warm: {start(clone, environment):6.1f} s (budget 8)", flush=True)
        for _ in range(3):
            start(clone, environment, signal.SIGKILL)
            print(f"warm, after kill -9: {start(clone, environment):6.1f} s (budget 8)", flush=True)
        subprocess.run(["make", "reset"], cwd=clone, env=environment, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
