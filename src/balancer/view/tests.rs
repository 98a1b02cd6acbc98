use super::stream::BytesPerSecond;
use super::*;
use crate::balancer::roster::{EventKind, Origin, State};
use bytes::Bytes;
use serde_json::Value;
use std::time::Instant;

pub(in crate::balancer) fn at(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_767_323_045_000 + ms)
}

/// One backend that is up, and one of which little is known.
pub(in crate::balancer) fn records() -> [BackendRecord; 2] {
    let up = BackendRecord {
        id: BackendId(1),
        name: "node-1:8080".to_owned(),
        address: Some("10.0.0.1:8080".parse().unwrap()),
        origin: Origin::Flag,
        weight: 1,
        state: State::Up,
        admin_drained: false,
        why: "3 checks passed".to_owned(),
        since: at(0),
        last_check: Some(Check {
            at: at(1500),
            ok: true,
            status: Some(200),
            latency: Duration::from_nanos(812_900),
            error: None,
        }),
        connections: 12,
        total: 345,
        failures: 2,
        bytes_to_backend: 1,
        bytes_to_clients: 2,
        max_connections: None,
    };
    let down = BackendRecord {
        id: BackendId(7),
        name: "a\"b:1".to_owned(),
        address: None,
        origin: Origin::Dns,
        weight: 1000,
        state: State::Down,
        admin_drained: true,
        why: "refused".to_owned(),
        last_check: Some(Check {
            at: at(0),
            ok: false,
            status: None,
            latency: Duration::from_secs(1),
            error: Some("timed out".to_owned()),
        }),
        max_connections: Some(100),
        connections: 0,
        ..up.clone()
    };
    [up, down]
}

pub(in crate::balancer) const UP: &str = concat!(
    r#"{"id":"b1","name":"node-1:8080","address":"10.0.0.1:8080","origin":"flag","weight":1,"#,
    r#""max_connections":null,"state":"up","drained":false,"why":"3 checks passed","#,
    r#""since":"2026-01-02T03:04:05.000Z","connections":12,"total":345,"failures":2,"bytes_to_backend":1,"#,
    r#""bytes_to_clients":2,"last_check":{"at":"2026-01-02T03:04:06.500Z","ok":true,"status":200,"#,
    r#""latency_ms":0.812,"error":null}}"#
);

pub(in crate::balancer) const DOWN: &str = concat!(
    r#"{"id":"b7","name":"a\"b:1","address":null,"origin":"dns","weight":1000,"#,
    r#""max_connections":100,"state":"down","drained":true,"why":"refused","#,
    r#""since":"2026-01-02T03:04:05.000Z","connections":0,"total":345,"failures":2,"bytes_to_backend":1,"#,
    r#""bytes_to_clients":2,"last_check":{"at":"2026-01-02T03:04:05.000Z","ok":false,"status":null,"#,
    r#""latency_ms":1000.0,"error":"timed out"}}"#
);

#[test]
fn a_backend_is_written_in_full() {
    for (record, expected) in records().iter().zip([UP, DOWN]) {
        assert_eq!(serde_json::to_string(&BackendView(record)).unwrap(), expected);
    }
    let fresh = BackendRecord { last_check: None, ..records()[0].clone() };
    let fresh = serde_json::to_value(BackendView(&fresh)).unwrap();
    assert_eq!(fresh["last_check"], Value::Null);
}

#[test]
fn any_time_can_be_written() {
    let check = |moment: SystemTime, expected: &str| assert_eq!(time(moment).to_string(), expected);
    check(at(7), "2026-01-02T03:04:05.007Z");
    check(UNIX_EPOCH - Duration::from_secs(9), "1970-01-01T00:00:00.000Z");
    check(UNIX_EPOCH + Duration::from_secs(LAST_SECOND + 1), "9999-12-31T23:59:59.000Z");
}

fn alice() -> ClientView<'static> {
    ClientView {
        id: "alice",
        generated: false,
        connection: "0-17-3",
        user_id: Some("alice"),
        name: None,
        address: "1.2.3.4:5678".parse().unwrap(),
        backend: Some(BackendId(1)),
        since: at(0),
        bytes_from_client: 1,
        bytes_to_client: 2,
    }
}

const ALICE: &str = concat!(
    r#"{"id":"alice","generated":false,"connection":"0-17-3","user_id":"alice","name":null,"#,
    r#""address":"1.2.3.4:5678","backend":"b1","since":"2026-01-02T03:04:05.000Z","#,
    r#""bytes_from_client":1,"bytes_to_client":2}"#
);

#[track_caller]
fn check_response(response: &crate::http::Response, status: u16, body: &str) {
    assert_eq!((response.status, &*String::from_utf8_lossy(&response.body)), (status, body));
}

#[test]
fn a_page_of_clients_says_how_it_goes_on() {
    let waiting = ClientView { id: "0-18-1", generated: true, user_id: None, backend: None, ..alice() };
    let second = ALICE
        .replace(r#"{"id":"alice","generated":false"#, r#"{"id":"0-18-1","generated":true"#)
        .replace(r#""user_id":"alice""#, r#""user_id":null"#)
        .replace(r#""b1""#, "null");
    let both = format!(r#"{{"clients":[{ALICE},{second}],"next":"0-18","total":9}}"#);
    check_response(&clients(&[alice(), waiting], Some("0-18"), 9), 200, &both);
    check_response(&clients(&[], None, 0), 200, r#"{"clients":[],"next":null,"total":0}"#);
}

#[test]
fn a_client_is_found_or_not() {
    let found = format!(r#"{{"client_id":"alice","connections":[{ALICE}]}}"#);
    check_response(&client("alice", &[alice()]), 200, &found);
    check_response(&client("bob", &[]), 404, r#"{"error":"no such client","status":404}"#);
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

fn happened(ms: u64, text: &str) -> LiveEvent {
    LiveEvent {
        at: at(ms),
        kind: EventKind::BackendDown,
        backend: Some(BackendId(1)),
        text: text.to_owned(),
        clients: 12,
    }
}

#[test]
fn an_event_is_one_line_of_data() {
    let written = History::default().event(&happened(0, "line\nline"));
    let expected = concat!(
        "event: event\n",
        r#"data: {"at":"2026-01-02T03:04:05.000Z","kind":"backend_down","backend":"b1","#,
        r#""text":"line\nline","clients":12}"#,
        "\n\n"
    );
    assert_eq!(text(&written), expected);
    let nobody = LiveEvent { backend: None, kind: EventKind::FileBad, ..happened(0, "") };
    let written = History::default().event(&nobody);
    assert!(text(&written).contains(r#""kind":"file_bad","backend":null,"#));
}

#[test]
fn a_snapshot_is_written_once_for_all() {
    let rates =
        PerSecond { bytes_per_second: BytesPerSecond { to_backends: 5, to_clients: 6 }, new_per_second: 7 };
    let view = SnapshotView {
        at: at(0),
        phase: "serving",
        strategy: "round_robin",
        connections: 1,
        queued: 2,
        accepted: 3,
        refused: 4,
        rates,
        backends: &records(),
    };
    let expected = format!(
        "event: snapshot\ndata: {}{},{}]}}\n\n",
        concat!(
            r#"{"at":"2026-01-02T03:04:05.000Z","phase":"serving","strategy":"round_robin","connections":1,"#,
            r#""queued":2,"accepted":3,"refused":4,"bytes_per_second":{"to_backends":5,"to_clients":6},"#,
            r#""new_per_second":7,"backends":["#
        ),
        UP,
        DOWN
    );
    assert_eq!(text(&view.to_event()), expected);
}

#[test]
fn a_listener_first_gets_what_was() {
    let mut history = History::default();
    assert_eq!(
        text(&history.opening()),
        "retry: 2000\nevent: history\ndata: {\"connections\":[],\"events\":[]}\n\n"
    );
    history.sample(at(0), 3);
    history.sample(at(1000), 4);
    history.event(&happened(1, "a"));
    let expected = concat!(
        "retry: 2000\nevent: history\n",
        r#"data: {"connections":[[1767323045000,3],[1767323046000,4]],"events":["#,
        r#"{"at":"2026-01-02T03:04:05.001Z","kind":"backend_down","backend":"b1","text":"a","clients":12}]}"#,
        "\n\n"
    );
    assert_eq!(text(&history.opening()), expected);
    assert_eq!(text(&history.opening()), expected, "again");
}

/// The parsed data of the opening.
fn opening(history: &mut History) -> Value {
    let opening = history.opening();
    let data = text(&opening).lines().find_map(|line| line.strip_prefix("data: "));
    serde_json::from_str(data.expect("data")).expect("JSON")
}

#[test]
fn history_is_bounded() {
    let mut history = History::default();
    for second in 0..1000 {
        history.sample(at(second * 1000), second);
        history.event(&happened(second, &second.to_string()));
    }
    let opened = opening(&mut history);
    let (samples, events) = (opened["connections"].as_array().unwrap(), opened["events"].as_array().unwrap());
    assert_eq!((samples.len(), &samples[0][1]), (300, &Value::from(700)));
    assert_eq!((events.len(), &events[0]["text"]), (100, &Value::from("900")));

    history.event(&happened(0, &"é".repeat(1000)));
    let opened = opening(&mut history);
    assert_eq!(opened["events"][99]["text"].as_str().map(str::len), Some(1024));
}

#[test]
fn samples_are_of_the_last_five_minutes_and_a_second_apart() {
    let check = |times: &[u64], expected: &[u64]| {
        let mut history = History::default();
        times.iter().for_each(|ms| history.sample(at(*ms), *ms));
        let opened = opening(&mut history);
        let kept: Vec<u64> = serde_json::from_value::<Vec<(u64, u64)>>(opened["connections"].clone())
            .unwrap()
            .into_iter()
            .map(|(_, ms)| ms)
            .collect();
        assert_eq!(kept, expected, "{times:?}");
    };
    check(&[0, 100, 499, 500, 1400], &[0, 500, 1400]);
    check(&[0, 1000, 300_999], &[1000, 300_999]);
    check(&[5000, 6000, 1000, 2000], &[1000, 2000]);
}

#[test]
fn rates_are_of_what_came_since() {
    let start = Instant::now();
    let mut rates = Rates::default();
    let mut check = |ms: u64, accepted: u64, to_backends: u64, to_clients: u64, expected: [u64; 3]| {
        let totals = Totals { accepted, to_backends, to_clients };
        let rates = rates.update(start + Duration::from_millis(ms), totals);
        let bytes = rates.bytes_per_second;
        assert_eq!([rates.new_per_second, bytes.to_backends, bytes.to_clients], expected, "at {ms} ms");
    };
    check(0, 50, 1000, 1000, [0, 0, 0]);
    check(1000, 60, 3000, 1000, [10, 2000, 0]);
    check(1200, 90, 9000, 9000, [10, 2000, 0]);
    check(3000, 80, 3000, 2000, [10, 0, 500]);
    check(3500, 0, 0, 2250, [0, 0, 500]);
}

#[test]
fn the_stream_begins_as_an_answer_without_length() {
    let head = std::str::from_utf8(stream_head()).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"));
    assert!(head.ends_with("\r\n\r\n") && !head.contains("content-length"));
}
