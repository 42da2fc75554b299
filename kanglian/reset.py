"""`make reset`: forget the data of a data directory, keys, cluster and feeds included."""

import shutil
import sys

from ehr.errors import KanglianError
from kanglian.embedded_place import forget, system_home
from kanglian.embedded_processes import end_all
from kanglian.ownership import is_owned, read_owner
from kanglian.settings import Settings

_OURS = (
    "postgres",
    "postgres.id",
    "programs",
    "keys",
    "feeds",
    "analytics",
    "demo-accounts.json",
    "demo-loaded",
    "demo-day",
    "serve.lock",
    "audit-head.json",
)


def reset(settings: Settings) -> None:
    """Remove what the platform keeps; refuse while it runs; leave files that are not ours."""
    data_dir = settings.data_dir.resolve()
    if is_owned(data_dir):
        raise KanglianError(f"the platform runs (process {read_owner(data_dir).get('pid')}): end it first with Ctrl-C")
    for home in (data_dir / "postgres", system_home(data_dir)):
        end_all(home / "cluster")
    forget(data_dir)
    for name in _OURS:
        path = data_dir / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if data_dir.is_dir() and not any(data_dir.iterdir()):
        data_dir.rmdir()


def main() -> int:
    """Reset and say so; a configured database is not touched."""
    settings = Settings.read()
    try:
        reset(settings)
    except (KanglianError, OSError) as error:
        print(f"make reset: {error}", file=sys.stderr)
        return 1
    print(f"forgotten: {settings.data_dir}")
    if settings.database_url:
        print("KANGLIAN_DATABASE_URL is set: that database was left as it is")
    return 0


if __name__ == "__main__":
    sys.exit(main())
