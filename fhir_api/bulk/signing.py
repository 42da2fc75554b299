"""Signed addresses of files: bound to the job, the file, the client and the end of their time."""

import hashlib
import hmac
from urllib.parse import urlencode

from ehr.bulk.jobs import BulkJob


def signed_query(key: bytes, bulk: BulkJob, name: str) -> str:
    """The query of a file's address."""
    expires = (bulk.expires_at_us or 0) // 1_000_000
    return urlencode({"expires": expires, "signature": _signature(key, bulk, name, expires)})


def holds(key: bytes, bulk: BulkJob, name: str, given: dict[str, str]) -> bool:
    """Whether a query signs this file of this job."""
    expires = (bulk.expires_at_us or 0) // 1_000_000
    expected = _signature(key, bulk, name, expires)
    return given.get("expires") == str(expires) and hmac.compare_digest(
        expected.encode(), given.get("signature", "").encode("utf-8", "replace")
    )


def _signature(key: bytes, bulk: BulkJob, name: str, expires: int) -> str:
    text = "\x1f".join(("bulk file", bulk.id, name, str(bulk.caller["client"]), str(expires)))
    own = hashlib.blake2b(key, digest_size=32, person=b"bulk files").digest()
    return hmac.new(own, text.encode(), hashlib.sha256).hexdigest()
