"""The fixtures of the consent and API tests, lent to the attacks."""

from tests.consent.conftest import house
from tests.fhir_api.conftest import platform

__all__ = ["house", "platform"]
