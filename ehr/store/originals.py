"""Original messages read as Binary: served from the inbox, where they lie anyway, to their custodian alone.

The Binary of a message has the id of the Provenance of its conversion, and is read by whoever sees that Provenance and
belongs to the custodian (decision record 0011). There is no row of its own: no search, history or write meets it.

https://hl7.org/fhir/R4/binary.html
"""

import base64
import re

import asyncpg

from ehr import json_text
from ehr.definitions import type_number
from ehr.keys import organisation_key, row_key
from ehr.row_filter import NOTHING, CustodianIn, RowFilter, RowRule, all_of
from ehr.scopes import ReadScope
from ehr.store.clock import as_fhir_instant
from ehr.store.operations import StoredVersion
from ehr.store.reads import Reader
from ehr.store.scope_sql import FilterCache, RenderedFilter

_DIGEST_BYTES = 10
_ID = re.compile(r"[A-Za-z0-9.-]+\.m[0-9a-f]{20}")
# what the inbox calls the kinds of messages; all others are HL7 v2
_CONTENT_TYPES = ("x-application/hl7-v2+er7", "application/json", "application/fhir+json")

# r: the Provenance's persons, labels and custodian under the type that the token's scopes must hold, Binary, where the
# caller's predicate is applied. Terms are left out: a scope narrowed by a search parameter opens no original.
_FOUND = f"""
  select a.n, 1 as version, r.received_at as last_updated, false as deleted, r.body, r.dictionary, r.holder, r.others,
    r.custodian, r.labels
  from asked a join lateral (
    select p.key, p.id, {type_number("Binary")}::smallint as type, p.holder, p.others, p.custodian, p.labels, p."class",
      array[]::bigint[] as terms, null::bigint as at, i.received_at, i.body,
      (case i.message_type when 'csv-row' then 1 when 'fhir' then 2 else 0 end)::smallint as dictionary
    from resource p join inbox i on substr(i.content, 1, {_DIGEST_BYTES}) = decode(right(a.id, 20), 'hex')
      and i.custodian = left(a.id, -22)
    where p.key = a.key and p.id = a.id and (p.key is not null) and not p.deleted order by i.inbox limit 1
  ) r on true where a.scope = {{scope}} and {{predicate}}"""


def original_id(organisation: str, content: bytes) -> str:
    """The id of a message's Binary and of its Provenance; `content` is the message's SHA-256."""
    return f"{organisation}.m{content[:_DIGEST_BYTES].hex()}"


def is_original(resource_type: str, resource_id: str) -> bool:
    """Whether this names the original of a message: such Binaries are nobody's to write."""
    return resource_type == "Binary" and _ID.fullmatch(resource_id) is not None


class OriginalReader(Reader):
    """Serves originals as `Reader` serves rows: one statement with scope and audit, hidden and absent alike."""

    found = _FOUND

    def __init__(self, pool: asyncpg.Pool) -> None:
        """Take the pool of connections for keyed statements."""
        super().__init__(pool)
        self._filters = _CustodianFilters("r")

    def key_of(self, resource_type: str, resource_id: str) -> int:  # noqa: ARG002 - the reader's signature
        """The key of the Provenance, whose persons and labels are the original's."""
        return row_key("Provenance", resource_id)

    def version_of(self, row: asyncpg.Record, resource_type: str, resource_id: str, key: int) -> StoredVersion:
        """The Binary around the bytes as received."""
        binary = {
            "resourceType": resource_type,
            "id": resource_id,
            "meta": {"versionId": "1", "lastUpdated": as_fhir_instant(row["last_updated"])},
            "contentType": _CONTENT_TYPES[row["dictionary"]],
            "securityContext": {"reference": f"Provenance/{resource_id}"},
            "data": base64.b64encode(row["body"]).decode(),
        }
        return StoredVersion(
            resource_type,
            resource_id,
            1,
            row["last_updated"],
            deleted=False,
            body=json_text.encode(binary),
            key=key,
            holder=row["holder"],
            others=tuple(row["others"] or ()),
            custodian=row["custodian"],
            labels=row["labels"],
        )


class _CustodianFilters(FilterCache):
    """Scopes narrowed to the rows that the caller's own organisation keeps; who sees all rows is not narrowed."""

    def render(self, scope: ReadScope) -> RenderedFilter:
        """The scope's predicate, and the custodian's."""
        return RenderedFilter(_kept_by_the_callers(scope), self.aliases)


def _kept_by_the_callers(scope: ReadScope) -> RowFilter:
    if scope.shape == "all":
        return scope.row_filter
    own: RowRule = NOTHING
    if scope.organisation is not None:
        own = CustodianIn(frozenset({organisation_key(scope.organisation)}))
    return all_of(scope.row_filter, own)  # type: ignore[arg-type]  # a scope's filter is a rule
