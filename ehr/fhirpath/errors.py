"""What goes wrong with a FHIRPath expression."""

from ehr.errors import KanglianError


class FhirPathError(KanglianError):
    """An expression that cannot be read, or that cannot be evaluated on the given element."""

    code = "invalid"
