"""Tokens as others make them: keys by `cryptography`, tokens and the JWK Set by `PyJWT`.

Command line: FOLDER. Keeps keys there and what a node needs of them in `jwks.json`. Prints tokens of the user
`stranger`, separated by commas: one for each algorithm, one that expires in eight seconds, one that has expired.
"""

import json
import pathlib
import secrets
import sys
import time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

MAKERS = {
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}
JWK = {"HS256": HMACAlgorithm, "RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}


def pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())


def make_keys(folder):
    """New keys, and the set that a node takes."""
    secret = secrets.token_bytes(32)
    made = {name: make() for name, make in MAKERS.items()}
    (folder / "HS256").write_bytes(secret)
    for name, key in made.items():
        (folder / name).write_bytes(pem(key))
    public = {"HS256": secret, **{name: key.public_key() for name, key in made.items()}}
    keys = [{**json.loads(JWK[name].to_jwk(key)), "kid": f"key-{name}", "use": "sig"} for name, key in public.items()]
    (folder / "jwks.json").write_text(json.dumps({"keys": keys}))


def main(folder):
    if not (folder / "jwks.json").exists():
        make_keys(folder)
    now = int(time.time())

    def token(algorithm, seconds):
        claims = {"sub": "stranger", "iat": now - 5, "nbf": now - 5, "exp": now + seconds, "iss": "interop",
                  "aud": ["other", "throng"], "throng": {"broadcast": False, "send": ["str*"]}}
        key = (folder / algorithm).read_bytes()
        return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": f"key-{algorithm}"})

    good = [token(algorithm, 600) for algorithm in ["HS256", "RS256", "ES256", "EdDSA"]]
    print(",".join([*good, token("ES256", 8), token("ES256", -1)]))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
