//! How long a backend whose connections fail is left alone.
//!
//! Owns: [`Ejections`], the one that lasts and the memory of the last one. Never:
//! whether there is to be one.

use std::time::{Duration, Instant};

use fastrand::Rng;

use super::{Scene, Timings};

#[derive(Clone, Debug, Default)]
pub(super) struct Ejections {
    current: Option<Ejection>,
    /// Length and end of the last one.
    last: Option<(Duration, Instant)>,
}

#[derive(Clone, Debug)]
struct Ejection {
    until: Instant,
    why: String,
}

impl Ejections {
    /// Begins one. Soon after the last it is twice as long; jitter keeps
    /// balancers from coming back in step.
    pub(super) fn begin(&mut self, why: String, scene: &Scene<'_>, rng: &mut Rng) {
        let Timings { ejection_min, ejection_max, .. } = *scene.timings;
        let remembered = |length: Duration| (length * 2).max(ejection_min * 10);
        let length = match self.last {
            Some((length, end)) if scene.now.saturating_duration_since(end) < remembered(length) => {
                length * 2
            }
            _ => ejection_min,
        };
        let length = length.min(ejection_max);
        let until = scene.now + (length * rng.u32(80..=120) / 100).min(ejection_max);
        self.current = Some(Ejection { until, why });
        self.last = Some((length, until));
    }

    /// Ends one that has lasted its time, because something succeeded.
    pub(super) fn pardon(&mut self, now: Instant) {
        if self.until().is_some_and(|until| until <= now) {
            self.current = None;
            self.last = self.last.map(|(length, _)| (length, now));
        }
    }

    /// Ends one because checks have taken over.
    pub(super) fn end(&mut self) {
        self.current = None;
    }

    /// When the one there is has lasted its time.
    pub(super) fn until(&self) -> Option<Instant> {
        self.current.as_ref().map(|ejection| ejection.until)
    }

    pub(super) fn why(&self) -> &str {
        self.current.as_ref().map_or("", |ejection| &ejection.why)
    }
}
