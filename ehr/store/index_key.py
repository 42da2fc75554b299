"""The secret index key: a file outside the database, without which index terms and people digests say nothing."""

import os
import secrets
from pathlib import Path

from ehr.errors import Unavailable

_LENGTH = 32


def load_index_key(path: Path) -> bytes:
    """The 32 bytes of the file; a missing file is made first (mode 0600), once, whoever starts together.

    Raises:
        Unavailable: the file is there but is not a key.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_LENGTH))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # fails where another process was first: its key holds
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    key = path.read_bytes()
    if len(key) != _LENGTH:
        raise Unavailable(f"{path} is not an index key of {_LENGTH} bytes; restore it from the backup of keys.")
    return key
