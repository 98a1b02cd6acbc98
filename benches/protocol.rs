//! What one message, one handshake and one HTTP request cost before a socket is
//! written: the JSON messages, the address limiter, the request head.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use throng::limiter::AddressLimiter;
use throng::{http, protocol};

/// What a browser sends to upgrade.
const UPGRADE: &[u8] = b"GET /ws?user_id=ann HTTP/1.1\r\n\
    Host: chat.example.org:8080\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\n\
    Upgrade: websocket\r\n\
    Origin: https://chat.example.org\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

fn messages(criterion: &mut Criterion) {
    let content = format!("\"{}\"", "x".repeat(98));
    let texts = [
        (
            "send_message",
            format!(r#"{{"type":"send_message","target_user":"user-0123456789","content":{content}}}"#),
        ),
        (
            "escaped_target",
            format!(r#"{{"type":"send_message","target_user":"\u00fcser","content":{content}}}"#),
        ),
        ("ping", r#"{"type":"ping"}"#.to_owned()),
    ];
    let mut group = criterion.benchmark_group("protocol/parse");
    for (name, text) in &texts {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), text.as_str(), |bencher, text| {
            bencher.iter(|| protocol::parse(black_box(text)));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("protocol/write");
    let mut out = Vec::with_capacity(1024);
    group.bench_function("message", |bencher| {
        bencher.iter(|| {
            out.clear();
            protocol::write_message(&mut out, black_box("user-0123456789"), black_box(&content));
            out.len()
        });
    });
    group.bench_function("welcome", |bencher| {
        let ip = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let identity = content.as_bytes();
        bencher.iter(|| {
            out.clear();
            protocol::write_welcome(&mut out, black_box("throng-a"), "2026-01-02T03:04:05Z", ip, identity);
            out.len()
        });
    });
    group.finish();
}

fn limiter(criterion: &mut Criterion) {
    const WINDOW: Duration = Duration::from_secs(60);
    let mut group = criterion.benchmark_group("limiter/admit");
    let limiter = AddressLimiter::new();
    let mut now_ms = 0;
    group.bench_function("one_address", |bencher| {
        bencher.iter(|| {
            now_ms += 1;
            limiter.admit(black_box(Ipv4Addr::LOCALHOST.into()), 100, WINDOW, now_ms)
        });
    });
    let limiter = AddressLimiter::new();
    let (mut address, mut now_ms) = (0u32, 0);
    group.bench_function("a_million_addresses", |bencher| {
        bencher.iter(|| {
            address = (address + 1) % 1_000_000;
            now_ms += u64::from(address % 16 == 0);
            limiter.admit(black_box(Ipv4Addr::from_bits(address).into()), 100, WINDOW, now_ms)
        });
    });
    group.finish();
}

fn request_head(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http");
    group.throughput(Throughput::Bytes(UPGRADE.len() as u64));
    group.bench_function("parse_upgrade", |bencher| bencher.iter(|| http::parse(black_box(UPGRADE)).is_ok()));
    group.finish();
}

criterion_group!(benches, messages, limiter, request_head);
criterion_main!(benches);
