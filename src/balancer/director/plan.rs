//! What the director goes by.

use std::path::PathBuf;
use std::time::Duration;

use crate::balancer::health::{TIME_MAX, Timings};
use crate::balancer::roster::{Settings, Spec};
use crate::tls::Peers;

/// From the configuration. Times are taken as at least a millisecond, intervals
/// as at least ten, and all as at most a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Backends that are listed one by one.
    pub backends: Vec<Spec>,
    /// A file that lists more, one a line; it is watched.
    pub backends_file: Option<PathBuf>,
    /// A name all of whose addresses are backends on this port.
    pub backends_dns: Option<(String, u16)>,
    /// From one resolution of a name to the next; not more often than twice a second.
    pub dns_interval: Duration,
    /// From the beginning of one check of a backend to the next.
    pub health_interval: Duration,
    /// How long a check may take.
    pub health_timeout: Duration,
    /// Good checks in a row that bring a backend up, at least 1.
    pub health_rise: u32,
    /// Failed checks in a row that take one down, at least 1.
    pub health_fall: u32,
    /// What a check asks for: begins with `/`.
    pub health_path: String,
    /// From a tenth of a newcomer's weight to all of it; 0: at once.
    pub slow_start: Duration,
    /// The first ejection.
    pub ejection_min: Duration,
    /// The longest ejection.
    pub ejection_max: Duration,
    /// How long the connect of a check may take, if that is less than the check.
    pub connect_timeout: Duration,
    /// Whether backends expect a PROXY protocol header (version 2) before
    /// anything else; checks send one that says "local".
    pub send_proxy_header: bool,
    /// Who backends have to be, where TLS is spoken with them, by checks too.
    pub peers: Option<Peers>,
}

const INTERVAL_MIN: Duration = Duration::from_millis(10);
const TIME_MIN: Duration = Duration::from_millis(1);

impl Plan {
    /// The part that decides, within bounds.
    pub(super) fn settings(&self) -> Settings {
        let ejection_min = self.ejection_min.clamp(TIME_MIN, TIME_MAX);
        Settings {
            timings: Timings {
                rise: self.health_rise.max(1),
                fall: self.health_fall.max(1),
                slow_start: self.slow_start.min(TIME_MAX),
                ejection_min,
                ejection_max: self.ejection_max.clamp(ejection_min, TIME_MAX),
            },
            check_interval: self.health_interval.clamp(INTERVAL_MIN, TIME_MAX),
        }
    }

    pub(super) fn dns_interval(&self) -> Duration {
        self.dns_interval.clamp(INTERVAL_MIN, TIME_MAX)
    }

    pub(super) fn health_timeout(&self) -> Duration {
        self.health_timeout.clamp(TIME_MIN, TIME_MAX)
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout.clamp(TIME_MIN, self.health_timeout())
    }
}
