//! Finding a user among 100 000, and coming and going.
//!
//! `cargo bench --bench hub`

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop")]
#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use throng::hub::directory::Edge;
use throng::hub::{Homes, Hub, Route};
use throng::ids::{ConnId, ReactorId};

const USERS: usize = 100_000;

/// A step through the users that shares no factor with their number, so that
/// neighbours in memory are not asked for one after another.
const STRIDE: usize = 38_197;

fn conn(n: usize) -> ConnId {
    ConnId::new(ReactorId(0), n as u32, 1)
}

/// A hub that is home to everyone, and its users.
fn crowd() -> (Hub, Vec<Arc<str>>) {
    let mut hub = Hub::new(ReactorId(0), Homes::new(1, 42, "0badcafe"));
    let users: Vec<Arc<str>> = (0..USERS).map(|n| format!("user-{n:010}").into()).collect();
    for (n, user) in users.iter().enumerate() {
        hub.join(user, conn(n)).unwrap();
    }
    (hub, users)
}

fn hub(c: &mut Criterion) {
    let (mut hub, users) = crowd();
    let mut group = c.benchmark_group("hub/100000 users");
    let mut at = 0;
    let mut next = || {
        at = (at + STRIDE) % USERS;
        at
    };
    group.bench_function("route to a user", |b| {
        b.iter(|| {
            let n = next();
            assert_eq!(hub.route(black_box(&users[n])), Route::Connections(&[conn(n)]));
        });
    });
    group.bench_function("route to one who is offline", |b| {
        b.iter(|| assert_eq!(hub.route(black_box("nobody-0123456789")), Route::Offline));
    });
    let anonymous = hub.homes().anonymous(conn(77));
    group.bench_function("route to an anonymous user", |b| {
        b.iter(|| assert_eq!(hub.route(black_box(&anonymous)), Route::Anonymous(conn(77))));
    });
    let newcomer: Arc<str> = "newcomer-0123456789".into();
    group.bench_function("a user comes and goes", |b| {
        b.iter(|| {
            assert_eq!(hub.join(black_box(&newcomer), conn(USERS)), Ok(Edge::Online));
            assert_eq!(hub.leave(black_box(&newcomer), conn(USERS)), Edge::Offline);
        });
    });
    group.bench_function("a second connection comes and goes", |b| {
        b.iter(|| {
            let n = next();
            assert_eq!(hub.join(black_box(&users[n]), conn(USERS)), Ok(Edge::None));
            assert_eq!(hub.leave(black_box(&users[n]), conn(USERS)), Edge::None);
        });
    });
    let elsewhere = Hub::new(ReactorId(0), Homes::new(64, 42, "0badcafe"));
    group.bench_function("find the home among 64 reactors", |b| {
        b.iter(|| elsewhere.homes().of(black_box(&users[next()])));
    });
    group.finish();
}

criterion_group!(benches, hub);
criterion_main!(benches);
