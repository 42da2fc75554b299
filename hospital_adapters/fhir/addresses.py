"""Files of an import from addresses that the operator allows, fetched whole before their first line is read.

https://www.rfc-editor.org/rfc/rfc9110
"""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import httpx

from ehr.bulk.import_request import is_allowed
from ehr.errors import Invalid, TooCostly, Unavailable

_TIMEOUT_S = 60.0
_ATTEMPTS = 4
_PAUSE_S = 1.0
MOST_BYTES = 64 * 1024**3
_PIECE_BYTES = 1024 * 1024


async def fetched(address: str, path: Path, allowed: Sequence[str]) -> Path:
    """Fetch the file, unless an earlier attempt did; redirects are not followed.

    Raises:
        Invalid: the address is not allowed, or does not give the file.
        TooCostly: the file is over 64 GiB.
    """
    if await asyncio.to_thread(path.exists):
        return path
    if not is_allowed(address, allowed):
        raise Invalid("Files are fetched from the addresses of KANGLIAN_IMPORT_ADDRESSES only.")
    partial = path.with_suffix(".part")
    for attempt in range(_ATTEMPTS):
        try:
            await _fetch(address, partial)
            await asyncio.to_thread(partial.replace, path)
        except (httpx.HTTPError, Unavailable) as error:
            if attempt + 1 == _ATTEMPTS:
                raise Invalid(f"The file could not be fetched: {type(error).__name__}.") from error
            await asyncio.sleep(_PAUSE_S * 2**attempt)
        else:
            break
    return path


async def _fetch(address: str, path: Path) -> None:
    size = 0
    async with (
        httpx.AsyncClient(follow_redirects=False, timeout=_TIMEOUT_S, trust_env=False) as client,
        client.stream("GET", address, headers={"accept": "application/fhir+ndjson"}) as answer,
    ):
        if answer.status_code >= 500:
            raise Unavailable(f"The address answers {answer.status_code}.")
        if answer.status_code != 200:
            raise Invalid(f"The address answers {answer.status_code}.")
        with path.open("wb") as file:
            async for piece in answer.aiter_bytes(_PIECE_BYTES):
                size += len(piece)
                if size > MOST_BYTES:
                    raise TooCostly(f"The file is over {MOST_BYTES} bytes.")
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
