"""Whether the disk has room for writes; without it only what protects people is taken (decision record 0012)."""

from collections.abc import Callable, Sequence

from ehr.errors import NoRoom
from ehr.scopes import WriteScope
from ehr.store.operations import WriteOperation

HasRoom = Callable[[], bool]
_MOST_BYTES = 64 * 1024
"""A Consent is some kilobytes; the reserve is not there for attachments."""


def always() -> bool:
    """Room whose end is told by PostgreSQL alone."""
    return True


def require_room(has_room: HasRoom) -> None:
    """Refuse where there is none.

    Raises:
        NoRoom: the disk is nearly full.
    """
    if not has_room():
        raise NoRoom(
            "The disk of the record is nearly full: nothing is written until there is room again. Reading goes on; "
            "the operator finds the place by `kanglian doctor`."
        )


def protects_people(scope: WriteScope, operations: Sequence[WriteOperation]) -> bool:
    """Whether these writes are taken from the reserve: small Consents, and what the platform writes about an emergency.

    A withdrawal must close access, and an opened emergency must be told, on a full disk too.
    """
    if scope.actor == "internal:break-glass":
        return True
    consents = all(each.resource_type == "Consent" and (each.body or each.method == "delete") for each in operations)
    return bool(operations) and consents and sum(len(each.body or b"") for each in operations) <= _MOST_BYTES
