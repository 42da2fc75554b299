"""Stateless 64-bit keys of rows, organisations and index terms.

A row's key is a hash of "Type/id", so references resolve to keys without a look-up and a Patient that is named before
it arrives already has its holder number. Index terms are keyed with a secret that lies outside the database, so that
the database alone does not reveal identifying values (decision record 0003).
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from os import urandom


def _signed(digest: bytes) -> int:
    return int.from_bytes(digest, "big", signed=True)


def new_resource_id() -> str:
    """A random UUID (RFC 9562, version 4) for a resource whose id the server makes."""
    digits = urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


@lru_cache(maxsize=16_384)
def row_key(resource_type: str, resource_id: str) -> int:
    """The primary key of the row `Type/id`: a signed 64-bit hash, never 0."""
    return _signed(hashlib.blake2b(f"{resource_type}/{resource_id}".encode(), digest_size=8).digest()) or 1


@lru_cache(maxsize=65_536)
def organisation_key(organisation_id: str) -> int:
    """The number by which rows name an organisation (custodian, reach): a signed 64-bit hash, never 0."""
    return _signed(hashlib.blake2b(organisation_id.encode(), digest_size=8, person=b"organisation").digest()) or 1


@lru_cache(maxsize=65_536)
def parameter_number(resource_type: str, code: str) -> int:
    """The signed 32-bit number of a search parameter in the typed index tables."""
    return _signed(hashlib.blake2b(f"{resource_type}.{code}".encode(), digest_size=4).digest())


def canonical_number(resource_type: str, code: str) -> int:
    """The number under which a quantity parameter's values stand in base units of UCUM."""
    return parameter_number(resource_type, f"{code}:canonical")


class TermHasher:
    """Hashes (type, parameter, kind, value) to the signed 64-bit terms of `resource.terms`.

    kinds: "token" ("system|code", "|code" = code without system, "system|" = any code of it, "code" = code whatever its
    system; the last alone where values have no system of their own, `ehr.indexing.same_tokens`), "of-type"
    ("system|code|value" of an Identifier that has a type), "prefix" (first n characters, n <= 16, of a normalised
    string, or of a Chinese name's pinyin), "exact" (the string as it is), "gram" (character trigrams), "han" (a
    character of a Chinese name, simplified), "uri", "present" (value ""), "identifier" ("system|value" of a
    Reference.identifier, or "|value", and "value"), "text" (beginnings, of the lengths `ehr.indexing.text_prefix`
    knows, of CodeableConcept.text, Coding.display and Identifier.type.text, normalised), "unit" (the base units of a
    quantity, `ehr.indexing.ucum`).
    References: `reference(...)` = row key of the target XOR a salt of the parameter, so that SQL can go from a
    target row to the term (`row.key # salt`) and back.
    """

    def __init__(self, index_key: bytes) -> None:
        """Take the secret index key, 16 to 64 bytes."""
        self._key = index_key
        self._salt = lru_cache(maxsize=65_536)(self._reference_salt)

    def term(self, resource_type: str, code: str, kind: str, value: str) -> int:
        """The term of one value of one search parameter."""
        text = f"{resource_type}\x1f{code}\x1f{kind}\x1f{value}".encode("utf-8", "surrogatepass")
        return _signed(hashlib.blake2b(text, digest_size=8, key=self._key).digest())

    def terms_of(self, resource_type: str, code: str) -> Callable[[str, str], int]:
        """`term` of one search parameter as a function (kind, value); a third quicker where many are made."""
        start = hashlib.blake2b(f"{resource_type}\x1f{code}\x1f".encode(), digest_size=8, key=self._key)

        def term(kind: str, value: str) -> int:
            hashed = start.copy()
            hashed.update(f"{kind}\x1f{value}".encode("utf-8", "surrogatepass"))
            return _signed(hashed.digest())

        return term

    def reference_salt(self, resource_type: str, code: str) -> int:
        """The number that, XORed with a target row's key, gives the reference term."""
        return self._salt(resource_type, code)

    def _reference_salt(self, resource_type: str, code: str) -> int:
        return self.term(resource_type, code, "reference", "")

    def reference(self, resource_type: str, code: str, target_type: str, target_id: str) -> int:
        """The term of a reference from (type, parameter) to `target_type/target_id`."""
        return row_key(target_type, target_id) ^ self._salt(resource_type, code)

    def digest(self, purpose: str, value: str) -> bytes:
        """A 16-byte keyed hash of an identifying value (identity numbers in the people tables)."""
        return hashlib.blake2b(f"{purpose}\x1f{value}".encode(), digest_size=16, key=self._key).digest()
