//! Waits until every receiver can be reached: on several nodes that is some time after it has connected.

use crate::fleet::{Fleet, Load, Outbox};
use crate::frame;
use std::time::{Duration, Instant};

/// Between one probe of a pair and the next.
const AGAIN: Duration = Duration::from_millis(50);
/// Probes on the way that nobody needs any more are waited for so long.
const STRAGGLERS: Duration = Duration::from_millis(300);
/// Stands where messages carry their number. Without `seq=`, so that a late probe is not taken for a message.
const MARK: &str = "throng-load-probe";

struct Probe {
    /// For each pair, whether its receiver has got a probe.
    reached: Vec<bool>,
    missing: usize,
}

/// Sends probes in every pair until each has arrived: `texts` are what senders send, with `{seq}` where
/// the number goes. Comes back with the seconds that took; an error if it takes longer than `timeout`.
pub(crate) fn until_routable(fleet: &mut Fleet, texts: &[String], timeout: Duration) -> Result<f64, String> {
    let frames: Vec<Vec<u8>> = texts.iter().map(|text| framed(text)).collect();
    let mut probe = Probe { reached: vec![false; texts.len()], missing: texts.len() };
    let started = Instant::now();
    while probe.missing > 0 {
        if started.elapsed() > timeout {
            let Probe { missing, .. } = probe;
            return Err(format!("{missing} of {} receivers could not be reached in time", texts.len()));
        }
        for (pair, frame) in frames.iter().enumerate().filter(|(pair, _)| !probe.reached[*pair]) {
            fleet.send(2 * pair, frame);
        }
        fleet.run(&mut probe, Instant::now() + AGAIN)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    fleet.idle(STRAGGLERS)?;
    Ok(seconds)
}

fn framed(text: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    let text = text.replacen("{seq}", MARK, 1).replacen("{fill}", "", 1);
    frame::write(&mut frame, frame::TEXT, text.as_bytes());
    frame
}

impl Load for Probe {
    fn message(&mut self, from: usize, _opcode: u8, payload: &[u8], _now: u64) {
        let is_probe = payload.windows(MARK.len()).any(|window| window == MARK.as_bytes());
        if from % 2 == 1 && is_probe && !self.reached[from / 2] {
            self.reached[from / 2] = true;
            self.missing -= 1;
        }
    }

    fn read_done(&mut self, _: usize, _: u64, _: &mut Outbox) {}

    fn is_done(&self) -> bool {
        self.missing == 0
    }
}
