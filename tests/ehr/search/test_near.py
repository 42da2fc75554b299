"""Locations near a place, against distances that are computed here: https://hl7.org/fhir/R4/location.html#positional."""

import math
import random
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from ehr.errors import BadSearch
from ehr.row_filter import AllOf, CustodianIn, Everything
from ehr.search import parse
from ehr.store import Store
from tests.search_record import START_US, Kept, ask, ask_all, fill, plain

pytestmark = pytest.mark.database
RADIUS_KM = 6371.0088
PLACES = {
    "beijing": ("39.9042", "116.4074"), "tianjin": ("39.3434", "117.3616"), "shanghai": ("31.2304", "121.4737"),
    "suva": ("-18.1248", "178.4501"), "taveuni": ("-16.8577", "-179.9730"), "dateline": ("-17.0", "180"),
    "pole": ("90", "0"), "alert": ("82.5018", "-62.3481"), "longyearbyen": ("78.2232", "15.6267"),
    "south-pole": ("-90", "45"), "null-island": ("0", "0"), "round-the-world": ("39.9042", "476.4074"),
}  # fmt: skip
UNITS_KM = {"km": 1.0, "m": 0.001, "[mi_us]": 1.609347218694437, "[mi_i]": 1.609344, "cm": 1e-5, "[nmi_i]": 1.852}


def rows() -> list[dict[str, Any]]:
    rnd = random.Random(7)  # noqa: S311 - test data
    places = dict(PLACES)
    for number in range(60):
        places[f"p{number}"] = (f"{rnd.uniform(-90, 90):.4f}", f"{rnd.uniform(-180, 180):.4f}")
    beyond = [
        plain(f'{{"resourceType": "Location", "id": "x{n}", "position": {{"latitude": {north}, "longitude": {east}}}}}')
        for n, (north, east) in enumerate([("90.1", "0"), ("0", "1e300"), ("-1e300", "5")])
    ]
    found = [
        plain(
            f'{{"resourceType": "Location", "id": "{name}", "position": {{"latitude": {north}, "longitude": {east}}}}}'
        )
        for name, (north, east) in places.items()
    ]
    return [*found, {"resourceType": "Location", "id": "nowhere", "name": "Nowhere"}, *beyond]


ROWS = rows()


def apart_km(north: float, east: float, other_north: float, other_east: float) -> float:
    """The distance on the sphere by the angle between the two vectors."""
    one, other = (
        (math.cos(math.radians(a)) * math.cos(math.radians(b)), math.cos(math.radians(a)) * math.sin(math.radians(b)),
         math.sin(math.radians(a)))
        for a, b in ((north, east), (other_north, other_east))
    )  # fmt: skip
    cross = (
        one[1] * other[2] - one[2] * other[1],
        one[2] * other[0] - one[0] * other[2],
        one[0] * other[1] - one[1] * other[0],
    )
    return RADIUS_KM * math.atan2(math.hypot(*cross), sum(a * b for a, b in zip(one, other, strict=True)))


def within(north: float, east: float, km: float) -> set[str]:
    positions = {row["id"]: row["position"] for row in ROWS if "position" in row and row["id"][0] != "x"}
    return {
        name
        for name, position in positions.items()
        if apart_km(north, east, float(position["latitude"]), float(position["longitude"])) <= km
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def _filled(store: Store, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    roles = [
        {"resourceType": "PractitionerRole", "id": name, "location": [{"reference": f"Location/{name}"}]}
        for name in ("beijing", "suva", "nowhere")
    ]
    kept = [Kept(one, START_US + n, 0, custodian=1 + n % 2) for n, one in enumerate([*ROWS, *roles])]
    await fill(connection, store.hasher, kept)
    await connection.close()


async def found(store: Store, value: str) -> set[str]:
    return {name.removeprefix("Location/") for name in await ask_all(store, f"Location?near={value}")}


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("39.9042|116.4074|1|km", {"beijing", "round-the-world"}),
        ("39.9042|116.4074|120|km", {"beijing", "tianjin", "round-the-world"}),
        ("39.9042|116.4074|120000|m", {"beijing", "tianjin", "round-the-world"}),
        ("39.9042|116.4074|60|[mi_us]", {"beijing", "round-the-world"}),
        ("39.9042|116.4074|75|[mi_us]", {"beijing", "tianjin", "round-the-world"}),
        ("39.95|116.45", {"beijing", "round-the-world"}),
        ("39.95|116.45||km", {"beijing", "round-the-world"}),
        ("39.9042|116.4074|0|km", {"beijing", "round-the-world"}),
        ("-17.5|179.5|200|km", {"suva", "taveuni", "dateline"}),
        ("-17.5|-179.5|130|km", {"taveuni", "dateline"}),
        ("-17|-180|1|km", {"dateline"}),
        ("90|100|900|km", {"pole", "alert"}),
        ("89|-170|1000|km", {"pole", "alert"}),
        ("-89.9|0|20|km", {"south-pole"}),
        ("0|0|1|km,31.2304|121.4737|1|km", {"null-island", "shanghai"}),
    ],
)
async def test_known_places(store: Store, asked: str, names: set[str]) -> None:
    assert {name for name in await found(store, asked) if name in PLACES} == names


async def test_distances_are_those_on_the_sphere(store: Store) -> None:
    rnd = random.Random(11)  # noqa: S311 - test data
    for _ in range(60):
        north, east = round(rnd.uniform(-90, 90), 3), round(rnd.uniform(-180, 180), 3)
        unit = rnd.choice(sorted(UNITS_KM))
        km = rnd.choice([300.0, 2000.0, 6000.0, 10_000.0, 19_000.0, 21_000.0])
        distance = f"{km / UNITS_KM[unit]:.6f}"
        asked = f"{north}|{east}|{distance}|{unit}"
        assert await found(store, asked) == within(north, east, float(distance) * UNITS_KM[unit]), asked


async def test_totals_scopes_and_the_rest_of_the_grammar(store: Store) -> None:
    asked = "Location?near=39.9|116.4|120|km"
    assert (await ask(store, f"{asked}&_total=accurate&_count=1")).total == 3
    assert (await ask(store, f"{asked}&_summary=count")).total == 3
    assert await ask_all(store, f"{asked}&_id=tianjin") == ["Location/tianjin"]
    for everywhere in ("0|0|1e90|km", "90|0|30000|km", "-12|170|20016|km"):
        assert len(await found(store, everywhere)) == len(ROWS) - 4, everywhere
    assert len(await ask_all(store, "Location?near:missing=true")) == 4
    assert len(await ask_all(store, "Location?near:missing=false")) == len(ROWS) - 4
    assert await ask_all(store, "PractitionerRole?location.near=39.9|116.4|5|km") == ["PractitionerRole/beijing"]
    assert await ask_all(store, "PractitionerRole?location.near=-18|178|200|km") == ["PractitionerRole/suva"]
    near = await ask_all(store, "Location?_has:PractitionerRole:location:_id=suva&near=-18|178|200|km")
    assert near == ["Location/suva"]
    seen: set[str] = set()
    for custodian in (1, 2):
        sees = AllOf((Everything(), CustodianIn(frozenset({custodian}))))
        result = await ask(store, asked, sees)
        assert result.total == len(result.matches) < 3
        seen |= {match.resource_id for match in result.matches}
    assert seen == {"beijing", "tianjin", "round-the-world"}


@pytest.mark.parametrize(
    "value",
    [
        "", "1", "1|", "|1", "1|2|3|km|5", "91|0", "-91|0", "0|181", "0|-181", "x|1", "1|x", "1|2|x", "1|2|-3|km",
        "1|2|3|kg", "1|2|3|leagues", "1|2|gt3|km", "NaN|0", "Infinity|0", "1|2|1e400|km", "١|٢", "1:2",
    ],
)  # fmt: skip
def test_what_is_no_place_is_refused(value: str) -> None:
    with pytest.raises(BadSearch, match="near"):
        parse("Location", [("near", value)])


def test_only_locations_are_near() -> None:
    for name, resource_type in (("near", "Patient"), ("near:exact", "Location"), ("near:not", "Location")):
        with pytest.raises(BadSearch, match="near"):
            parse(resource_type, [(name, "1|2")])
