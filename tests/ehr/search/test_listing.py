"""Pages as a snapshot: lists of ids in links and in the table, and where a result is too large for one."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from ehr.errors import Expired
from ehr.keys import row_key
from ehr.row_filter import EVERYTHING, AllOf, CustodianIn, RowFilter
from ehr.search import SearchResult
from ehr.search.listing import sweep
from ehr.search.remembered import Statements
from ehr.store import Store
from tests.search_record import START_US, Kept, ask, fill, plain

pytestmark = pytest.mark.database
OWN: RowFilter = AllOf((EVERYTHING, CustodianIn(frozenset({1}))))
COUNT = 60
NOW_US = "(extract(epoch from clock_timestamp()) * 1e6)::bigint"
ORDERS = ("", "&_sort=_lastUpdated", "&_sort=birthdate", "&_sort=-birthdate", "&_sort=family", "&name:contains=fam")
TOTALS = ("", "&_total=accurate", "&_total=none")


def _rows() -> list[Kept]:
    rows = []
    for n in range(COUNT):
        text = (
            f'{{"resourceType":"Patient","id":"{n}","gender":"male","birthDate":"19{10 + n}-01-01",'
            f'"name":[{{"family":"Family{n:02}"}}]}}'
        )
        rows.append(Kept(plain(text), START_US + n, row_key("Patient", str(n)), custodian=1 + n % 2))
    return rows


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def connection(store: Store, database_url: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(database_url)
    await opened.execute("truncate resource, index_date, index_number, index_quantity, search_list")
    await fill(opened, store.hasher, _rows())
    yield opened
    await opened.close()


async def _rest(store: Store, text: str, first: SearchResult, row_filter: RowFilter = EVERYTHING) -> list[SearchResult]:
    pages, cursor = [], first.next_cursor
    while cursor is not None:
        pages.append(await ask(store, text, row_filter, cursor=cursor))
        cursor = pages[-1].next_cursor
    return pages


def _ids(*pages: SearchResult) -> list[int]:
    return [int(match.resource_id) for page in pages for match in page.matches]


@pytest.fixture(params=["in the link", "stored", "by place"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("ehr.search.run._statements", Statements())  # those of other bounds are not to be used again
    if request.param != "in the link":
        monkeypatch.setattr("ehr.search.limits.LISTED_IN_LINK", 0)
    if request.param == "by place":
        monkeypatch.setattr("ehr.search.limits.LISTED", 0)
    return str(request.param)


@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize("order", ORDERS)
async def test_pages_are_the_whole_in_order(store: Store, kind: str, order: str, total: str) -> None:
    whole = await ask(store, f"Patient?_count=1000{order}{total}")
    assert whole.paging is None
    text = f"Patient?_count=7{order}{total}"
    first = await ask(store, text)
    pages = await _rest(store, text, first)
    assert _ids(first, *pages) == _ids(whole)
    assert [len(page.matches) for page in pages] == [7] * 7 + [4]
    assert {page.total for page in (first, *pages)} == ({None} if "none" in total else {COUNT})
    if "contains" in order and "none" in total:
        listed = "keyset"  # no more bodies are opened than a page needs
    else:
        listed = "keyset" if kind == "by place" and not ("family" in order or "contains" in order) else "snapshot"
    assert {page.paging for page in pages[:-1]} == {listed}
    assert pages[-1].paging is None


@pytest.mark.parametrize("order", ORDERS)
async def test_changes_meanwhile_do_not_move_listed_rows(
    store: Store, connection: asyncpg.Connection, order: str
) -> None:
    text = f"Patient?_count=7&gender=male{order}"
    before = _ids(await ask(store, f"Patient?_count=1000&gender=male{order}"))
    first = await ask(store, text)
    assert first.paging == "snapshot"
    changed, deleted = before[30], before[40]
    await connection.execute(
        f"update resource set last_updated = {NOW_US}, until = null, at = 0 where key = $1",
        row_key("Patient", str(changed)),
    )
    await connection.execute("update resource set deleted = true where key = $1", row_key("Patient", str(deleted)))
    await fill(
        connection,
        store.hasher,
        [Kept(plain('{"resourceType":"Patient","id":"new","gender":"male"}'), 2 * START_US, row_key("Patient", "new"))],
    )
    pages = await _rest(store, text, first)
    assert _ids(first, *pages) == [each for each in before if each != deleted]
    assert {page.total for page in pages} == {COUNT if "contains" not in order else COUNT - 1}


async def test_each_row_is_authorised_again(store: Store, kind: str) -> None:
    for order in ORDERS:
        text = f"Patient?_count=10{order}"
        first = await ask(store, text)
        whole = _ids(first, *await _rest(store, text, first))
        pages = await _rest(store, text, first, OWN)
        assert _ids(*pages) == [each for each in whole[10:] if each % 2 == 0], (kind, order)
        assert {page.total for page in pages} == {COUNT // 2}, (kind, order)


async def test_a_list_that_is_gone_is_an_expired_link(
    store: Store, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ehr.search.run._statements", Statements())
    monkeypatch.setattr("ehr.search.limits.LISTED_IN_LINK", 0)
    first = await ask(store, "Patient?_count=7")
    second = await ask(store, "Patient?_count=7", cursor=first.next_cursor)
    assert await connection.fetchval("select size from search_list") == COUNT - 14
    with pytest.raises(Expired):
        await ask(store, "Patient?_count=7&gender=male", cursor=second.next_cursor)
    with pytest.raises(Expired):
        await ask(store, "Patient?_count=7", cursor=second.next_cursor, actor="dr.li")
    await sweep(store.search_pool)
    assert await connection.fetchval("select count(*) from search_list") == 1
    monkeypatch.setattr("ehr.search.limits.STORED_IDS", 10)
    await sweep(store.search_pool)
    with pytest.raises(Expired):
        await ask(store, "Patient?_count=7", cursor=second.next_cursor)


async def test_old_lists_are_thrown_away(
    store: Store, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ehr.search.run._statements", Statements())
    monkeypatch.setattr("ehr.search.limits.LISTED_IN_LINK", 0)
    first = await ask(store, "Patient?_count=7")
    await ask(store, "Patient?_count=7", cursor=first.next_cursor)
    await connection.execute("update search_list set at = at - 86400000001")
    await sweep(store.search_pool)
    assert await connection.fetchval("select count(*) from search_list") == 0


async def test_a_first_page_writes_nothing_but_its_audit_row(store: Store, connection: asyncpg.Connection) -> None:
    for order in ORDERS:
        await ask(store, f"Patient?_count=7{order}")
    assert await connection.fetchval("select count(*) from search_list") == 0
