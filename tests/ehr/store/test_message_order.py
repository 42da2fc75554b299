import itertools

import pytest

from ehr.store import OrderKey, Store, WriteOperation
from tests.ehr.store.record_fixtures import NOTE, feed, read_scope

pytestmark = pytest.mark.database


def message(resource_id: str, at_us: int, control_id: str, text: str, *, weak: bool = False) -> WriteOperation:
    body = f'{{"resourceType":"Patient","id":"{resource_id}","language":"{text}"}}'.encode()
    return WriteOperation("update", "Patient", resource_id, body, order_key=OrderKey(at_us, control_id, weak))


def messages(resource_id: str) -> list[WriteOperation]:
    return [
        message(resource_id, 5, "m9", "result", weak=True),
        message(resource_id, 10, "m1", "admission"),
        message(resource_id, 20, "m2", "update"),
        message(resource_id, 20, "m3", "tie"),
    ]


async def test_the_newest_message_holds_in_every_order_of_arrival(store: Store) -> None:
    for number, order in enumerate(itertools.permutations(range(4))):
        resource_id = f"first-hospital.p{number}"
        sent = messages(resource_id)
        for place in order:
            await store.write(feed(), [sent[place]], NOTE)
        found = await store.read(read_scope(), "Patient", resource_id, NOTE)
        assert b'"language":"tie"' in (found.body or b""), order
        page = await store.history(read_scope(), "Patient", resource_id, NOTE)
        kept = {b'"language":"' + word + b'"' for word in (b"admission", b"update", b"tie")}
        assert all(any(word in (each.body or b"") for each in page.versions) for word in kept), order


async def test_the_newest_of_messages_in_passing_holds_until_one_about_it_comes(store: Store) -> None:
    for order in ((0, 1), (1, 0)):
        resource_id = f"first-hospital.w{order[0]}"
        sent = [message(resource_id, at, f"m{at}", f"weak{at}", weak=True) for at in (1, 2)]
        for place in order:
            await store.write(feed(), [sent[place]], NOTE)
        assert b"weak2" in ((await store.read(read_scope(), "Patient", resource_id, NOTE)).body or b"")
        await store.write(feed(), [message(resource_id, 0, "m0", "strong")], NOTE)
        assert b"strong" in ((await store.read(read_scope(), "Patient", resource_id, NOTE)).body or b"")


async def test_a_late_message_keeps_the_current_version_and_its_number(store: Store) -> None:
    resource_id = "first-hospital.late"
    await store.write(feed(), [message(resource_id, 20, "b", "new")], NOTE)
    (late,) = await store.write(feed(), [message(resource_id, 10, "a", "old")], NOTE)
    assert (late.kind, late.version) == ("superseded", 2)
    assert (await store.read(read_scope(), "Patient", resource_id, NOTE)).version == 1
    assert b"old" in ((await store.vread(read_scope(), "Patient", resource_id, 2, NOTE)).body or b"")
    (after,) = await store.write(feed(), [message(resource_id, 30, "c", "newest")], NOTE)
    assert (after.kind, after.version) == ("updated", 3)


async def test_repeated_content_makes_no_version_but_moves_the_order_on(store: Store) -> None:
    resource_id = "first-hospital.same"
    await store.write(feed(), [message(resource_id, 10, "a", "same")], NOTE)
    (again,) = await store.write(feed(), [message(resource_id, 30, "c", "same")], NOTE)
    assert (again.kind, again.version) == ("unchanged", 1)
    (between,) = await store.write(feed(), [message(resource_id, 20, "b", "other")], NOTE)
    assert between.kind == "superseded"
