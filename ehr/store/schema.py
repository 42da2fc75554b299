"""All tables of the platform (SQLAlchemy Core); Alembic migrations in `ehr/store/migrations` follow it.

Layout and reasons: decision records 0002 (store) and 0003 (keys). Row keys are `ehr.keys.row_key`, persons and holders
are row keys of Patients, organisations are `ehr.keys.organisation_key`.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSON, JSONB
from sqlalchemy.types import UserDefinedType

metadata = sa.MetaData()


class TransactionId(UserDefinedType[int]):
    """PostgreSQL's xid8: the 64-bit number of the transaction that wrote the row."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Name the type for DDL."""
        return "xid8"


def _access_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("holder", sa.BigInteger, nullable=False),
        sa.Column("others", ARRAY(sa.BigInteger)),
        sa.Column("custodian", sa.BigInteger, nullable=False),
        sa.Column("labels", sa.BigInteger, nullable=False),
        sa.Column("class", sa.Integer, nullable=False),
    ]


resource = sa.Table(
    "resource",
    metadata,
    sa.Column("key", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("last_updated", sa.BigInteger, nullable=False, comment="microseconds since 1970 UTC"),
    *_access_columns()[:1],
    *_access_columns()[2:4],
    sa.Column("until", sa.BigInteger, comment="end of the main date where a resource has one at most"),
    sa.Column("at", sa.BigInteger, comment="main clinical date, microseconds since 1970 UTC"),
    sa.Column("version", sa.Integer, nullable=False),
    _access_columns()[4],
    sa.Column("type", sa.SmallInteger, nullable=False, comment="ehr.definitions.type_number"),
    sa.Column("dictionary", sa.SmallInteger, nullable=False, comment="compression dictionary, 0 = none"),
    sa.Column("deleted", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("id", sa.Text(collation="C"), nullable=False),
    sa.Column("body", BYTEA, comment="zstd of the JSON as it is served; null when deleted"),
    sa.Column("terms", ARRAY(sa.BigInteger), nullable=False),
    _access_columns()[1],
    sa.Column("last_version", sa.Integer, nullable=False, comment="highest version number given, history included"),
    sa.Column("order_key", sa.Text(collation="C"), comment="ehr.store.operations.OrderKey of the message, DESIGN 4.7"),
    sa.Index("resource_terms", "terms", postgresql_using="gin"),
    sa.Index("resource_holder", "holder", "type", "at"),
    sa.Index("resource_at", "type", "at"),
    # main dates longer than a day, which start before a day and end behind it (ehr.search.date)
    sa.Index("resource_long", "type", "until", postgresql_where=sa.text("until > at + 86400000000")),
    sa.Index("resource_updated", "type", "last_updated", "key"),
    sa.Index("resource_others", "others", postgresql_using="gin", postgresql_where=sa.text("others is not null")),
)

implied_term = sa.Table(
    "implied_term",
    metadata,
    sa.Column("implied", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("term", sa.BigInteger, primary_key=True, autoincrement=False),
    comment="A row that stores `term` is found by `implied`, too (ehr.indexing.implied)",
)

resource_history = sa.Table(
    "resource_history",
    metadata,
    sa.Column("key", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("last_updated", sa.BigInteger, nullable=False),
    *_access_columns(),
    sa.Column("at", sa.BigInteger),
    sa.Column("type", sa.SmallInteger, nullable=False),
    sa.Column("dictionary", sa.SmallInteger, nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False),
    sa.Column("id", sa.Text(collation="C"), nullable=False),
    sa.Column("body", BYTEA),
    sa.Column("terms", ARRAY(sa.BigInteger), nullable=False),
    sa.Index("resource_history_updated", "type", "last_updated", "key", "version"),
    comment="Versions that are no longer current, and older messages that never were",
)

index_date = sa.Table(
    "index_date",
    metadata,
    sa.Column("key", sa.BigInteger, nullable=False),
    sa.Column("low", sa.BigInteger, nullable=False),
    sa.Column("high", sa.BigInteger, nullable=False),
    sa.Column("parameter", sa.Integer, nullable=False),
    sa.Index("index_date_low", "parameter", "low"),
    sa.Index("index_date_key", "key"),
)

index_number = sa.Table(
    "index_number",
    metadata,
    sa.Column("key", sa.BigInteger, nullable=False),
    sa.Column("parameter", sa.Integer, nullable=False),
    sa.Column("low", sa.Numeric, nullable=False),
    sa.Column("high", sa.Numeric, nullable=False),
    sa.Index("index_number_low", "parameter", "low"),
    sa.Index("index_number_key", "key"),
)

index_quantity = sa.Table(
    "index_quantity",
    metadata,
    sa.Column("key", sa.BigInteger, nullable=False),
    sa.Column("system_code", sa.BigInteger, nullable=False),
    sa.Column("code", sa.BigInteger, nullable=False),
    sa.Column("unit", sa.BigInteger, nullable=False),
    sa.Column("parameter", sa.Integer, nullable=False),
    sa.Column("low", sa.Numeric, nullable=False),
    sa.Column("high", sa.Numeric, nullable=False),
    sa.Index("index_quantity_low", "parameter", "code", "low"),
    sa.Index("index_quantity_key", "key"),
)

change_log = sa.Table(
    "change_log",
    metadata,
    sa.Column("transaction", TransactionId, primary_key=True, server_default=sa.text("pg_current_xact_id()")),
    sa.Column("sequence", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("key", sa.BigInteger, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("type", sa.SmallInteger, nullable=False),
    sa.Column("operation", sa.CHAR(1), nullable=False, comment="c, u, d, l (labels or class changed)"),
    sa.Column("at", sa.BigInteger, nullable=False),
)

policy_state = sa.Table(
    "policy_state",
    metadata,
    sa.Column("only", sa.Boolean, primary_key=True, server_default=sa.true()),
    sa.Column("epoch", sa.BigInteger, nullable=False, comment="raised with policies, roles, organisations"),
    sa.Column("highest_class", sa.Integer, nullable=False),
    comment="One row; compared inside every statement",
)

consent_class = sa.Table(
    "consent_class",
    metadata,
    sa.Column("class", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", BYTEA, nullable=False, unique=True),
    sa.Column("rules", JSONB, nullable=False, comment="normalised consents, immutable; class 0 = no consent"),
)

consent_rule = sa.Table(
    "consent_rule",
    metadata,
    sa.Column("consent", sa.BigInteger, primary_key=True, autoincrement=False, comment="row key of the Consent"),
    sa.Column("holder", sa.BigInteger, nullable=False, index=True),
    sa.Column("consent_id", sa.Text(collation="C"), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("filed", sa.BigInteger, nullable=False, comment="microseconds since 1970 UTC"),
    sa.Column("rules", JSONB, nullable=False, comment="the Consent in force, normalised; classes are made of these"),
)

person = sa.Table(
    "person",
    metadata,
    sa.Column("person", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("class", sa.Integer, nullable=False, server_default="0"),
    sa.Column("reviewed_at", sa.BigInteger, nullable=False, server_default="0", comment="merges after it are not"),
    sa.Column(
        "under_review", sa.Boolean, nullable=False, server_default=sa.false(), comment="merged, the strictest wins"
    ),
    sa.Index("person_class", "class", postgresql_where=sa.text("class <> 0")),
)

holder_person = sa.Table(
    "holder_person",
    metadata,
    sa.Column("holder", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("person", sa.BigInteger, nullable=False, index=True),
    sa.Column(
        "custodian",
        sa.BigInteger,
        nullable=False,
        server_default="0",
        comment="of the source Patient, 0 until it arrives",
    ),
    sa.Column("patient_id", sa.Text(collation="C"), nullable=False),
)

kept_holder = sa.Table(
    "kept_holder",
    metadata,
    sa.Column("custodian", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("holder", sa.BigInteger, primary_key=True, autoincrement=False),
    comment="Of whom each organisation keeps rows, kept by a trigger on `resource`; a pair outlives its last row",
)

identity_claim = sa.Table(
    "identity_claim",
    metadata,
    sa.Column("digest", BYTEA, primary_key=True, comment="keyed hash of identity number, birth date and sex"),
    sa.Column("holder", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Index("identity_claim_holder", "holder"),
)

person_merge = sa.Table(
    "person_merge",
    metadata,
    sa.Column("survivor", sa.BigInteger, primary_key=True, autoincrement=False, comment="holder"),
    sa.Column("retired", sa.BigInteger, primary_key=True, autoincrement=False, comment="holder"),
    sa.Column("at", sa.BigInteger, nullable=False, comment="microseconds since 1970 UTC"),
    sa.Column("source", sa.Text, nullable=False, comment="trace of the A40, or who decided"),
    sa.Index("person_merge_retired", "retired"),
    comment="Links between holders beside the identity claims; an unmerge deletes its row",
)

restamp = sa.Table(
    "restamp",
    metadata,
    sa.Column("person", sa.BigInteger, primary_key=True, autoincrement=False),
    comment="People whose rows still carry an older class than person.class",
)

pending_label = sa.Table(
    "pending_label",
    metadata,
    sa.Column("key", sa.BigInteger, primary_key=True, autoincrement=False, comment="of a row that has not come yet"),
    sa.Column("labels", sa.BigInteger, nullable=False, comment="what an earlier row that refers to it says of it"),
)

label_state = sa.Table(
    "label_state",
    metadata,
    sa.Column("only", sa.Boolean, primary_key=True, server_default=sa.true()),
    sa.Column("sets", sa.Text, nullable=False, server_default="", comment="by which every stored row is labelled"),
    sa.Column("wanted", sa.Text, nullable=False, server_default="", comment="by which new rows are labelled"),
    sa.Column("in_doubt", sa.Boolean, nullable=False, server_default=sa.false(), comment="rows may lack a label"),
    comment="One row",
)

attachment = sa.Table(
    "attachment",
    metadata,
    sa.Column("referrer", sa.BigInteger, primary_key=True, autoincrement=False, comment="row key"),
    sa.Column("binary", sa.BigInteger, primary_key=True, autoincrement=False, comment="row key, stored or not yet"),
    sa.Column("custodian", sa.BigInteger, nullable=False, comment="of the referrer"),
    sa.Index("attachment_binary", "binary"),
)

reach = sa.Table(
    "reach",
    metadata,
    sa.Column("organisation", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("person", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column(
        "source", sa.BigInteger, primary_key=True, autoincrement=False, comment="row key of Encounter or ServiceRequest"
    ),
    sa.Column("holder", sa.BigInteger, nullable=False, comment="whom the source names; a merge moves person, not this"),
    sa.Column("kind", sa.SmallInteger, nullable=False, comment="1 encounter, 2 referral, 3 named, 4 waiting"),
    sa.Column("until", sa.BigInteger, nullable=False, comment="microseconds since 1970 UTC"),
    sa.Index("reach_source", "source"),
    sa.Index("reach_person", "person", "organisation"),
)

stranger_claim = sa.Table(
    "stranger_claim",
    metadata,
    sa.Column("organisation", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("holder", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.BigInteger, nullable=False, comment="microseconds since 1970 UTC"),
    comment="Patients of other hospitals whom an organisation's Encounters named, and were believed",
)

emergency = sa.Table(
    "emergency",
    metadata,
    sa.Column("actor", sa.Text, primary_key=True),
    sa.Column("person", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("organisation", sa.BigInteger, nullable=False),
    sa.Column("opened", sa.BigInteger, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)

audit_row = sa.Table(
    "audit_row",
    metadata,
    sa.Column("transaction", TransactionId, primary_key=True, server_default=sa.text("pg_current_xact_id()")),
    sa.Column("sequence", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False, comment="microseconds since 1970 UTC"),
    sa.Column("action", sa.CHAR(1), nullable=False, comment="BALP: C R U D E"),
    sa.Column("outcome", sa.SmallInteger, nullable=False, comment="0 success, 4 refused or not found, 8 failure"),
    sa.Column(
        "holders",
        ARRAY(sa.BigInteger),
        nullable=False,
        comment="source Patients whose rows were in the answer; immutable, persons follow through holder_person",
    ),
    sa.Column("entry", JSON, nullable=False, comment="ehr.audit_note.AuditNote as JSON text, hashed as it stands"),
    sa.Index("audit_row_holders", "holders", postgresql_using="gin"),
)

audit_seal = sa.Table(
    "audit_seal",
    metadata,
    sa.Column("seal", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("horizon", TransactionId, nullable=False, comment="every transaction below it is sealed"),
    sa.Column("members", ARRAY(sa.BigInteger), nullable=False, comment="sequences of audit_row in sealed order"),
    sa.Column("leaves", BYTEA, nullable=False, comment="SHA-256 of each member, 32 bytes each, in the same order"),
    sa.Column("hash", BYTEA, nullable=False, comment="SHA-256 over the previous hash and the leaves"),
)

job = sa.Table(
    "job",
    metadata,
    sa.Column("job", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("payload", JSONB, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="waiting", comment="waiting, claimed, done, failed"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("not_before", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("worker", sa.BigInteger, comment="advisory lock of the worker's session that claimed it"),
    sa.Column("error", sa.Text),
    sa.Index("job_state", "state", "not_before"),
)

bulk_job = sa.Table(
    "bulk_job",
    metadata,
    sa.Column("id", sa.Text(collation="C"), primary_key=True, comment="128 random bits, part of its address"),
    sa.Column("kind", sa.Text, nullable=False, comment="export, import"),
    sa.Column("caller", JSONB, nullable=False, comment="the claims that it was asked with"),
    sa.Column("request", JSONB, nullable=False, comment="the address and the parameters"),
    sa.Column("state", sa.Text, nullable=False, server_default="accepted", comment="running, complete, failed, gone"),
    sa.Column("progress", JSONB, nullable=False, server_default="{}", comment="what is done for good"),
    sa.Column("created_at", sa.BigInteger, nullable=False, comment="microseconds since 1970 UTC"),
    sa.Column("completed_at", sa.BigInteger),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("job", sa.BigInteger, comment="in the table of jobs, while it is to be done"),
    sa.Column("error", sa.Text),
    comment="Bulk exports and imports",
)

inbox = sa.Table(
    "inbox",
    metadata,
    sa.Column("inbox", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("feed", sa.Text, nullable=False),
    sa.Column("custodian", sa.Text, nullable=False),
    sa.Column("sender", sa.Text, nullable=False),
    sa.Column("control_id", sa.Text, nullable=False),
    sa.Column("content", BYTEA, nullable=False, comment="SHA-256 of the message"),
    sa.Column("trace", sa.Text, nullable=False, comment="sender + MSH-10, or file and line"),
    sa.Column("message_type", sa.Text, nullable=False),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False, comment="waiting, done, quarantined, replaced (by a later file)"),
    sa.Column("answer", BYTEA, comment="the acknowledgement given, repeated for a duplicate"),
    sa.Column("cause", sa.Text),
    sa.Column("place", sa.Text, comment="segment, field or line of the cause"),
    sa.Column("loss", JSONB, comment="values of the message without a mapped path"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("body", BYTEA, nullable=False, comment="the message as received"),
    sa.UniqueConstraint("feed", "sender", "control_id", "content", name="inbox_duplicate"),
    sa.Index("inbox_state", "feed", "state", "inbox"),
    sa.Index("inbox_waiting", "feed", "attempts", "inbox", postgresql_where=sa.text("state = 'waiting'")),
    sa.Index("inbox_original", sa.text("substr(content, 1, 10)")),
)

revoked_token = sa.Table(
    "revoked_token",
    metadata,
    sa.Column("identifier", sa.Text, primary_key=True, comment="jti or family"),
    sa.Column("until", sa.BigInteger, nullable=False),
)

search_list = sa.Table(
    "search_list",
    metadata,
    sa.Column("list", BYTEA, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False, comment="microseconds since 1970 UTC, of the first page"),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("keys", ARRAY(sa.BigInteger), nullable=False),
    prefixes=["unlogged"],
    comment="Ids of searches' results (ehr.search.listing); each row is authorised again when it is fetched",
)
