"""Attack 12: after all attacks, no secret stands in a log line, in the metrics, or in an answer's headers.

Here the secrets that attackers brought themselves count too: a log must not hold the number that was asked for.
"""

import pytest

from tests.security.attacks.conftest import Twins
from tests.security.attacks.twins import Ask, canaries, leaked, people

pytestmark = pytest.mark.database
PROVOCATIONS = (
    ("GET", "Patient?identifier=110105194912310775", None),
    ("GET", "Patient?canary-parameter=canary-value", None),
    ("GET", "Patient?name:canary-modifier=x", None),
    ("GET", "Patient/canary..~", None),
    ("GET", "Canary/first-hospital.canary-b2", None),
    ("POST", "Patient", '{"resourceType":"Patient","name":[{"family":"canary-family","nonsense":"canary"}]}'),
    ("POST", "Patient", '{"resourceType":"Patient","birthDate":"canary-date","gender":"canary-gender"}'),
    ("POST", "Patient", '{"resourceType":"Patient","identifier":[{"value":"110105194912310775"'),
    ("POST", "Observation", '{"resourceType":"Observation","valueQuantity":{"value":"canary"}}'),
    (
        "POST",
        "",
        '{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"CANARY","url":"Patient"}}]}',
    ),
    ("PUT", "Patient/first-hospital.b", '{"resourceType":"Patient","id":"canary-id"}'),
    ("PUT", "Patient?identifier=canary", '{"resourceType":"Patient","id":"county-hospital.canary"}'),
    ("PATCH", "Patient/county-hospital.a", '[{"op":"test","path":"/canary","value":"canary"}]'),
    ("DELETE", "Patient?identifier=canary-nobody", None),
    ("CANARY", "Patient", None),
)
_TYPES = {"PATCH": "application/json-patch+json"}
_OWN_WORDS = "12-the-secrets-of-"


@pytest.mark.parametrize("who", ["dr.li", "county-hospital", "resident county-hospital.a", "researcher.chen"])
@pytest.mark.parametrize(("method", "address", "body"), PROVOCATIONS, ids=lambda value: f"12-{value}"[:50])
def test_refusals_quote_no_value_and_log_nothing(
    twins: Twins, who: str, method: str, address: str, body: str | None
) -> None:
    before = len(twins.lines.texts)
    headers = {"content-type": _TYPES.get(method, "application/fhir+json"), "x-request-id": f"{_OWN_WORDS}nobody"}
    answer = twins.full.client(who).request(method, f"/fhir/{address}".rstrip("/"), content=body, headers=headers)
    assert twins.lines.texts[before:] == []
    if answer.status_code >= 400:
        # what the sender must mend is named to him: unknown parameters, and wrong dates and codes of his own
        named = {"canary-parameter", "canary-modifier", "canary-date", "canary-gender"}
        assert not leaked(answer.text + str(answer.headers), named), answer.text


def test_no_secret_in_logs_and_metrics(twins: Twins) -> None:
    assert any(step.get("hidden") for step in people()["steps"])
    assert not leaked("\n".join(twins.lines.texts), set())
    assert not any(word in "\n".join(twins.lines.texts) for word in canaries())
    for twin in (twins.full, twins.absent):
        client = twin.platform.anonymous()
        for address in ("/metrics", "/health/ready", "/", "/fhir/metadata", "/openapi.json"):
            answer = client.get(address)
            assert answer.status_code == 200, address
            assert not leaked(answer.text + str(answer.headers), set()), address


def test_who_looked_tells_a_resident_nothing_of_others(twins: Twins) -> None:
    """The log shown to A names no value that somebody searched for, and no row but those about A."""
    for query in ("patient=first-hospital.b,county-hospital.a", "patient.identifier=110105194912310775,A-1"):
        assert twins.full.client("dr.li").get(f"/fhir/Observation?{query}").status_code == 200
    assert twins.full.client("loader").get("/fhir/Patient?family=Ahn,Canaryfeld").status_code == 200
    answers = twins.full.answers("resident county-hospital.a", [Ask("GET", "AuditEvent?_count=100")])
    assert answers[0].json()["entry"]
    about_both = {f"first-hospital.canary-{name}" for name in ("both", "linked", "moved", "letter")}
    about_both.add("canary-provenance")
    shown = set().union(*(leaked(answer.text, about_both) for answer in answers))
    assert not shown
