"""`kanglian import`: Bundles and NDJSON as the loader, in any order of files, one bad entry among good ones."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.flow.running import Running, resources

pytestmark = pytest.mark.flow

SYSTEM = "urn:kanglian:test:import"


def transaction(*entries: dict[str, Any]) -> str:
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})


def posted(resource: dict[str, Any]) -> dict[str, Any]:
    return {"resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}}


def patient(name: str, organization: str) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "identifier": [{"system": SYSTEM, "value": name}],
        "managingOrganization": {"reference": f"Organization?identifier={SYSTEM}|{organization}"},
    }


def test_files_that_name_each_other_come_in_any_order(platform: Running, tmp_path: Path) -> None:
    people = [tmp_path / f"a-{number}.json" for number in range(3)]
    for number, path in enumerate(people):
        path.write_text(transaction(posted(patient(f"p{number}", "clinic"))))
    lost = tmp_path / "lost.json"
    lost.write_text(transaction(posted(patient("p9", "nowhere"))))
    organization = {
        "resourceType": "Organization",
        "name": "Clinic",
        "identifier": [{"system": SYSTEM, "value": "clinic"}],
    }
    last = tmp_path / "z.json.gz"
    last.write_bytes(gzip.compress(transaction(posted(organization)).encode()))
    done = platform.run("import", *map(str, [*people, lost, last]), ok=False)
    assert done.returncode == 1
    assert "4 resources in " in done.stderr
    assert "1 entries refused" in done.stderr
    assert f"lost.json:1: The reference Organization?identifier={SYSTEM}|nowhere matches no resource." in done.stderr
    found = resources(platform.client("loader").get("Patient", params={"identifier": f"{SYSTEM}|"}))
    assert {each["identifier"][0]["value"] for each in found} == {"p0", "p1", "p2"}
    assert len({each["managingOrganization"]["reference"] for each in found}) == 1


def test_bad_lines_are_named_and_the_good_ones_come_in(platform: Running, tmp_path: Path) -> None:
    lines = [
        '{"resourceType":"Basic","id":"import-1","code":{"text":"good"}}',
        '{"resourceType":"Basic","id":"import-2","code":{"text":',
        "",
        '{"resourceType":"Basic","id":"import-3","colour":"blue"}',
        '{"resourceType":"Basic","id":"import-4","code":{"text":"good too"}}',
    ]
    path = tmp_path / "some.ndjson"
    path.write_text("\n".join(lines))
    done = platform.run("import", str(path), "--custodian", "county-hospital", ok=False)
    assert (done.returncode, "2 resources in " in done.stderr) == (1, True), done.stderr
    assert "some.ndjson:2" in done.stderr
    assert "some.ndjson:4" in done.stderr
    assert "Basic has no element 'colour'" in done.stderr
    statuses = [platform.client("loader").get(f"Basic/import-{number}").status_code for number in (1, 2, 3, 4)]
    assert statuses == [200, 404, 404, 200]
    again = platform.run("import", str(tmp_path / "none.json"), str(path), ok=False)
    assert (again.returncode, "No such file" in again.stderr, "2 resources" in again.stderr) == (1, True, True)


def test_commands_on_feeds_name_the_feeds_that_there_are(platform: Running) -> None:
    for action in ("check", "loss", "replay"):
        refused = platform.run("adapter", action, "no-such-feed", ok=False)
        assert (refused.returncode, "there are: county-hospital, first-hospital" in refused.stderr) == (1, True)
