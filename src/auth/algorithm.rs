//! The algorithms tokens may be signed with.

use std::fmt;
use std::str::FromStr;

/// One way to sign (RFC 7518, section 3.1; RFC 8037, section 3.1). `none` is
/// not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// HMAC with SHA-256: who can check can also sign.
    Hs256,
    /// RSA, PKCS #1 v1.5, with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 4] = [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

    /// The name in `alg`, as it is written in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    /// What `alg` of a token or a key means here. `Ed25519` is what RFC 9864
    /// calls the one curve of `EdDSA` that is spoken here.
    pub(super) fn of_header(name: &str) -> Option<Algorithm> {
        match name {
            "Ed25519" => Some(Algorithm::EdDsa),
            _ => Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name),
        }
    }
}

impl FromStr for Algorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == text);
        known.ok_or_else(|| {
            let names = Algorithm::ALL.map(Algorithm::name).join(", ");
            format!("{text:?} is not one of {names}")
        })
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
            assert_eq!(Algorithm::of_header(algorithm.name()), Some(algorithm));
        }
        assert_eq!(Algorithm::of_header("Ed25519"), Some(Algorithm::EdDsa));
        for unknown in ["none", "None", "hs256", "HS512", "RS512", "PS256", "ES384", "Ed448", ""] {
            assert_eq!(Algorithm::of_header(unknown), None, "{unknown}");
        }
        let error = "none".parse::<Algorithm>().expect_err("no algorithm");
        assert_eq!(error, r#""none" is not one of HS256, RS256, ES256, EdDSA"#);
    }
}
