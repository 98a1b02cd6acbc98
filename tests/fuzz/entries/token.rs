//! Tokens and the keys they are checked with. The first byte of an input says
//! what the rest of it is: the claims of a token that is signed, its header, a
//! whole token, a JWK Set, or a file with one key.

use super::{Entry, owned};
use std::time::Duration;
use throng::auth::{Fault, Keys, Reach, Rules, verify};
use throng::limits::{KEYS, SEND_PATTERNS, USER_ID_BYTES};

pub(super) const ENTRY: Entry = Entry {
    name: "token",
    samples,
    words: &[
        r#""alg":"HS256","#,
        r#""alg":"none","#,
        r#""kid":"a","#,
        r#""crit":["b64"],"#,
        r#""exp":1700000060,"#,
        r#""exp":1e400,"#,
        r#""nbf":-1,"#,
        r#""aud":["x","throng"],"#,
        r#""sub":"","#,
        r#""throng":{"send":["a*","b"],"broadcast":false},"#,
        r#"{"kty":"oct","k":"YWFh"},"#,
        "null",
        "1e308",
        "[[[[",
        "-----BEGIN PUBLIC KEY-----\n",
        "eyJhbGciOiJIUzI1NiJ9.",
    ],
    check,
    memory: (256 * 1024, 128),
};

const SECRET: &str = "a-secret-of-tests-that-everybody-knows";

const NOW: Duration = Duration::from_secs(1_700_000_000);

const RULES: Rules<'static> = Rules {
    algorithms: &[],
    issuer: None,
    audience: Some("throng"),
    leeway: Duration::from_secs(30),
    require_exp: true,
};

const PUBLIC_KEY: &str = "4-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";

fn samples() -> Vec<Vec<u8>> {
    let mut samples = owned(&[
        r#"0{"sub":"alice","exp":1700000060,"aud":"throng"}"#,
        r#"0{"sub":"bob","exp":1700000060.5,"nbf":1,"iat":1,"aud":["x","throng"],"throng":{"broadcast":false,"send":["alice","team-*"]}}"#,
        r#"1{"alg":"HS256","typ":"JWT"}"#,
        r#"3{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},{"kty":"AKP"}]}"#,
        r#"3{"keys":[{"kty":"EC","crv":"P-256","use":"sig","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#,
        PUBLIC_KEY,
        "4a-secret-of-tests-that-everybody-knows\n",
    ]);
    let whole = sign(r#"{"alg":"HS256"}"#, r#"{"sub":"alice","exp":1700000060,"aud":"throng"}"#.as_bytes());
    samples.push(format!("2{whole}").into_bytes());
    samples
}

fn sign(header: &str, claims: &[u8]) -> String {
    let part = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
    let signed = format!("{}.{}", part(header.as_bytes()), part(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = ring::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", part(signature.as_ref()))
}

fn check(input: &[u8]) -> bool {
    let Some((kind, rest)) = input.split_first() else { return false };
    match kind.wrapping_sub(b'0') % 5 {
        0 => check_token(&sign(r#"{"alg":"HS256"}"#, rest), true),
        1 => {
            let Ok(header) = std::str::from_utf8(rest) else { return false };
            check_token(&sign(header, br#"{"sub":"alice","exp":1700000060,"aud":"throng"}"#), true)
        }
        2 => std::str::from_utf8(rest).is_ok_and(|token| check_token(token, false)),
        3 => check_keys(Keys::from_jwks(rest)),
        _ => check_keys(Keys::from_key_file(rest)),
    }
}

/// What is believed has what it must have, and is not believed by other keys,
/// with its signature changed, or when it has expired.
fn check_token(token: &str, is_signed: bool) -> bool {
    let keys = Keys::from_key_file(SECRET.as_bytes()).expect("a secret");
    let bearer = match verify(token, &keys, &RULES, NOW) {
        Ok(bearer) => bearer,
        Err(fault) => {
            assert!(matches!(fault.status(), 401), "{fault}");
            assert!(!(is_signed && fault == Fault::Signature), "it was signed");
            return false;
        }
    };
    assert!(!bearer.user.is_empty() && bearer.user.len() <= USER_ID_BYTES);
    let expires_at = bearer.expires_at.expect("it is required");
    let late = Duration::from_secs(expires_at).saturating_add(RULES.leeway);
    assert!(NOW < late);
    assert_eq!(verify(token, &keys, &RULES, late), Err(Fault::Expired));
    if let Reach::Only(patterns) = &bearer.grants.send {
        assert!((1..=SEND_PATTERNS).contains(&patterns.len()));
    }
    let other = Keys::from_key_file(b"another-secret-of-at-least-32-bytes").expect("a secret");
    assert_eq!(verify(token, &other, &RULES, NOW), Err(Fault::Signature));
    let public = Keys::from_key_file(&PUBLIC_KEY.as_bytes()[1..]).expect("a key");
    assert_eq!(verify(token, &public, &RULES, NOW), Err(Fault::Algorithm));
    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    let turned: String = signature.chars().rev().collect();
    assert!(turned == signature || verify(&format!("{signed}.{turned}"), &keys, &RULES, NOW).is_err());
    true
}

fn check_keys(keys: Result<Keys, String>) -> bool {
    match keys {
        Ok(keys) => {
            assert!(keys.serve(&[]) && keys.passed_over().len() < KEYS);
            assert!(!keys.to_string().contains("secret") && !format!("{keys:?}").contains("secret"));
            true
        }
        Err(why) => {
            assert!(!why.is_empty() && !why.contains(['\n', '\r']), "{why:?}");
            false
        }
    }
}
