"""FHIRPath: one compiler for invariants, search extraction, patch and views (http://hl7.org/fhirpath/N1/)."""

from ehr.fhirpath.errors import FhirPathError
from ehr.fhirpath.expressions import CompiledExpression, compile, invariant  # noqa: A004 - the name of what it does

__all__ = ["CompiledExpression", "FhirPathError", "compile", "invariant"]
