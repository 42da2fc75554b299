"""What every kick-off of bulk work ends in: a job, and 202 with the address of its status.

https://hl7.org/fhir/uv/bulkdata/STU2/export.html#response---success
"""

import msgspec

from ehr.bulk import jobs
from fhir_api.fhir_request import Answer, FhirRequest


async def kicked_off(request: FhirRequest, kind: jobs.Kind, asked: msgspec.Struct) -> Answer:
    """Make the job of a request that was decided and audited."""
    identity = await jobs.ask(
        request.services.store.pool,
        kind,
        msgspec.to_builtins(request.caller),
        {
            "address": f"{request.fhir_base}/{request.target}",
            "decision": request.decision,
            kind: msgspec.to_builtins(asked),
        },
    )
    location = f"{request.fhir_base}/_bulk/{identity}"
    return Answer(202, b"", [(b"content-location", location.encode()), (b"cache-control", b"no-store")])
