//! The keys that tokens may have been signed with.
//!
//! Owns: [`Keys`], which of them a token means, and [`Key`], one signature's
//! check. A key has one algorithm, by its type; what a token says cannot give it
//! another, so that a public key is never taken for the secret of an HMAC.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use ring::hmac;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};

use super::{Algorithm, Fault, jwks, pem};

/// The shortest secret for HMAC with SHA-256 (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// Bits of the modulus of an RSA key (RFC 7518, section 3.3, and what `ring` takes).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// What a key is made of.
enum Material {
    Secret(hmac::Key),
    /// Modulus and exponent, big-endian, without leading zeros.
    Rsa(RsaPublicKeyComponents<Box<[u8]>>),
    /// An uncompressed point on P-256.
    P256([u8; 65]),
    Ed25519([u8; 32]),
}

/// One key. Shows its id and algorithm, never itself.
pub struct Key {
    /// What tokens name it by; `None`: it is the one for tokens that name another or none.
    id: Option<Box<str>>,
    material: Material,
}

impl Key {
    /// A secret for [`Algorithm::Hs256`].
    ///
    /// # Errors
    /// It is too short to be one.
    pub(super) fn secret(secret: &[u8]) -> Result<Key, String> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(format!("a secret for HS256 has at least {SECRET_BYTES_MIN} bytes"));
        }
        Ok(Key::of(Material::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret))))
    }

    /// A public key for [`Algorithm::Rs256`], of big-endian numbers.
    ///
    /// # Errors
    /// It is too weak, too large, or not one.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Key, String> {
        let stripped = |number: &[u8]| -> Box<[u8]> {
            number.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>().into()
        };
        let (n, e) = (stripped(modulus), stripped(exponent));
        let bits = n.first().map_or(0, |first| 8 * n.len() - first.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            return Err(format!("an RSA key of {bits} bits is not one of 2048 to 8192"));
        }
        let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
        // What `ring` takes: 3 to 2^33 - 1.
        let is_exponent = (e.len() <= 4 || (e.len() == 5 && e[0] == 1)) && *e != [1];
        if !is_odd(&n) || !is_odd(&e) || !is_exponent {
            return Err("it is no RSA public key".to_owned());
        }
        Ok(Key::of(Material::Rsa(RsaPublicKeyComponents { n, e })))
    }

    /// A public key for [`Algorithm::Es256`]: an uncompressed point (SEC 1, section 2.3.3).
    pub(super) fn p256(point: &[u8]) -> Option<Key> {
        let point: [u8; 65] = point.try_into().ok()?;
        (point[0] == 4).then(|| Key::of(Material::P256(point)))
    }

    /// A public key for [`Algorithm::EdDsa`] (RFC 8032, section 5.1.5).
    pub(super) fn ed25519(bytes: &[u8]) -> Option<Key> {
        Some(Key::of(Material::Ed25519(bytes.try_into().ok()?)))
    }

    fn of(material: Material) -> Key {
        Key { id: None, material }
    }

    /// The same key, named by `id`.
    pub(super) fn named(self, id: Option<String>) -> Key {
        Key { id: id.map(Into::into), ..self }
    }

    /// What tokens name it by, if they have to.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The one algorithm it is for.
    pub fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Secret(_) => Algorithm::Hs256,
            Material::Rsa(_) => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// Whether `signature` is that of `message`. An HMAC is compared in constant time.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.material {
            Material::Secret(key) => hmac::verify(key, message, signature),
            Material::Rsa(key) => key.verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature),
            Material::P256(point) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Material::Ed25519(key) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature)
            }
        };
        verified.is_ok()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => write!(f, "{} {id:?}", self.algorithm()),
            None => write!(f, "{}", self.algorithm()),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// All keys in effect: 1 to [`crate::limits::KEYS`].
#[derive(Debug)]
pub struct Keys {
    pub(super) keys: Vec<Key>,
    /// Why other keys of the file are not among them, one line each.
    pub(super) passed_over: Vec<String>,
}

impl Keys {
    /// Reads a file that holds one key: a public key in PEM, or the secret of an HMAC.
    ///
    /// # Errors
    /// What is wrong with it, in one line without any of its content.
    pub fn from_key_file(bytes: &[u8]) -> Result<Keys, String> {
        Ok(Keys { keys: vec![pem::read(bytes)?], passed_over: Vec::new() })
    }

    /// Reads a JWK Set (RFC 7517, section 5).
    ///
    /// # Errors
    /// What is wrong with it, in one line without any of its content but a
    /// key's id.
    pub fn from_jwks(bytes: &[u8]) -> Result<Keys, String> {
        jwks::read(bytes)
    }

    /// The key a token means. One with an id is meant by tokens that name it;
    /// one without an id by all; and a token that names none means the only one
    /// there is for its algorithm.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&Key, Fault> {
        let named = |key: &&Key| id.is_none_or(|id| key.id().is_none_or(|known| known == id));
        let mut known = self.keys.iter().filter(named).peekable();
        if known.peek().is_none() {
            return Err(Fault::UnknownKey);
        }
        let mut fitting = known.filter(|key| key.algorithm() == algorithm);
        let first = fitting.next().ok_or(Fault::Algorithm)?;
        match (fitting.next(), id) {
            (None, _) => Ok(first),
            (Some(_), None) => Err(Fault::UnknownKey),
            // One of the two has the id, as no two of an algorithm have the same.
            (Some(second), Some(_)) => Ok(if first.id.is_some() { first } else { second }),
        }
    }

    /// Whether one of them is for one of these algorithms; for any, if none are given.
    pub fn serve(&self, algorithms: &[Algorithm]) -> bool {
        algorithms.is_empty() || self.keys.iter().any(|key| algorithms.contains(&key.algorithm()))
    }

    /// Why other keys of the file are not used, one line each.
    pub fn passed_over(&self) -> &[String] {
        &self.passed_over
    }
}

impl fmt::Display for Keys {
    /// How many, and which, for the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.keys.len() == 1 { "" } else { "s" };
        let shown: Vec<_> = self.keys.iter().map(Key::to_string).collect();
        write!(f, "{} key{plural} ({})", self.keys.len(), shown.join(", "))
    }
}

/// The keys in effect now. Threads share it; who looks keeps what it got for
/// as long as it likes.
#[derive(Debug)]
pub struct KeyRing(RwLock<Arc<Keys>>);

impl KeyRing {
    /// These from the start.
    pub fn new(keys: Keys) -> Self {
        KeyRing(RwLock::new(Arc::new(keys)))
    }

    /// The keys in effect. The lock is held for as long as it takes to count a reference.
    pub fn keys(&self) -> Arc<Keys> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts others into effect.
    pub fn replace(&self, keys: Keys) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }
}
