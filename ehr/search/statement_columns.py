"""The columns of a row that an answer needs."""

COLUMNS = (
    "key",
    "type",
    "id",
    "version",
    "last_updated",
    "dictionary",
    "body",
    "holder",
    "others",
    "custodian",
    "labels",
)


def columns_of(alias: str) -> str:
    """The select list of an alias."""
    return ", ".join(f"{alias}.{column}" for column in COLUMNS)
