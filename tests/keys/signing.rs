//! Signs tokens with the keys of this folder, as an issuer would.

#![allow(dead_code, reason = "each user of this file needs a part of it")]

use data_encoding::BASE64URL_NOPAD;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

pub(crate) const RSA_PUBLIC: &str = include_str!("rsa.pub.pem");
pub(crate) const P256_PUBLIC: &str = include_str!("p256.pub.pem");
pub(crate) const ED25519_PUBLIC: &str = include_str!("ed25519.pub.pem");
pub(crate) const RSA_1024_PUBLIC: &str = include_str!("rsa1024.pub.pem");
pub(crate) const P384_PUBLIC: &str = include_str!("p384.pub.pem");
pub(crate) const RSA_PRIVATE: &str = include_str!("rsa.pem");

/// A secret that is long enough.
pub(crate) const SECRET: &str = "a-secret-of-tests-that-everybody-knows";

/// Who signs.
pub(crate) enum Signer {
    Secret(Vec<u8>),
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    pub(crate) fn secret(secret: impl AsRef<[u8]>) -> Self {
        Signer::Secret(secret.as_ref().to_vec())
    }

    pub(crate) fn rsa() -> Self {
        Signer::Rsa(RsaKeyPair::from_pkcs8(&der(RSA_PRIVATE)).expect("a key"))
    }

    pub(crate) fn p256() -> Self {
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &der(include_str!("p256.pem")), &SystemRandom::new());
        Signer::P256(pair.expect("a key"))
    }

    pub(crate) fn ed25519() -> Self {
        let der = der(include_str!("ed25519.pem"));
        Signer::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).expect("a key"))
    }

    /// An Ed25519 key that nobody has had before.
    pub(crate) fn fresh() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("random numbers");
        Signer::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key"))
    }

    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Signer::Secret(_) => "HS256",
            Signer::Rsa(_) => "RS256",
            Signer::P256(_) => "ES256",
            Signer::Ed25519(_) => "EdDSA",
        }
    }

    /// The public key, or the secret, as a JWK.
    pub(crate) fn jwk(&self, id: &str) -> Value {
        let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let mut jwk = match self {
            Signer::Secret(secret) => json!({"kty": "oct", "k": text(secret)}),
            Signer::Rsa(pair) => {
                let public: ring::rsa::PublicKeyComponents<Vec<u8>> = pair.public().into();
                json!({"kty": "RSA", "n": text(&public.n), "e": text(&public.e)})
            }
            Signer::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
            }
            Signer::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref())})
            }
        };
        jwk["kid"] = id.into();
        jwk["alg"] = self.algorithm().into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// A token with the usual header and these claims.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({"alg": self.algorithm(), "typ": "JWT"}), claims)
    }

    /// A token that names its key.
    pub(crate) fn token_of(&self, id: &str, claims: &Value) -> String {
        self.token_with(&json!({"alg": self.algorithm(), "kid": id}), claims)
    }

    /// A token with whatever header and claims.
    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
        self.token_of_texts(&header.to_string(), &claims.to_string())
    }

    /// A token of these texts.
    pub(crate) fn token_of_texts(&self, header: &str, claims: &str) -> String {
        let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = BASE64URL_NOPAD.encode(&self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Signer::Secret(secret) => {
                let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
                ring::hmac::sign(&key, message).as_ref().to_vec()
            }
            Signer::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signature).expect("signed");
                signature
            }
            Signer::P256(pair) => pair.sign(&random, message).expect("signed").as_ref().to_vec(),
            Signer::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

/// A set of keys as JSON.
pub(crate) fn jwks(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

/// Now, in seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

fn der(pem: &str) -> Vec<u8> {
    let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).expect("PEM");
    key.secret_pkcs8_der().to_vec()
}
