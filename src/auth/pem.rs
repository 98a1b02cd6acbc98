//! A file with one key: a public key in PEM (RFC 7468, section 13), or the
//! secret of an HMAC as a word of text.
//!
//! A secret is whatever nobody else knows, so what others may know is refused
//! as one: public keys without PEM's lines, in other formats, and key sets.

use data_encoding::BASE64;
use rustls::pki_types::alg_id;
use rustls::pki_types::pem::{PemObject, SectionKind};

use super::keys::Key;
use crate::der;

/// Reads the key.
///
/// # Errors
/// What is wrong, in one line without any of the content.
pub(super) fn read(bytes: &[u8]) -> Result<Key, String> {
    match bytes.windows(PEM_MARK.len()).any(|part| part == PEM_MARK) {
        true => public_key(bytes),
        false => secret(bytes),
    }
}

const PEM_MARK: &[u8] = b"-----BEGIN ";

fn public_key(bytes: &[u8]) -> Result<Key, String> {
    let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes);
    let section = sections.next().ok_or("is PEM of another kind than PUBLIC KEY")?;
    let (kind, content) = section.map_err(|_| "is not well-formed PEM")?;
    if sections.next().is_some() {
        return Err("holds more than one key; a set of keys is given as JWKS".to_owned());
    }
    match kind {
        SectionKind::PublicKey => of_info(&content),
        SectionKind::Certificate => {
            Err("holds a certificate; openssl x509 -pubkey -noout takes the public key out of it".to_owned())
        }
        SectionKind::RsaPrivateKey | SectionKind::PrivateKey | SectionKind::EcPrivateKey => Err(
            "holds a private key, which belongs to who signs; openssl pkey -pubout makes the public key of it"
                .to_owned(),
        ),
        _ => Err("is PEM of another kind than PUBLIC KEY".to_owned()),
    }
}

/// A key in DER (RFC 5280, section 4.1.2.7).
fn of_info(der: &[u8]) -> Result<Key, String> {
    let (algorithm, bytes) = der::public_key_info(der).ok_or("holds no well-formed public key")?;
    let malformed = || "holds no well-formed public key".to_owned();
    if algorithm == alg_id::RSA_ENCRYPTION.as_ref() {
        let (modulus, exponent) = der::rsa_public_key(bytes).ok_or_else(malformed)?;
        Key::rsa(modulus, exponent).map_err(unusable)
    } else if algorithm == alg_id::ECDSA_P256.as_ref() {
        Key::p256(bytes).ok_or_else(malformed)
    } else if algorithm == alg_id::ED25519.as_ref() {
        Key::ed25519(bytes).ok_or_else(malformed)
    } else {
        Err("holds a public key that is neither RSA nor of P-256 or Ed25519".to_owned())
    }
}

fn secret(bytes: &[u8]) -> Result<Key, String> {
    let secret = bytes.trim_ascii();
    if secret.starts_with(b"{") || secret.starts_with(b"[") {
        return Err("is JSON; a set of keys is given as jwt_jwks_file".to_owned());
    }
    if !secret.iter().all(u8::is_ascii_graphic) {
        return Err(
            "is neither a public key in PEM nor a secret, which is a word of visible ASCII characters"
                .to_owned(),
        );
    }
    if BASE64.decode(secret).is_ok_and(|der| der::public_key_info(&der).is_some()) {
        return Err("is a public key without the lines of PEM around it".to_owned());
    }
    Key::secret(secret).map_err(unusable)
}

/// What is wrong with the key itself, behind the name of the file.
fn unusable(why: String) -> String {
    format!("cannot be used: {why}")
}
