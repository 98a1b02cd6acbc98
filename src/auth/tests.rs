//! Tokens of real keys, and what attackers make of them.

use serde_json::{Value, json};

use super::*;

#[path = "../../tests/keys/signing.rs"]
mod signing;

use signing::{ED25519_PUBLIC, P256_PUBLIC, RSA_PUBLIC, SECRET, Signer, jwks};

const NOW: u64 = 1_700_000_000;

const RULES: Rules<'static> = Rules {
    algorithms: &[],
    issuer: None,
    audience: None,
    leeway: Duration::from_secs(30),
    require_exp: true,
};

fn claims() -> Value {
    json!({"sub": "alice", "exp": NOW + 60})
}

fn verify_now(token: &str, keys: &Keys, rules: &Rules<'_>) -> Result<Bearer, Fault> {
    verify(token, keys, rules, Duration::from_secs(NOW))
}

fn file(text: &str) -> Keys {
    Keys::from_key_file(text.as_bytes()).expect("a key")
}

/// Who signs with each kind of key, and the file a node has.
fn all_kinds() -> [(Signer, &'static str); 4] {
    [
        (Signer::secret(SECRET), SECRET),
        (Signer::rsa(), RSA_PUBLIC),
        (Signer::p256(), P256_PUBLIC),
        (Signer::ed25519(), ED25519_PUBLIC),
    ]
}

#[test]
fn each_algorithm_with_its_key_and_no_other() {
    for (index, (signer, _)) in all_kinds().iter().enumerate() {
        let token = signer.token(&claims());
        for (other, (_, public)) in all_kinds().iter().enumerate() {
            let expected = if index == other { Ok("alice") } else { Err(Fault::Algorithm) };
            let found = verify_now(&token, &file(public), &RULES).map(|bearer| bearer.user);
            assert_eq!(found.as_deref(), expected.as_ref().copied(), "{} {other}", signer.algorithm());
        }
    }
}

#[test]
fn a_public_key_is_no_secret() {
    // Signed with what everybody knows, for verifiers that take the algorithm from the token.
    for (signer, public) in &all_kinds()[1..] {
        for secret in [*public, public.trim_end()] {
            let forger = Signer::secret(secret);
            for alg in ["HS256", signer.algorithm()] {
                let token = forger.token_with(&json!({"alg": alg}), &claims());
                let found = verify_now(&token, &file(public), &RULES);
                let expected = if alg == "HS256" { Fault::Algorithm } else { Fault::Signature };
                assert_eq!(found, Err(expected), "{alg} with the key of {}", signer.algorithm());
            }
        }
    }
}

#[test]
fn none_is_no_algorithm() {
    let signer = Signer::secret(SECRET);
    for alg in ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS512", "PS256", "ES512"] {
        let token = signer.token_with(&json!({"alg": alg}), &claims());
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        for token in [token, unsigned] {
            assert_eq!(verify_now(&token, &file(SECRET), &RULES), Err(Fault::Algorithm), "{alg:?}");
        }
    }
}

#[test]
fn what_a_token_says_of_its_keys_is_not_believed() {
    let forger = Signer::fresh();
    for name in ["jwk", "jku", "x5u", "x5c"] {
        let header = json!({"alg": "EdDSA", name: forger.jwk("a")});
        let token = forger.token_with(&header, &claims());
        assert_eq!(verify_now(&token, &file(ED25519_PUBLIC), &RULES), Err(Fault::Signature), "{name}");
    }
}

#[test]
fn any_change_shows() {
    for (signer, public) in &all_kinds() {
        let token = signer.token(&claims());
        let keys = file(public);
        let other = signer.token(&json!({"sub": "mallory", "exp": NOW + 60}));
        let parts: Vec<_> = token.split('.').collect();
        let others: Vec<_> = other.split('.').collect();
        let mixed = [parts[0], others[1], parts[2]].join(".");
        assert_eq!(verify_now(&mixed, &keys, &RULES), Err(Fault::Signature), "{}", signer.algorithm());
        for at in (0..token.len()).step_by(7) {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'Q' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(verify_now(&changed, &keys, &RULES).is_err(), "{at} of {token}");
        }
        for end in 0..token.len() {
            assert!(verify_now(&token[..end], &keys, &RULES).is_err(), "{end} of {token}");
        }
        let empty = format!("{}.{}.", parts[0], parts[1]);
        assert_eq!(verify_now(&empty, &keys, &RULES), Err(Fault::Signature));
    }
}

#[test]
fn the_examples_of_the_standards() {
    let check = |jwk: Value, token: &str, expected: Fault| {
        let keys = Keys::from_jwks(jwks(&[jwk]).as_bytes()).unwrap();
        // The signature is right: the first thing wrong is what the payload says, or is.
        assert_eq!(verify_now(token, &keys, &RULES), Err(expected), "{token}");
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let turned: String = signature.chars().rev().collect();
        assert!(matches!(
            verify_now(&format!("{signed}.{turned}"), &keys, &RULES),
            Err(Fault::Signature | Fault::Malformed)
        ));
    };
    const PAYLOAD: &str =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    // RFC 7515, appendices A.1, A.2 and A.3; RFC 8037, appendix A.4.
    check(
        json!({"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}),
        &format!(
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{PAYLOAD}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
        ),
        Fault::Expired,
    );
    check(
        json!({"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}),
        &format!(
            "eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
        ),
        Fault::Expired,
    );
    check(
        json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}),
        &format!(
            "eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
        ),
        Fault::Expired,
    );
    check(
        json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        Fault::Payload,
    );
}

fn check_claims(claims: Value, rules: &Rules<'_>, expected: Result<&str, Fault>) {
    check_text(&claims.to_string(), rules, expected);
}

fn check_text(claims: &str, rules: &Rules<'_>, expected: Result<&str, Fault>) {
    let token = Signer::secret(SECRET).token_of_texts(r#"{"alg":"HS256"}"#, claims);
    let found = verify_now(&token, &file(SECRET), rules).map(|bearer| bearer.user);
    assert_eq!(found.as_deref(), expected.as_ref().copied(), "{claims:.200}");
}

#[test]
fn times() {
    let check = |claims: Value, expected| check_claims(claims, &RULES, expected);
    check(json!({"sub": "a", "exp": NOW - 29}), Ok("a"));
    check(json!({"sub": "a", "exp": NOW - 30}), Err(Fault::Expired));
    check(json!({"sub": "a", "exp": 0}), Err(Fault::Expired));
    check(json!({"sub": "a", "exp": -1e18}), Err(Fault::Expired));
    check(json!({"sub": "a", "exp": 1e300}), Ok("a"));
    check(json!({"sub": "a", "exp": NOW as f64 + 0.5}), Ok("a"));
    check(json!({"sub": "a"}), Err(Fault::NoExpiry));
    check(json!({"sub": "a", "exp": NOW + 60, "nbf": NOW + 30, "iat": NOW + 30}), Ok("a"));
    check(json!({"sub": "a", "exp": NOW + 60, "nbf": NOW + 31}), Err(Fault::NotYetValid));
    check(json!({"sub": "a", "exp": NOW + 60, "iat": NOW + 31}), Err(Fault::NotYetValid));
    for name in ["exp", "nbf", "iat"] {
        for wrong in [json!("1800000000"), json!(null), json!(true), json!([NOW]), json!({})] {
            let mut claims = json!({"sub": "a", "exp": NOW + 60});
            claims[name] = wrong;
            check(claims, Err(Fault::Claim(name)));
        }
    }
    let lenient = Rules { require_exp: false, leeway: Duration::ZERO, ..RULES };
    check_claims(json!({"sub": "a"}), &lenient, Ok("a"));
    check_claims(json!({"sub": "a", "exp": NOW}), &lenient, Err(Fault::Expired));
    check_claims(json!({"sub": "a", "exp": null}), &lenient, Err(Fault::Claim("exp")));
}

#[test]
fn issuer_and_audience() {
    let rules = Rules { issuer: Some("https://issuer"), audience: Some("throng"), ..RULES };
    let check = |iss: Value, aud: Value, expected| {
        check_claims(json!({"sub": "a", "exp": NOW + 60, "iss": iss, "aud": aud}), &rules, expected);
    };
    check(json!("https://issuer"), json!("throng"), Ok("a"));
    check(json!("https://issuer"), json!(["other", "throng"]), Ok("a"));
    check(json!("https://issuer/"), json!("throng"), Err(Fault::Issuer));
    check(json!(["https://issuer"]), json!("throng"), Err(Fault::Claim("iss")));
    check(json!("https://issuer"), json!("throngs"), Err(Fault::Audience));
    check(json!("https://issuer"), json!([]), Err(Fault::Audience));
    check(json!("https://issuer"), json!([1, "throng"]), Err(Fault::Claim("aud")));
    check(json!("https://issuer"), json!(null), Err(Fault::Claim("aud")));
    check_claims(json!({"sub": "a", "exp": NOW + 60, "aud": "throng"}), &rules, Err(Fault::Issuer));
    check_claims(json!({"sub": "a", "exp": NOW + 60, "iss": "https://issuer"}), &rules, Err(Fault::Audience));
    check_claims(json!({"sub": "a", "exp": NOW + 60, "iss": "x", "aud": "y"}), &RULES, Ok("a"));
}

#[test]
fn subjects_and_payloads() {
    let check = |text: &str, expected| check_text(text, &RULES, expected);
    check(r#"{"exp":1800000000}"#, Err(Fault::Subject));
    check(r#"{"exp":1800000000,"sub":""}"#, Err(Fault::Subject));
    check(r#"{"exp":1800000000,"sub":7}"#, Err(Fault::Claim("sub")));
    check(r#"{"exp":1800000000,"sub":null}"#, Err(Fault::Claim("sub")));
    check(r#"{"exp":1800000000,"sub":"a","sub":"b"}"#, Err(Fault::Payload));
    check(r#"{"exp":1,"exp":1800000000,"sub":"a"}"#, Err(Fault::Payload));
    check(r#"{"exp":1800000000,"sub":"ü\u0020x","other":{"a":[1]}}"#, Ok("ü x"));
    for wrong in ["", "null", "[]", "7", r#""x""#, "{", r#"{"sub":"a"} x"#] {
        check(wrong, Err(Fault::Payload));
    }
    for (length, expected) in [(256, None), (257, Some(Fault::Subject))] {
        let user = "x".repeat(length);
        check_claims(json!({"sub": user, "exp": NOW + 60}), &RULES, expected.map_or(Ok(&user), Err));
    }
}

#[test]
fn grants_and_expiry_come_with_the_bearer() {
    let signer = Signer::secret(SECRET);
    let bearer = |claims: Value| verify_now(&signer.token(&claims), &file(SECRET), &RULES);
    let found = bearer(json!({"sub": "a", "exp": NOW as f64 + 60.9, "throng": {"broadcast": false}}));
    let grants = Grants { broadcast: false, send: Reach::Everybody };
    assert_eq!(found, Ok(Bearer { user: "a".into(), expires_at: Some(NOW + 60), grants }));
    let misspelt = bearer(json!({"sub": "a", "exp": NOW + 60, "throng": {"brodcast": false}}));
    assert_eq!(misspelt, Err(Fault::Claim("throng")));
    let null = bearer(json!({"sub": "a", "exp": NOW + 60, "throng": null}));
    assert_eq!(null, Err(Fault::Claim("throng")));
}

#[test]
fn algorithms_can_be_narrowed() {
    let set = jwks(&[Signer::rsa().jwk("r"), Signer::ed25519().jwk("e")]);
    let keys = Keys::from_jwks(set.as_bytes()).unwrap();
    let rules = Rules { algorithms: &[Algorithm::EdDsa], ..RULES };
    assert!(verify_now(&Signer::ed25519().token_of("e", &claims()), &keys, &rules).is_ok());
    let refused = verify_now(&Signer::rsa().token_of("r", &claims()), &keys, &rules);
    assert_eq!(refused, Err(Fault::Algorithm));
    assert!(keys.serve(&[]) && keys.serve(&[Algorithm::EdDsa]) && !keys.serve(&[Algorithm::Hs256]));
}

#[test]
fn a_token_names_its_key() {
    let (one, two, rsa) = (Signer::fresh(), Signer::fresh(), Signer::rsa());
    let set = jwks(&[one.jwk("1"), two.jwk("2"), rsa.jwk("1")]);
    let keys = Keys::from_jwks(set.as_bytes()).unwrap();
    let check = |token: String, expected: Result<(), Fault>| {
        assert_eq!(verify_now(&token, &keys, &RULES).map(drop), expected);
    };
    check(one.token_of("1", &claims()), Ok(()));
    check(two.token_of("2", &claims()), Ok(()));
    check(one.token_of("2", &claims()), Err(Fault::Signature));
    check(one.token_of("3", &claims()), Err(Fault::UnknownKey));
    check(one.token(&claims()), Err(Fault::UnknownKey));
    check(rsa.token_of("1", &claims()), Ok(()));
    check(rsa.token_of("2", &claims()), Err(Fault::Algorithm));
    check(rsa.token(&claims()), Ok(()));
    // A key in a file of its own has no id, so whatever a token names is that key.
    assert!(verify_now(&rsa.token_of("any", &claims()), &file(RSA_PUBLIC), &RULES).is_ok());
}

#[test]
fn a_key_ring_has_the_keys_put_on_it_last() {
    let ring = KeyRing::new(file(SECRET));
    let before = ring.keys();
    ring.replace(file(ED25519_PUBLIC));
    let token = Signer::ed25519().token(&claims());
    assert!(verify_now(&token, &ring.keys(), &RULES).is_ok());
    assert_eq!(verify_now(&token, &before, &RULES), Err(Fault::Algorithm));
}

mod files {
    use super::signing::{P384_PUBLIC, RSA_1024_PUBLIC, RSA_PRIVATE};
    use super::*;

    fn check_file(text: &str, mentions: &str) {
        let error = Keys::from_key_file(text.as_bytes()).expect_err(text);
        assert!(error.contains(mentions), "{text:.60}: {error}");
        assert_is_silent(&error, text);
    }

    fn check_set(text: &str, mentions: &str) {
        let error = Keys::from_jwks(text.as_bytes()).expect_err(text);
        assert!(error.contains(mentions), "{text:.100}: {error}");
        assert!(!error.contains("sesame") && !error.contains('\n'), "{error}");
    }

    /// Nothing of a file's lines is in what is said of it.
    fn assert_is_silent(error: &str, text: &str) {
        assert!(!error.contains('\n'));
        let long = text.lines().filter(|line| line.len() > 12 && !line.contains('-'));
        assert!(long.clone().all(|line| !error.contains(line)), "{error}");
    }

    #[test]
    fn a_secret_is_what_nobody_else_knows() {
        check_file("", "32 bytes");
        check_file("short", "cannot be used: a secret for HS256 has at least 32 bytes");
        check_file(&"x".repeat(31), "32 bytes");
        assert!(Keys::from_key_file(format!(" {}\n", "x".repeat(32)).as_bytes()).is_ok());
        check_file("a phrase of several words, which is longer than that", "neither");
        check_file("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMmG0dAbdeFGhIjKl me@host", "neither");
        check_file(&jwks(&[Signer::rsa().jwk("a")]), "jwt_jwks_file");
        assert!(Keys::from_key_file(&[0xff; 64]).is_err());
        for public in [RSA_PUBLIC, P256_PUBLIC, ED25519_PUBLIC] {
            let bare: String = public.lines().filter(|line| !line.contains("-----")).collect();
            check_file(&bare, "without the lines of PEM");
        }
    }

    #[test]
    fn a_public_key_is_one_of_ours() {
        check_file(RSA_PRIVATE, "private key");
        check_file(RSA_1024_PUBLIC, "1024 bits");
        check_file(P384_PUBLIC, "neither RSA nor of P-256");
        check_file(&format!("{RSA_PUBLIC}{P256_PUBLIC}"), "more than one");
        check_file(&RSA_PUBLIC.replace("PUBLIC", "CURIOUS"), "another kind");
        check_file(&RSA_PUBLIC.replace("PUBLIC KEY", "CERTIFICATE"), "openssl x509");
        check_file(&RSA_PUBLIC.replace("-----END", "-----FIN"), "PEM");
        let first_line = RSA_PUBLIC.lines().nth(1).unwrap();
        check_file(&RSA_PUBLIC.replace(first_line, ""), "well-formed");
    }

    #[test]
    fn sets_of_keys() {
        let good = Signer::ed25519().jwk("good");
        let mut other_purpose = Signer::rsa().jwk("enc");
        other_purpose["use"] = "enc".into();
        let mut other_algorithm = Signer::rsa().jwk("r512");
        other_algorithm["alg"] = "RS512".into();
        let mut signs = Signer::p256().jwk("signs");
        signs["key_ops"] = json!(["sign"]);
        let unknown = json!({"kty": "AKP", "kid": "new"});
        let curve = json!({"kty": "EC", "crv": "P-521", "kid": "wide"});
        let set = jwks(&[good.clone(), other_purpose, other_algorithm, signs, unknown.clone(), curve]);
        let keys = Keys::from_jwks(set.as_bytes()).unwrap();
        assert_eq!(keys.to_string(), r#"1 key (EdDSA "good")"#);
        assert_eq!(keys.passed_over().len(), 5, "{:?}", keys.passed_over());
        check_set(&jwks(&[unknown]), "no key of use");
        check_set(&jwks(&[]), "no key");
        check_set(&jwks(&[good.clone(), good]), "two keys");
        check_set("sesame", "not a JWK Set");
        check_set(r#"{"keys":{"sesame":1}}"#, "not a JWK Set: line 1");
        check_set(r#"{"keys":[{"kty":"sesame"}]}"#, "key 1");
        let many: Vec<_> = (0..65).map(|index| Signer::ed25519().jwk(&index.to_string())).collect();
        check_set(&jwks(&many), "65 keys");
        assert!(Keys::from_jwks(jwks(&many[1..]).as_bytes()).is_ok());
    }

    #[test]
    fn a_broken_key_is_an_error() {
        let check = |signer: &Signer, member: &str, value: Value, mentions: &str| {
            let mut key = signer.jwk("sesam");
            key[member] = value;
            check_set(&jwks(&[key]), mentions);
        };
        check(&Signer::rsa(), "n", json!("sesame!"), "n is not base64url");
        check(&Signer::rsa(), "n", Value::Null, "has no n");
        check(&Signer::rsa(), "n", json!("AQAB"), "17 bits");
        check(&Signer::rsa(), "e", json!("AQ"), "no RSA public key");
        check(&Signer::rsa(), "e", json!("AA"), "no RSA public key");
        check(&Signer::rsa(), "d", json!("sesame"), "private");
        check(&Signer::p256(), "y", json!("AQAB"), "32 bytes each");
        check(&Signer::ed25519(), "x", json!("AQAB"), "32 bytes");
        check(&Signer::ed25519(), "kid", json!("x".repeat(257)), "kid is longer");
        check(&Signer::secret(SECRET), "k", json!("c2VzYW1l"), "at least 32 bytes");
    }

    #[test]
    fn nothing_shows_a_secret() {
        let keys = Keys::from_key_file(SECRET.as_bytes()).unwrap();
        let set = Keys::from_jwks(jwks(&[Signer::secret(SECRET).jwk("s")]).as_bytes()).unwrap();
        assert_eq!(keys.to_string(), "1 key (HS256)");
        assert_eq!(set.to_string(), r#"1 key (HS256 "s")"#);
        for shown in [format!("{keys:?}"), format!("{:?}", KeyRing::new(set))] {
            assert!(!shown.contains("secret") && shown.len() < 100, "{shown}");
        }
    }
}
