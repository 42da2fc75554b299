"""The subcommands of `kanglian`: each module has NAME, HELP, `add_arguments(parser)` and `run(arguments, settings)`."""

import argparse
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from kanglian.commands import (
    adapter,
    analytics,
    audit,
    beat,
    consent,
    demo,
    doctor,
    get,
    import_,
    people,
    serve,
    token,
    worker,
)
from kanglian.settings import Settings


class Command(Protocol):
    """What a module of this package offers."""

    NAME: str
    HELP: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Settings], int]


ALL: Sequence[Command] = tuple(
    cast("Command", module)
    for module in (serve, worker, beat, demo, get, token, import_, adapter, consent, people, audit, analytics, doctor)
)
