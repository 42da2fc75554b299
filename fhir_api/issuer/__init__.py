"""The embedded token issuer at `BASE/auth`: OpenID Connect for the embedded default, on loopback only.

https://openid.net/specs/openid-connect-core-1_0.html, https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html,
https://hl7.org/fhir/smart-app-launch/STU2.2/backend-services.html
"""

from fhir_api.issuer.issuer import Issuer

__all__ = ["Issuer"]
