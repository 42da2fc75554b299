"""Checks resources against profiles that are stored here (https://hl7.org/fhir/R4/profiling.html).

`load` reads them, `check_against` compares: cardinality, fixed values, patterns, types, targets of references,
required bindings, slices and invariants. What the base definitions ask is `ehr.validation.check`'s; must-support and
bindings of other strength are not looked at.
"""

from ehr.validation.profiles.loading import NOTHING, Loaded, Source, load, profiles_named
from ehr.validation.profiles.walking import check_against

__all__ = ["NOTHING", "Loaded", "Source", "check_against", "load", "profiles_named"]
