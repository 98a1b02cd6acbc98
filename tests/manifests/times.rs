//! How long things may take: whoever waits for a drain has to wait for its end.

use std::time::{Duration, Instant};

use serde_json::Value;
use throng::drain::{Action, Drain, Plan};

use crate::files::{document, path};
use crate::overlay::{FULL, Overlay, Workload};
use crate::program::{of_pod, of_service};

/// What else it takes to end: leaving Redis, writing the last of the log, the
/// one who measures.
const ROOM: Duration = Duration::from_secs(5);

/// The longest a drain takes, found by one whose reactors never report.
fn longest(plan: Plan) -> Duration {
    let begin = Instant::now();
    let mut drain = Drain::new(1);
    assert_eq!(drain.handle_request(plan, begin), Some(Action::FailReadiness));
    let mut now = begin;
    while let Some(deadline) = drain.poll_deadline() {
        now = deadline;
        assert!(drain.handle_timeout(now).is_some());
    }
    now - begin
}

fn seconds(value: &Value) -> Duration {
    Duration::from_secs(value.as_u64().unwrap_or_else(|| panic!("{value} is no number of seconds")))
}

fn grace(workload: &Workload<'_>) -> Duration {
    seconds(&workload.pod["terminationGracePeriodSeconds"])
}

#[test]
fn the_longest_drain_is_the_sum_of_its_parts() {
    let second = Duration::from_secs(1);
    let sum = longest(Plan { lame_duck: second, window: second, timeout: 2 * second });
    assert!(sum > 3 * second && sum < 10 * second, "{sum:?}");
}

#[test]
fn pods_are_given_the_time_of_their_drain() {
    let overlay = Overlay::read(FULL);
    for name in ["throng", "throng-balance"] {
        let workload = overlay.workload(name);
        let plan = of_pod(&overlay, &workload).unwrap().plan().unwrap();
        let before = seconds(&workload.container["lifecycle"]["preStop"]["sleep"]["seconds"]);
        let needed = before + longest(plan) + ROOM;
        assert!(grace(&workload) >= needed, "{name} needs {needed:?}");
        assert!(grace(&workload) <= 2 * needed, "{name}: a pod that hangs is waited for too long");
    }
}

#[test]
fn a_lame_duck_lasts_until_its_probe_has_failed() {
    let overlay = Overlay::read(FULL);
    for name in ["throng", "throng-balance"] {
        let workload = overlay.workload(name);
        let plan = of_pod(&overlay, &workload).unwrap().plan().unwrap();
        let probe = &workload.container["readinessProbe"];
        let noticed = seconds(&probe["periodSeconds"]) * probe["failureThreshold"].as_u64().unwrap() as u32;
        assert!(noticed <= plan.lame_duck, "{name}: noticed after {noticed:?}");
    }
}

#[test]
fn a_busy_pod_is_not_killed_for_being_slow() {
    let overlay = Overlay::read(FULL);
    for name in ["throng", "throng-balance"] {
        let probe = &overlay.workload(name).container["livenessProbe"];
        let patience = seconds(&probe["periodSeconds"]) * probe["failureThreshold"].as_u64().unwrap() as u32;
        assert!(patience >= Duration::from_secs(20), "{name}: {patience:?}");
    }
}

#[test]
fn the_autoscaler_waits_for_the_last_drain_before_the_next() {
    let overlay = Overlay::read(FULL);
    let down = &overlay.object("HorizontalPodAutoscaler", "throng")["spec"]["behavior"]["scaleDown"];
    let policy = &down["policies"][0];
    assert_eq!((&policy["type"], &policy["value"]), (&"Pods".into(), &1.into()));
    assert!(seconds(&policy["periodSeconds"]) >= grace(&overlay.workload("throng")));
}

#[test]
fn compose_waits_for_a_drain() {
    for (name, service) in document(&path("compose.yaml"))["services"].as_object().unwrap() {
        let Some(plan) = of_service(service).and_then(|program| program.plan()) else { continue };
        let grace = service["stop_grace_period"].as_str().unwrap().parse::<humantime::Duration>().unwrap();
        let needed = longest(plan) + ROOM;
        assert!(*grace >= needed, "{name} needs {needed:?}");
    }
}
