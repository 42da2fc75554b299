"""Deterministic resource ids: the same source record has the same id, however often and in whatever order it comes."""

import hashlib


def resource_id(organisation: str, resource_type: str, *keys: str) -> str:
    """The id of a source record: `<organisation>.<22 hexadecimal digits>`, at most 64 characters in all.

    `keys` are what identifies the record within the hospital (a record number, an order number with a set id), never
    the message that carried it.
    """
    text = "\x1f".join((organisation, resource_type, *keys))
    return f"{organisation}.{hashlib.blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=11).hexdigest()}"
