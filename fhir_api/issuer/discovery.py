"""What the issuer says of itself: OpenID discovery and JWKS.

https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata
"""

from typing import Any

from fhir_api.issuer.issuer import ALGORITHM, Issuer
from fhir_api.issuer.scopes import SUPPORTED

GRANTS = ["authorization_code", "client_credentials", "refresh_token"]


def oauth_members(issuer_url: str) -> dict[str, Any]:
    """The members that OpenID discovery and SMART configuration share."""
    return {
        "issuer": issuer_url,
        "jwks_uri": f"{issuer_url}/jwks",
        "authorization_endpoint": f"{issuer_url}/authorize",
        "token_endpoint": f"{issuer_url}/token",
        "introspection_endpoint": f"{issuer_url}/introspect",
        "revocation_endpoint": f"{issuer_url}/revoke",
        "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
        "grant_types_supported": GRANTS,
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": SUPPORTED,
    }


def openid_configuration(issuer: Issuer) -> dict[str, Any]:
    """The discovery document of the embedded issuer."""
    return oauth_members(issuer.issuer) | {
        "response_modes_supported": ["query"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
        "authorization_response_iss_parameter_supported": True,
        "claims_supported": [
            "sub", "fhirUser", "organisation", "roles", "patient", "scope", "purpose_of_use", "reason", "jti"
        ],
    }  # fmt: skip


def key_set(issuer: Issuer) -> dict[str, Any]:
    """The issuer's public keys."""
    return {"keys": [issuer.jwk]}
