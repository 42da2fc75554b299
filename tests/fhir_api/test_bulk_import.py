"""$import at the door: files from an allowed address, errors by line, refusals."""

import gzip
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fhir_api.conftest import Platform, serving
from tests.fhir_api.test_bulk_export import completed, working

pytestmark = pytest.mark.database
FHIR = {"content-type": "application/fhir+json"}


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing; one name leads elsewhere."""

    def do_GET(self) -> None:
        if self.path.endswith("elsewhere.ndjson"):
            self.send_response(302)
            self.send_header("location", "/secret/patients.ndjson")
            self.end_headers()
            return
        super().do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a folder of files."""
    folder: Path = tmp_path_factory.mktemp("files")
    (folder / "out").mkdir()
    (folder / "secret").mkdir()
    patients = [{"resourceType": "Patient", "id": f"imported-{n}"} for n in range(20)]
    lines = [json.dumps(each) for each in patients]
    lines[7] = lines[7][:-1]
    (folder / "out" / "patients.ndjson").write_text("\n".join(lines))
    (folder / "secret" / "patients.ndjson").write_text("\n".join(lines).replace("imported", "secret"))
    seen = {"resourceType": "Observation", "status": "final", "code": {"text": "心电图"}}
    observations = [{**seen, "id": f"seen-{n}", "subject": {"reference": f"Patient/imported-{n}"}} for n in range(5)]
    packed = gzip.compress("\n".join(json.dumps(each) for each in observations).encode())
    (folder / "out" / "observations.ndjson.gz").write_bytes(packed)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/out"
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture(scope="module")
def platform(database_url: str, files: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    keys = tmp_path_factory.mktemp("keys")
    with serving(database_url, keys, import_addresses=(files,)) as running, working(running, database_url):
        yield running


def imported(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    started = client.post("/fhir/$import", json=body, headers=FHIR)
    assert started.status_code == 202, started.text
    return completed(client, started.headers["content-location"])


def test_a_manifest_is_imported_and_each_bad_line_told(platform: Platform, files: str) -> None:
    loader = platform.client(client="loader")
    inputs = [
        {"type": "Patient", "url": f"{files}/patients.ndjson"},
        {"type": "Observation", "url": f"{files}/observations.ndjson.gz"},
    ]
    body = {"inputFormat": "application/fhir+ndjson", "inputSource": files, "input": inputs}
    manifest = imported(loader, body)
    assert [(each["count"], each["refused"]) for each in manifest["outcome"]] == [(19, 1), (5, 0)]
    (error,) = manifest["error"]
    (outcome,) = [json.loads(line) for line in loader.get(error["url"]).text.splitlines()]
    assert outcome["issue"][0]["diagnostics"].startswith(f"{files}/patients.ndjson:8: ")
    assert loader.get("/fhir/Patient?_summary=count").json()["total"] == 19
    assert loader.get("/fhir/Observation?subject=Patient/imported-3").json()["total"] == 1
    assert platform.client(client="first-hospital").get(error["url"]).status_code == 404
    parameters = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "inputFormat", "valueCode": "application/fhir+ndjson"},
            {"name": "input", "part": [
                {"name": "type", "valueCode": "Patient"},
                {"name": "url", "valueUri": f"{files}/observations.ndjson.gz"},
            ]},
        ],
    }  # fmt: skip
    manifest = imported(loader, parameters)
    assert manifest["outcome"][0]["refused"] == 5, "its lines are of another type"


def test_a_file_that_is_not_there_is_told(platform: Platform, files: str) -> None:
    inputs = [{"url": f"{files}/absent.ndjson"}, {"url": f"{files}/elsewhere.ndjson"}]
    loader = platform.client(client="loader")
    manifest = imported(loader, {"input": inputs})
    assert [(each["count"], each["refused"]) for each in manifest["outcome"]] == [(0, 1), (0, 1)]
    assert loader.get("/fhir/Patient/secret-1").status_code == 404


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:1/out/a.ndjson", "file:///etc/passwd", "{files}x/a", "{files}/../secret/patients.ndjson",
     "{files}/%2e%2e/secret/patients.ndjson", "{files}/..\\secret", "http://u@127.0.0.1/out/a", "", 7, None,
     "{files}/a#b"],
)  # fmt: skip
def test_other_addresses_are_refused(platform: Platform, files: str, address: Any) -> None:
    url = address.replace("{files}", files) if isinstance(address, str) else address
    answer = platform.client(client="loader").post("/fhir/$import", json={"input": [{"url": url}]}, headers=FHIR)
    assert answer.status_code == 422, answer.text
    assert answer.json()["issue"][0]["expression"] == ["input[0].url"]


@pytest.mark.parametrize(
    "body",
    [{}, {"input": []}, {"input": {}}, {"input": [7]}, {"resourceType": "Patient"}, {"resourceType": "Parameters"},
     {"resourceType": "Parameters", "parameter": [7]},
     {"resourceType": "Parameters", "parameter": [{"name": "input", "part": 7}]},
     {"input": [{"url": "x"}], "inputFormat": "text/csv"}, {"input": [{"url": "x"}], "nonsense": 1}],
)  # fmt: skip
def test_bad_manifests_are_refused(platform: Platform, body: dict[str, Any]) -> None:
    answer = platform.client(client="loader").post("/fhir/$import", json=body, headers=FHIR)
    assert answer.status_code in {400, 422}, answer.text


def test_who_may_ask(platform: Platform, files: str) -> None:
    body = {"input": [{"url": f"{files}/patients.ndjson"}]}
    for account in ("dr.wang", "zhang.wei", "admin"):
        answer = platform.client(account=account).post("/fhir/$import", json=body, headers=FHIR)
        assert answer.status_code == 403, account
    hospital = platform.client(client="first-hospital")
    manifest = imported(hospital, body)
    assert manifest["outcome"][0]["count"] == 0, "ids that are not the hospital's own"


def test_it_is_stated_where_it_is_offered(platform: Platform) -> None:
    operations = platform.anonymous().get("/fhir/metadata").json()["rest"][0]["operation"]
    assert "import" in [each["name"] for each in operations]
