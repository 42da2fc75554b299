"""`/fhir/.well-known/smart-configuration`: what the issuer whose tokens are taken offers to apps.

https://hl7.org/fhir/smart-app-launch/STU2.2/conformance.html
"""

from typing import Any

from fhir_api.issuer.discovery import oauth_members

_TEXTS = (
    "issuer",
    "jwks_uri",
    "authorization_endpoint",
    "token_endpoint",
    "introspection_endpoint",
    "revocation_endpoint",
    "registration_endpoint",
)
_LISTS = (
    "token_endpoint_auth_methods_supported",
    "token_endpoint_auth_signing_alg_values_supported",
    "grant_types_supported",
    "response_types_supported",
    "code_challenge_methods_supported",
    "scopes_supported",
)
_EMBEDDED = [
    "launch-standalone",
    "client-public",
    "client-confidential-asymmetric",
    "sso-openid-connect",
    "context-standalone-patient",
    "permission-offline",
    "permission-online",
    "permission-patient",
    "permission-user",
    "permission-v2",
]


def of_embedded_issuer(base_url: str) -> dict[str, Any]:
    """The embedded issuer's document."""
    return oauth_members(f"{base_url}/auth") | {"capabilities": _EMBEDDED}


def of_foreign_issuer(discovery: dict[str, Any]) -> dict[str, Any]:
    """What a configured issuer's own discovery document says, and what this server makes of its tokens.

    Nothing is stated that the issuer does not state; the members that it lacks are left out.
    """
    found: dict[str, Any] = {name: discovery[name] for name in _TEXTS if isinstance(discovery.get(name), str)}
    for name in _LISTS:
        values = discovery.get(name)
        if isinstance(values, list) and values and all(isinstance(value, str) for value in values):
            found[name] = values
    capabilities = ["permission-patient", "permission-user", "permission-v2"]
    if "authorization_endpoint" in found:
        capabilities += ["launch-standalone", "sso-openid-connect"]
    methods = set(found.get("token_endpoint_auth_methods_supported", ()))
    if "private_key_jwt" in methods:
        capabilities.append("client-confidential-asymmetric")
    if methods & {"client_secret_basic", "client_secret_post"}:
        capabilities.append("client-confidential-symmetric")
    return found | {"capabilities": sorted(capabilities)}
