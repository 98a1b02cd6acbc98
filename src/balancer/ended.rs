//! Why a pair ended: a closed set, with what each reason is called in the
//! metrics and how loudly it is logged.

use log::Level;

/// Why a pair ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ended {
    /// A WebSocket was closed by either side, as it should be.
    Closed,
    /// A plain request was answered.
    Answered,
    /// The client went before it had an answer.
    ClientLeft,
    /// The client's socket broke.
    ClientBroke,
    /// The backend's socket broke after its close frame.
    BackendBroke,
    /// The backend was lost; the client was told to come back.
    BackendLost,
    /// The backend was lost in the middle of a frame, so that the client could not be told.
    BackendLostMidFrame,
    /// The client was sent away because the balancer drains.
    Drained,
    /// The drain's deadline passed.
    DrainDeadline,
    /// The client sent no whole request in time.
    RequestTimeout,
    /// One side ended its direction and the other did not follow in time.
    HalfClosedTimeout,
    /// Nothing went either way for the idle timeout.
    IdleTimeout,
    /// No valid PROXY header.
    BadProxyHeader,
    /// A listener to events did not take them.
    SlowListener,
    /// The client broke the protocol of TLS, or showed no certificate that is trusted.
    TlsFailed,
    /// An address named by a PROXY header began too many handshakes of TLS.
    AddressRate,
}

impl Ended {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Ended; 16] = [
        Ended::Closed,
        Ended::Answered,
        Ended::ClientLeft,
        Ended::ClientBroke,
        Ended::BackendBroke,
        Ended::BackendLost,
        Ended::BackendLostMidFrame,
        Ended::Drained,
        Ended::DrainDeadline,
        Ended::RequestTimeout,
        Ended::HalfClosedTimeout,
        Ended::IdleTimeout,
        Ended::BadProxyHeader,
        Ended::SlowListener,
        Ended::TlsFailed,
        Ended::AddressRate,
    ];

    /// Why, when reading from a client fails.
    pub fn of_client(error: &std::io::Error) -> Ended {
        match error.kind() {
            std::io::ErrorKind::InvalidData => Ended::TlsFailed,
            _ => Ended::ClientBroke,
        }
    }

    /// The value of the metric label `reason`, and the level it is logged at.
    pub fn facts(self) -> (&'static str, Level) {
        match self {
            Ended::Closed => ("closed", Level::Debug),
            Ended::Answered => ("answered", Level::Trace),
            Ended::ClientLeft => ("client_left", Level::Debug),
            Ended::ClientBroke => ("client_broke", Level::Debug),
            Ended::BackendBroke => ("backend_broke", Level::Debug),
            Ended::BackendLost => ("backend_lost", Level::Debug),
            Ended::BackendLostMidFrame => ("backend_lost_mid_frame", Level::Info),
            Ended::Drained => ("drained", Level::Debug),
            Ended::DrainDeadline => ("drain_deadline", Level::Info),
            Ended::RequestTimeout => ("request_timeout", Level::Debug),
            Ended::HalfClosedTimeout => ("half_closed_timeout", Level::Debug),
            Ended::IdleTimeout => ("idle_timeout", Level::Debug),
            Ended::BadProxyHeader => ("bad_proxy_header", Level::Info),
            Ended::SlowListener => ("slow_listener", Level::Info),
            Ended::TlsFailed => ("tls_failed", Level::Debug),
            Ended::AddressRate => ("address_rate", Level::Debug),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_place_under_a_name_of_its_own() {
        let mut labels = std::collections::HashSet::new();
        for (place, reason) in Ended::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
            let (label, _) = reason.facts();
            assert!(label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{label}");
            assert!(labels.insert(label), "{label}");
        }
    }
}
