use super::*;
use crate::balancer::view::tests::records;
use crate::ids::ReactorId;
use std::collections::HashSet;
use std::path::Path;

fn example() -> String {
    let metrics = Metrics {
        started_at_seconds: 1_700_000_000.25,
        ..std::sync::Arc::into_inner(Metrics::new(2)).expect("the only owner")
    };
    for reactor in 0..2 {
        let row = metrics.thread(ReactorId(reactor));
        for (index, (counter, _)) in COUNTERS.iter().flat_map(|family| family.members).enumerate() {
            row.add(*counter, index as u64 + 1);
        }
        for family in GAUGES {
            row.set(family.gauge, family.gauge as u64 * 100 + u64::from(reactor));
        }
        row.ended(Ended::BackendLost);
    }
    metrics.balancer().set(Gauge::LogLinesDropped, 9);
    let state = BalancerState {
        version: "1.2.3",
        strategy: "ip_hash",
        phase: "serving",
        ready: true,
        backends: &records(),
    };
    let process = Process {
        resident_bytes: Some(4096),
        anonymous_bytes: Some(2048),
        cpu_seconds: Some(1.5),
        threads: Some(3),
        open_fds: Some(10),
        max_fds: Some(20_000),
    };
    write(&metrics, &state, process)
}

/// Set `UPDATE_GOLDEN` to write the file anew.
#[test]
fn the_text_is_the_golden_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/balancer_metrics.txt");
    let text = example();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).expect("the golden file can be written");
    }
    assert_eq!(std::fs::read_to_string(&path).expect("the golden file"), text);
}

#[test]
fn every_family_is_announced_once_and_holds_only_its_own_samples() {
    let text = example();
    let (mut announced, mut samples) = (HashSet::new(), HashSet::new());
    let mut family = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let help;
            (family, help) = rest.split_once(' ').expect("a help text");
            assert!(announced.insert(family), "{line}");
            assert!(family.starts_with("throng_balancer") || family.starts_with("process_"), "{line}");
            assert!(help.ends_with('.') && !family.ends_with("_total"), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ").or(line.strip_prefix("# UNIT ")) {
            assert_eq!(rest.split(' ').next(), Some(family), "{line}");
        } else if line != "# EOF" {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            assert!(
                matches!(name.strip_prefix(family), Some("" | "_total" | "_info")),
                "{line} under {family}"
            );
            let (series, value) = line.rsplit_once(' ').expect("a value");
            assert!(samples.insert(series.to_owned()), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(text.ends_with("\n# EOF\n"));
}

#[test]
fn a_balancer_without_backends_has_no_samples_of_them() {
    let state = BalancerState { version: "1", strategy: "a", phase: "b", ready: false, backends: &[] };
    let text = write(&Metrics::new(1), &state, Process::default());
    assert!(!text.contains("backend=\""), "{text}");
    assert!(text.contains("throng_balancer_ready 0\n"));
}
