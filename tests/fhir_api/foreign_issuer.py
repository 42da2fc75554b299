"""An OpenID Connect issuer of somebody else, as a small web server on loopback."""

import http.server
import json
import threading
import time
from pathlib import Path
from typing import Any

from fhir_api.issuer import Issuer
from fhir_api.issuer.issuer import Issuer as EmbeddedIssuer
from fhir_api.jose import sign


class ForeignIssuer:
    """An issuer of somebody else, as a small web server."""

    def __init__(self, keys_path: Path, base_url: str) -> None:
        self.base_url = base_url
        self.issuer: EmbeddedIssuer = Issuer.open(keys_path, base_url, embedded_default=True)
        self.asked: list[str] = []
        self.changed: dict[str, Any] = {}
        foreign = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                foreign.asked.append(self.path)
                documents = {
                    "/realm/.well-known/openid-configuration": {
                        "issuer": foreign.address,
                        "jwks_uri": f"{foreign.address}/keys",
                    }
                    | foreign.changed,
                    "/realm/keys": {"keys": [foreign.issuer.jwk]},
                }
                found = documents.get(self.path)
                self.send_response(200 if found else 404)
                self.end_headers()
                self.wfile.write(json.dumps(found).encode())

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/realm"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def token(self, kind: str = "JWT", kid: str | None = None, **claims: Any) -> str:
        now = int(time.time())
        base = {
            "iss": self.address,
            "aud": [f"{self.base_url}/fhir", "account"],
            "sub": "u1",
            "azp": "portal",
            "typ": "Bearer",
            "iat": now,
            "exp": now + 300,
            "jti": "j",
            "scope": "user/*.rs",
            "roles": ["physician"],
        }
        return sign(base | claims, self.issuer._key, kid=kid or self.issuer.kid, algorithm="RS256", kind=kind)
