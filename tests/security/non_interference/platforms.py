"""Two whole platforms over two databases: the full store, and the copy from which rows are deleted."""

import asyncio
import json
import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import asyncpg

from consent import Caller, Consent, building, feed_write_scope, service
from consent.service import State
from ehr import keys
from ehr.access.classes import restamp
from ehr.errors import StaleScope
from ehr.keys import row_key
from ehr.store import PatientMerge, Store, WriteOperation, migrate
from ehr.store.bodies import open_body
from ehr.store.operations import Method
from fhir_api.application import Application, create_app
from fhir_api.issuer import Issuer
from fhir_api.issuer.accounts import Account
from fhir_api.issuer.issuer import COMMAND_LINE_CLIENT, Grant
from fhir_api.issuer.keys import secret
from fhir_api.services import Services
from tests.consent.house import LOADER as LOADER_CALLER
from tests.consent.house import NOTE, consent, resident
from tests.security.non_interference.story import (
    LOADER,
    BreakGlass,
    Delete,
    File,
    Merge,
    Name,
    Review,
    Step,
    Unmerge,
    Write,
)

BASE_URL = "http://platform.test"
CONTENT = ("resource", "resource_history", "index_date", "index_number", "index_quantity", "change_log", "audit_row")
STATE = (
    *("policy_state", "consent_class", "consent_rule", "person", "holder_person", "identity_claim", "person_merge"),
    *("restamp", "pending_label", "attachment", "reach", "stranger_claim", "emergency", "job"),
    "kept_holder",
)
_GENERATED = ("audit_row", "change_log", "job")


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request."""

    method: str
    target: str
    """Path and query after the base address."""
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """Its answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body) if self.body else {}


class Platform:
    """The real application over one database, called through ASGI."""

    def __init__(self, store: Store, decisions: Consent, app: Application, admin: asyncpg.Connection) -> None:
        self.store = store
        self.decisions = decisions
        self.app = app
        self.admin = admin
        self.is_changed = False
        """Whether a request may have written since the last `restore`."""
        self.is_reordered = False
        """Whether `restore` puts rows in another order than they came in: no answer may tell."""

    @classmethod
    async def open(cls, url: str, keys: Path, issuer: Issuer, *, preset: str = "cn-county") -> "Platform":
        """Start on an empty or migrated database."""
        await migrate(url)
        decisions = Consent(preset, base_url=f"{BASE_URL}/fhir")
        store = await Store.open(
            url,
            keys_path=keys / "index.key",
            projections=decisions.projections(),
            read_connections=2,
            write_connections=2,
            search_connections=2,
        )
        await decisions.open(store)
        services = Services(
            store=store, consent=decisions, base_url=BASE_URL, link_key=secret(keys, "links"), issuer=issuer
        )
        admin = await asyncpg.connect(url)
        await admin.execute(
            "create schema if not exists kept;"
            + "".join(
                f'create table if not exists kept."{name}" (like public."{name}");' for name in (*CONTENT, *STATE)
            )
        )
        return cls(store, decisions, create_app(services), admin)

    async def close(self) -> None:
        """End."""
        await self.admin.close()
        await self.store.close()

    # ---- filling -----------------------------------------------------------------------------------------------------

    async def play(self, step: Step) -> list[dict[str, Any]]:
        """Take a step through the platform's own doors; returns the resources whose ids the server made."""
        match step:
            case Write(writer=writer, resource=resource):
                await self._put(writer, _operation("update", resource))
            case File(writer="resident", patient=patient):
                made = await self._put(resident(patient), _operation("create", consent(patient, **step.consent)))
                return [json.loads(made)]
            case File(writer=writer, patient=patient, resource_id=identity):
                resource = {**consent(patient, **step.consent), "id": identity}
                made = await self._put(writer, _operation("update", resource))
                return [json.loads(made)]
            case Delete(writer=writer, resource_type=resource_type, resource_id=identity):
                await self._put(writer, WriteOperation("delete", resource_type, identity))
            case Merge(organisation=organisation, survivor=survivor, retired=retired):
                scope = feed_write_scope("feed", organisation)
                await self.store.write(scope, [], NOTE, merges=[PatientMerge(survivor, retired, "a40")])
            case Unmerge(survivor=survivor, retired=retired):
                async with self.store.searching.acquire() as connection, connection.transaction():
                    keys = row_key("Patient", survivor), row_key("Patient", retired)
                    await self.store.people.unmerge(connection, *keys)
            case Review(patient=patient):
                await self.decisions.review_merge(patient, NOTE)
            case BreakGlass(caller=caller, patient=patient):
                before = await self._names()
                await self.decisions.refresh()
                await self.decisions.read_scope(caller, interaction="read", persons=(patient,))
                return [
                    json.loads(open_body(*row)) for name, row in (await self._names()).items() if name not in before
                ]
        return []

    async def _names(self) -> dict[int, tuple[bytes, int]]:
        rows = await self.admin.fetch("select key, body, dictionary from resource where body is not null")
        return {row["key"]: (row["body"], row["dictionary"]) for row in rows}

    async def _put(self, writer: str | Caller, operation: WriteOperation) -> bytes:
        for attempt in range(3):
            if isinstance(writer, Caller) or writer == LOADER:
                scope = await self.decisions.write_scope(writer if isinstance(writer, Caller) else LOADER_CALLER)
            else:
                scope = feed_write_scope("feed", writer)
            try:
                (outcome,) = await self.store.write(scope, [operation], NOTE)
            except StaleScope:
                if attempt == 2:
                    raise
                await self.decisions.refresh()
            else:
                return outcome.body or b""
        raise AssertionError

    # ---- snapshots ---------------------------------------------------------------------------------------------------

    async def empty(self) -> None:
        """Forget everything but the first row of the policies."""
        tables = ", ".join(
            f'public."{name}"' for name in (*CONTENT, *STATE) if name not in ("policy_state", "consent_class")
        )
        await self.admin.execute(
            f"truncate {tables}; delete from consent_class where class > 0;"
            " update policy_state set epoch = epoch + 1, highest_class = 0"
        )
        await self._forget()

    async def keep(self) -> None:
        """Remember the tables as they are."""
        for name in (*CONTENT, *STATE):
            await self.admin.execute(f'truncate kept."{name}"; insert into kept."{name}" select * from public."{name}"')

    async def restore(self, *names: str) -> None:
        """Make the tables what they were: all of them after writes, else those named."""
        names = (*CONTENT, *STATE) if self.is_changed else names
        if not names:
            return
        statements = []
        for name in names:
            override = " overriding system value" if name in _GENERATED else ""
            ordered = ' order by "key"' if self.is_reordered and name in CONTENT[:-1] else ""
            statements.append(
                f'delete from public."{name}";'
                f' insert into public."{name}"{override} select * from kept."{name}"{ordered}'
            )
        await self.admin.execute("begin;" + ";".join(statements) + ";commit")
        if self.is_changed:
            await self._forget()
        self.is_changed = False

    async def copy_from(self, other: "Platform") -> None:
        """Take what the other platform keeps."""
        for name in (*CONTENT, *STATE):
            rows = [tuple(row) for row in await other.admin.fetch(f'select * from public."{name}"')]
            await self.admin.execute(f'truncate kept."{name}"')
            types = await self.admin.fetch(
                "select a.attname, format_type(a.atttypid, a.atttypmod) as t from pg_attribute a"
                " where a.attrelid = $1::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum",
                f'public."{name}"',
            )
            assert types
            if rows:
                columns = [row["attname"] for row in types]
                await self.admin.copy_records_to_table(name, schema_name="kept", records=rows, columns=columns)

        # what terms imply is said once for all rows, and never taken back
        implied = [tuple(row) for row in await other.admin.fetch("select implied, term from implied_term")]
        await self.admin.executemany("insert into implied_term values ($1, $2) on conflict do nothing", implied)
        # numbers given from now on are new in both databases
        await self.admin.execute("select setval(pg_get_serial_sequence('public.job', 'job'), 1000000)")

    async def _forget(self) -> None:
        """Decide anew from the tables: they went back in time, which no cache expects."""
        self.decisions._state = State()
        for cache in (self.decisions._scopes, self.decisions._evaluated, self.decisions._roles):
            cache.clear()
        await self.decisions.refresh()

    async def hide(self, rows: Iterable[Name], versions: Iterable[tuple[Name, int]]) -> None:
        """Delete rows, and single versions, straight in the tables."""
        keys = [row_key(*name) for name in rows]
        single = [(row_key(*name), number) for name, number in versions]
        for table in CONTENT[:-2]:
            await self.admin.execute(f"delete from {table} where key = any($1::bigint[])", keys)
        await self.admin.execute(
            "delete from resource_history h using unnest($1::bigint[], $2::integer[]) as g(key, version)"
            " where h.key = g.key and h.version = g.version",
            [key for key, _ in single],
            [number for _, number in single],
        )

    async def forget_audit(self, *, except_of: Iterable[str]) -> None:
        """Delete the audit rows of what touched nobody of these Patients."""
        holders = [row_key("Patient", each) for each in except_of]
        await self.admin.execute("delete from audit_row a where not a.holders && $1::bigint[]", holders)

    async def stamp(self) -> None:
        """Let the job stamp rows with their persons' classes."""
        async with self.store.searching.acquire() as connection:
            while await restamp(connection):
                pass

    # ---- asking ------------------------------------------------------------------------------------------------------

    async def ask(self, request: Request, token: str) -> Response:
        """Send a request through ASGI."""
        path, _, query = request.target.partition("?")
        self.is_changed |= request.method not in {"GET", "HEAD"} and "/_search" not in request.target
        headers = [(b"authorization", f"Bearer {token}".encode()), (b"x-request-id", b"trace")]
        headers += [(name.lower().encode(), value.encode()) for name, value in request.headers]
        scope = {
            "type": "http",
            "method": request.method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": headers,
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": request.body.encode(), "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        shown = tuple(sorted((name.decode(), value.decode("latin-1")) for name, value in sent[0]["headers"]))
        return Response(sent[0]["status"], shown, b"".join(each.get("body", b"") for each in sent[1:]).decode())


def _operation(method: Method, resource: dict[str, Any]) -> WriteOperation:
    body = json.dumps(resource, ensure_ascii=False).encode()
    return WriteOperation(method, resource["resourceType"], resource.get("id"), body=body)


def token_of(issuer: Issuer, caller: Caller) -> str:
    """A signed access token with the claims of a caller."""
    account = Account(
        caller.subject,
        caller.subject,
        tuple(sorted(caller.roles)),
        caller.organisation,
        caller.patient,
        caller.fhir_user,
        caller.purpose_of_use,
    )
    grant = Grant(account, COMMAND_LINE_CLIENT, caller.scopes, caller.purpose_of_use or None, caller.reason)  # type: ignore[arg-type]
    return issuer.access_token(grant)


_chance: ContextVar[random.Random | None] = ContextVar("chance", default=None)


def _urandom(length: int) -> bytes:
    """What ids are made of."""
    chance = _chance.get()
    return os.urandom(length) if chance is None else chance.randbytes(length)


class Pair:
    """The full store and the copy; both make the same ids, so that rows with equal sort values come in one order."""

    def __init__(self, full: Platform, copy: Platform, issuer: Issuer) -> None:
        self.full = full
        self.copy = copy
        self.issuer = issuer
        copy.is_reordered = True

    async def fill(self, steps: list[Step], seed: int, oracle: Any, *, stamped: bool = False) -> None:
        """Play a story on the full store and to the oracle, let the job stamp rows; keep the result in both."""
        await self.full.empty()
        _chance.set(random.Random(seed))  # noqa: S311 - test data
        with patch.object(keys, "urandom", _urandom):
            for step in steps:
                oracle.play(step, await self.full.play(step))
        if stamped:
            await self.full.stamp()
        await self.full.keep()
        await self.copy.copy_from(self.full)
        self.full.is_changed = self.copy.is_changed = True

    async def ask(
        self, request: Request, token: str, copys: Request | None = None, *, seed: int = 0
    ) -> tuple[Response, Response]:
        """The same request to both, but for the tokens of page links (`copys`)."""

        async def one(platform: Platform, asked: Request) -> Response:
            _chance.set(random.Random(seed))  # noqa: S311 - test data
            return await platform.ask(asked, token)

        with patch.object(keys, "urandom", _urandom):
            return tuple(await asyncio.gather(one(self.full, request), one(self.copy, copys or request)))  # type: ignore[return-value]

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Let the copy decide by the full store's organisations and roles: what decides is no row that was hidden."""
        reading = {self.copy.store.searching: self.full.store.searching}
        organisations, roles = service.read_organisations, service.read_practitioner_roles

        async def tree(pool: Any, *rest: Any) -> list[tuple[str, str]]:
            return await organisations(reading.get(pool, pool), *rest)

        async def held(pool: Any, *rest: Any) -> list[str]:
            return await roles(reading.get(pool, pool), *rest)

        with patch.object(service, "read_organisations", tree), patch.object(service, "read_practitioner_roles", held):
            yield


def broad(*, always: bool) -> Any:
    """Use the stamped class for everybody, as callers do who see very many people."""
    return patch.object(building, "BROAD_FROM_PERSONS", 0 if always else building.BROAD_FROM_PERSONS)
