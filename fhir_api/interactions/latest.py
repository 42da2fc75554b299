"""$lastn of Observations: the newest of each code.

https://hl7.org/fhir/R4/observation-operation-lastn.html
"""

from urllib.parse import urlencode

from ehr.errors import BadSearch
from ehr.search.latest import MOST_ROWS, last_of_each_code
from ehr.store.operations import StoredVersion
from fhir_api.bundle_text import bundle_text, search_entry
from fhir_api.fhir_request import Answer, FhirRequest
from fhir_api.interactions.operation_input import given, simple

_PERSON = frozenset({"patient", "subject"})


async def last_n(request: FhirRequest) -> Answer:
    """GET or POST /fhir/Observation/$lastn?patient=...&category=...&code=...&max=...: criteria as in a search."""
    asked = simple(await given(request))
    criteria = [pair for pair in asked if pair[0] != "max"]
    most = [value for name, value in asked if name == "max"]
    if len(most) > 1 or any(not (text.isascii() and text.isdigit() and int(text[:9]) > 0) for text in most):
        raise BadSearch("max is a whole number of 1 or more, given once.")
    if not any(name.partition(":")[0] in _PERSON for name, _ in criteria):
        raise BadSearch("$lastn names the person: patient or subject is needed.")
    query = request.services.store.parse("Observation", criteria)
    if len(query.clauses) != len(criteria):
        raise BadSearch("$lastn takes criteria and max; order, pages, includes and parts are not offered on it.")

    async def act() -> list[StoredVersion]:
        scope = await request.read_scope("search", ("Observation",), criteria)
        number = min(int(most[0]), MOST_ROWS) if most else 1
        return await last_of_each_code(request.services.store, scope, query, number, request.note())  # type: ignore[arg-type]  # a property fits where it is only read

    found = await request.decided_anew(act)
    base = request.fhir_base.encode()
    entries = [search_entry(version, base, "match") for version in found]
    link = ("self", f"{request.fhir_base}/Observation/$lastn?{urlencode(asked)}")
    return Answer(200, bundle_text("searchset", entries, links=[link], total=len(entries)))
