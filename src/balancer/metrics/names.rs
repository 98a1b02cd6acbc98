//! Every metric of a balancer: its name, what it says, and the cell it is kept in.

use crate::metrics::family::{self, Unit};

/// Something that only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Sockets accepted.
    Accepted,
    /// Calls of accept that failed, for want of descriptors or memory.
    AcceptErrors,
    /// TLS handshakes with clients, with a signature.
    TlsFull,
    /// TLS handshakes with clients that went on from an earlier connection's.
    TlsResumed,
    /// Clients that broke the protocol of TLS, most of them in the handshake.
    TlsFailed,
    /// TLS handshakes that did not begin because their address begins too many.
    TlsRefusedAddress,
    /// Upgrades that a backend granted.
    Upgrades,
    /// Plain requests that a backend answered.
    PlainRequests,
    /// Requests that the balancer answered itself.
    OwnRequests,
    /// Times a client was tried with another backend.
    Retries,
    /// Clients refused because no backend took them (503).
    RefusedNoBackend,
    /// Clients refused because too many wait, or one waited too long (503).
    RefusedQueueFull,
    /// Clients refused because the balancer is full (503).
    RefusedCapacity,
    /// Requests that could not be passed on (400 and the like).
    RefusedBadRequest,
    /// Clients refused because the balancer is draining (503).
    RefusedDraining,
    /// Clients refused because their address connects too often (429).
    RefusedAddress,
    /// Connects to backends that failed, no answers, and 5xx other than 503 to upgrades.
    HandshakesFailed,
    /// Bytes sent to backends.
    BytesToBackends,
    /// Bytes sent to clients.
    BytesToClients,
    /// Clients sent away because their backend was lost.
    Failovers,
    /// Turns taken by reactors.
    Turns,
    /// Times a reactor was woken to look at its mailbox.
    Wakes,
    /// Times one direction of a pair was left unread because the other end does not read.
    PumpsPaused,
}

impl Counter {
    /// How many there are.
    pub const COUNT: usize = Counter::PumpsPaused as usize + 1;
}

/// Something that goes up and down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gauge {
    /// Clients that have a backend, or are about to.
    Pairs,
    /// Clients that wait for a backend below its maximum.
    Queued,
    /// Bytes held because their reader does not take them.
    HeldBytes,
    /// Listeners to the stream of events.
    Listeners,
    /// Open client connections of any kind.
    Sockets,
    /// How long the drain has taken, or took, in milliseconds.
    DrainMilliseconds,
    /// Until when the certificate in force is valid, in milliseconds since the Unix epoch.
    CertificateExpiryMilliseconds,
    /// Log lines left out because nobody read them; kept elsewhere, it only grows.
    LogLinesDropped,
}

impl Gauge {
    /// How many there are.
    pub const COUNT: usize = Gauge::LogLinesDropped as usize + 1;
}

type CounterFamily = family::CounterFamily<Counter>;
type GaugeFamily = family::GaugeFamily<Gauge>;

const fn one(
    counter: &'static [(Counter, &'static str); 1],
    name: &'static str,
    help: &'static str,
) -> CounterFamily {
    CounterFamily { name, help, unit: Unit::Count, label: "", members: counter }
}

/// All that is a refusal, with the reason.
pub(super) const REFUSED: &[(Counter, &str)] = &[
    (Counter::RefusedNoBackend, "no_backend"),
    (Counter::RefusedQueueFull, "queue_full"),
    (Counter::RefusedCapacity, "capacity"),
    (Counter::RefusedBadRequest, "bad_request"),
    (Counter::RefusedDraining, "draining"),
    (Counter::RefusedAddress, "address_rate"),
];

/// All counters but pairs ended, which have one per reason.
pub(super) const COUNTERS: &[CounterFamily] = &[
    one(&[(Counter::Accepted, "")], "throng_balancer_accepted_sockets", "Sockets accepted."),
    one(
        &[(Counter::AcceptErrors, "")],
        "throng_balancer_accept_errors",
        "Calls of accept that failed, for want of descriptors or memory.",
    ),
    CounterFamily {
        name: "throng_balancer_tls_handshakes",
        help: "TLS handshakes with clients, by outcome; failed counts later breaches of the protocol, too, and address_rate those that did not begin.",
        unit: Unit::Count,
        label: "outcome",
        members: &[
            (Counter::TlsFull, "full"),
            (Counter::TlsResumed, "resumed"),
            (Counter::TlsFailed, "failed"),
            (Counter::TlsRefusedAddress, "address_rate"),
        ],
    },
    CounterFamily {
        name: "throng_balancer_requests",
        help: "Requests: upgrades and plain ones for which a backend was sought, and those for the balancer itself.",
        unit: Unit::Count,
        label: "kind",
        members: &[
            (Counter::Upgrades, "upgrade"),
            (Counter::PlainRequests, "plain"),
            (Counter::OwnRequests, "own"),
        ],
    },
    CounterFamily {
        name: "throng_balancer_refused",
        help: "Clients refused, by reason.",
        unit: Unit::Count,
        label: "reason",
        members: REFUSED,
    },
    one(
        &[(Counter::Retries, "")],
        "throng_balancer_retries",
        "Times a client was tried with another backend.",
    ),
    one(
        &[(Counter::HandshakesFailed, "")],
        "throng_balancer_handshakes_failed",
        "Connects to backends that failed, requests they did not answer, and upgrades they answered 5xx other than 503.",
    ),
    CounterFamily {
        name: "throng_balancer_passed",
        help: "Bytes passed on, by direction.",
        unit: Unit::Bytes,
        label: "direction",
        members: &[(Counter::BytesToBackends, "to_backends"), (Counter::BytesToClients, "to_clients")],
    },
    one(
        &[(Counter::Failovers, "")],
        "throng_balancer_failovers",
        "Clients sent away because their backend was lost.",
    ),
    one(
        &[(Counter::PumpsPaused, "")],
        "throng_balancer_pumps_paused",
        "Times one direction of a pair was left unread because the other end does not read.",
    ),
    one(
        &[(Counter::Wakes, "")],
        "throng_balancer_reactor_wakes",
        "Times a reactor was woken to look at its mailbox.",
    ),
    one(&[(Counter::Turns, "")], "throng_balancer_reactor_turns", "Turns taken by reactors."),
];

/// How pairs ended, by the labels of the reasons.
pub(super) const ENDED: (&str, &str) =
    ("throng_balancer_pairs_ended", "Client connections that ended, by reason.");

/// What [`Gauge::LogLinesDropped`] is shown as.
pub(super) const LOG_LINES: (&str, &str) =
    ("throng_balancer_log_lines_dropped", "Log lines left out because stderr took no more.");

const fn gauge(gauge: Gauge, name: &'static str, help: &'static str) -> GaugeFamily {
    GaugeFamily { gauge, name, help, unit: Unit::Count, per_reactor: false }
}

/// All gauges but [`Gauge::LogLinesDropped`].
pub(super) const GAUGES: &[GaugeFamily] = &[
    GaugeFamily {
        per_reactor: true,
        ..gauge(
            Gauge::Pairs,
            "throng_balancer_pairs",
            "Clients that have a backend, or are about to, by reactor.",
        )
    },
    GaugeFamily {
        per_reactor: true,
        ..gauge(Gauge::Sockets, "throng_balancer_sockets", "Open client connections of any kind, by reactor.")
    },
    gauge(Gauge::Queued, "throng_balancer_queued", "Clients that wait for a backend below its maximum."),
    GaugeFamily {
        unit: Unit::Bytes,
        ..gauge(
            Gauge::HeldBytes,
            "throng_balancer_held",
            "Bytes held because their reader does not take them.",
        )
    },
    gauge(Gauge::Listeners, "throng_balancer_listeners", "Listeners to the stream of events."),
    GaugeFamily {
        unit: Unit::Seconds,
        ..gauge(
            Gauge::DrainMilliseconds,
            "throng_balancer_drain",
            "How long the drain has taken; 0 while serving.",
        )
    },
    GaugeFamily {
        unit: Unit::Seconds,
        ..gauge(
            Gauge::CertificateExpiryMilliseconds,
            "throng_balancer_tls_certificate_expiry_timestamp",
            "Until when the certificate shown to clients is valid, since the Unix epoch; 0 without TLS.",
        )
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check_every_cell_once(mut cells: Vec<usize>, count: usize) {
        cells.sort_unstable();
        assert_eq!(cells, (0..count).collect::<Vec<_>>());
    }

    #[test]
    fn every_cell_is_shown_once() {
        let counters = COUNTERS.iter().flat_map(|family| family.members);
        check_every_cell_once(counters.map(|(counter, _)| *counter as usize).collect(), Counter::COUNT);
        let apart = Gauge::LogLinesDropped as usize;
        let gauges = GAUGES.iter().map(|family| family.gauge as usize).chain([apart]);
        check_every_cell_once(gauges.collect(), Gauge::COUNT);
    }

    #[test]
    fn families_of_several_have_a_label_and_families_of_one_have_none() {
        for family in COUNTERS {
            assert_eq!(family.members.len() > 1, !family.label.is_empty(), "{}", family.name);
            assert!(family.members.iter().all(|(_, value)| value.is_empty() == family.label.is_empty()));
        }
    }
}
