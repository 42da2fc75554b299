"""What an answer about one person may lack: hospitals whose feeds were silent or late.

Told only of hospitals of whose rows about that person the caller sees some: the statement says nothing that the rows
themselves do not. https://hl7.org/fhir/R4/search.html#outcome ("search mode outcome")
"""

from collections.abc import Sequence

from consent.break_glass import named_patients
from ehr.errors import Issue
from ehr.keys import row_key
from ehr.scopes import ReadScope
from ehr.store.feed_clock import FeedTrouble
from fhir_api.exchange import instant_text
from fhir_api.fhir_request import FhirRequest


async def statement(
    request: FhirRequest, scope: ReadScope, pairs: Sequence[tuple[str, str]], *, whole_person: bool = False
) -> tuple[Issue, ...]:
    """The issues of an answer to a request that names one Patient; none for other requests.

    Args:
        request: The request; its type and id may name the Patient.
        scope: What the caller sees.
        pairs: The criteria, which may name the Patient.
        whole_person: Whether the answer spans all source Patients of the person.
    """
    patients = named_patients(request.resource_type, request.resource_id, pairs)
    if len(patients) != 1:
        return ()
    clock = request.services.store.feed_clock
    troubles = await clock.troubles()
    if not troubles:
        return ()
    organisations = {each.organisation for each in troubles}
    spans = whole_person or any(name.endswith(":mdm") for name, _ in pairs)
    patient = row_key("Patient", patients[0])
    seen = await clock.seen_of_person(scope, patient, organisations, whole_person=spans)
    return tuple(_issue(each) for each in troubles if each.organisation in seen)


def _issue(trouble: FeedTrouble) -> Issue:
    moment = instant_text(trouble.since_us)
    if trouble.kind == "late":
        text = f"sent data that have waited since {moment} to enter the record"
    else:
        text = f"sent nothing since {moment}"
    return Issue(
        "warning", "incomplete", f"{trouble.organisation}: its feed {trouble.feed} {text}; newer data may be missing."
    )
