//! What it costs to believe a token: once per handshake, on the reactor.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use serde_json::json;
use std::hint::black_box;
use std::time::Duration;
use throng::auth::{self, Keys, Rules};
use throng::http::{self, Parsed};

#[path = "../tests/keys/signing.rs"]
mod signing;

use signing::{ED25519_PUBLIC, P256_PUBLIC, RSA_PUBLIC, SECRET, Signer};

const NOW: Duration = Duration::from_secs(1_700_000_000);

fn tokens(criterion: &mut Criterion) {
    let rules = Rules {
        algorithms: &[],
        issuer: Some("https://issuer.example"),
        audience: Some("throng"),
        leeway: Duration::from_secs(30),
        require_exp: true,
    };
    let claims = json!({
        "iss": "https://issuer.example", "aud": ["throng"], "sub": "user-0123456789", "iat": NOW.as_secs(),
        "exp": NOW.as_secs() + 600, "throng": {"broadcast": false, "send": ["support", "team-7-*"]},
    });
    let kinds = [
        (Signer::secret(SECRET), SECRET),
        (Signer::rsa(), RSA_PUBLIC),
        (Signer::p256(), P256_PUBLIC),
        (Signer::ed25519(), ED25519_PUBLIC),
    ];
    let mut group = criterion.benchmark_group("auth/verify");
    for (signer, public) in &kinds {
        let keys = Keys::from_key_file(public.as_bytes()).expect("a key");
        let token = signer.token(&claims);
        assert!(auth::verify(&token, &keys, &rules, NOW).is_ok());
        group.bench_function(BenchmarkId::from_parameter(signer.algorithm()), |bencher| {
            bencher.iter(|| auth::verify(black_box(&token), &keys, &rules, NOW));
        });
    }
    let keys = Keys::from_key_file(RSA_PUBLIC.as_bytes()).expect("a key");
    let confused = Signer::secret(RSA_PUBLIC).token(&claims);
    group.bench_function("refused/algorithm", |bencher| {
        bencher.iter(|| auth::verify(black_box(&confused), &keys, &rules, NOW));
    });
    group.finish();

    let token = kinds[0].0.token(&claims);
    let request = format!("GET /ws HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    let Ok(Parsed::Complete { head, .. }) = http::parse(request.as_bytes()) else {
        unreachable!("it is whole")
    };
    criterion.bench_function("auth/presented", |bencher| bencher.iter(|| auth::presented(black_box(&head))));
}

criterion_group!(benches, tokens);
criterion_main!(benches);
