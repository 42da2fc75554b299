"""Changes of a resource by instructions: JSON Patch and FHIRPath Patch (https://hl7.org/fhir/R4/http.html#patch)."""

from ehr.patch.errors import PatchRefused
from ehr.patch.fhirpath_patch import FhirPathPatch
from ehr.patch.json_patch import JsonPatch

__all__ = ["FhirPathPatch", "JsonPatch", "PatchRefused"]
