"""`kanglian import`: load FHIR files into the record of a running platform, for migration."""

import argparse
import asyncio
import sys
import time
from pathlib import Path

from ehr.errors import KanglianError
from kanglian.commands.database import database_url
from kanglian.settings import Settings

NAME = "import"
HELP = "load FHIR Bundles and NDJSON files (gzip too) as the loader; bad entries are listed, the good ones go in"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--custodian", help="organisation whose rows these become (default: platform)")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Load the files; 1 where an entry was refused."""
    return asyncio.run(_run(arguments.files, arguments.custodian, settings))


async def _run(paths: list[Path], custodian: str | None, settings: Settings) -> int:
    from hospital_adapters.fhir.files import read_entries
    from kanglian.loading import Loading
    from kanglian.wiring import record

    started = time.monotonic()
    async with record(settings, database_url(settings)) as opened:
        loading = Loading(opened.store, opened.consent, custodian)
        for path in paths:
            try:
                for entry in read_entries(path):
                    await loading.take(path.name, entry)
                    print(f"\r{path.name}: {loading.resources} resources", end="", file=sys.stderr, flush=True)
            except KanglianError as error:  # the rest of this file is out, the other files are not
                loading.refusals.append(f"{path.name}: {error}")
        await loading.finish()
    print(file=sys.stderr)
    for refusal in loading.refusals:
        print(refusal, file=sys.stderr)
    seconds = time.monotonic() - started
    print(f"{loading.resources} resources in {seconds:.1f} s, {len(loading.refusals)} entries refused", file=sys.stderr)
    return 1 if loading.refusals else 0
