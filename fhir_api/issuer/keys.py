"""The issuer's private keys under `KANGLIAN_DATA_DIR/keys`: made once, readable by the owner only.

issuer.pem signs tokens (RS256), issuer.secret seals codes and sign-in forms, links.secret page links;
clients/<id>.pem are the demo machine clients' own keys (ES384), of which the issuer uses only the public half.
"""

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fhir_api.jose import PrivateKey, PublicKey, encode_segment

SECRET_BYTES = 32


def _write_once(path: Path, data: bytes) -> None:
    """Put the file in place whole, or leave the one that another process put there first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load(path: Path) -> PrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise TypeError(f"{path} holds neither an RSA nor an elliptic-curve key")
    return key


def signing_key(directory: Path) -> PrivateKey:
    """The issuer's RSA key, made on first use."""
    path = directory / "issuer.pem"
    if not path.exists():
        _write_once(path, _pem(rsa.generate_private_key(public_exponent=65_537, key_size=2_048)))
    return _load(path)


def secret(directory: Path, name: str) -> bytes:
    """The 32-byte secret `<name>.secret`, made on first use: "issuer" seals codes and forms, "links" page links."""
    path = directory / f"{name}.secret"
    if not path.exists():
        _write_once(path, secrets.token_bytes(SECRET_BYTES))
    return path.read_bytes()


def client_key(directory: Path, client_id: str) -> PrivateKey:
    """A demo machine client's P-384 key, made on first use."""
    path = directory / "clients" / f"{client_id}.pem"
    if not path.exists():
        _write_once(path, _pem(ec.generate_private_key(ec.SECP384R1())))
    return _load(path)


def key_id(key: PublicKey) -> str:
    """A stable kid: the first 96 bits of the SHA-256 of the public key's DER."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
    return encode_segment(digest.finalize()[:12])
