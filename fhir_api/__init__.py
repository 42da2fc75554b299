"""HTTP: the FHIR REST interface, the embedded token issuer and the pages around them (DESIGN 4.6)."""

from fhir_api.application import create_app
from fhir_api.issuer import Issuer
from fhir_api.issuer.keys import secret
from fhir_api.services import Services

__all__ = ["Issuer", "Services", "create_app", "secret"]
