//! Why a connection ended: a closed set, with what each reason means on the
//! wire, in the log and in the metrics. One table holds it all.

use log::Level;
use tungstenite::protocol::frame::coding::CloseCode;

/// The only way a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CloseReason {
    /// The peer sent a close frame; it was answered.
    PeerClosed,
    /// The peer closed the socket without a close frame.
    PeerVanished,
    /// Reading or writing failed (reset, timed out in the kernel).
    SocketError,
    /// An HTTP exchange ended as it should.
    HttpDone,
    /// An HTTP request was refused and the connection with it.
    HttpRefused,
    /// No complete request within `handshake_timeout`.
    HandshakeTimeout,
    /// The peer broke the protocol of TLS, or showed no certificate that is trusted.
    TlsFailed,
    /// A kept-alive HTTP connection was idle too long.
    HttpIdle,
    /// No sign of life within `heartbeat_timeout`.
    HeartbeatTimeout,
    /// The peer broke RFC 6455 or RFC 7692.
    ProtocolError,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// A message above `message_bytes_max`.
    MessageTooBig,
    /// More than `messages_per_second`.
    MessageRate,
    /// More owed to it than `outbound_bytes_max` under the policy `disconnect`.
    SlowConsumer,
    /// `require_user_id` is set and none was given.
    MissingUserId,
    /// The user id is too long, not UTF-8 or reserved, or has too many connections.
    UserRefused,
    /// Kicked by an administrator.
    Kicked,
    /// The node is draining.
    Draining,
    /// The node is draining and its deadline passed before the peer had answered.
    DrainDeadline,
    /// We closed and the peer did not answer in time.
    CloseTimeout,
    /// The token it was opened with has expired.
    TokenExpired,
}

/// One row of the table.
struct Facts {
    code: Option<u16>,
    text: &'static str,
    label: &'static str,
    level: Level,
}

impl CloseReason {
    /// All of them, in the order of their discriminants.
    pub const ALL: [CloseReason; 21] = [
        CloseReason::PeerClosed,
        CloseReason::PeerVanished,
        CloseReason::SocketError,
        CloseReason::HttpDone,
        CloseReason::HttpRefused,
        CloseReason::HandshakeTimeout,
        CloseReason::TlsFailed,
        CloseReason::HttpIdle,
        CloseReason::HeartbeatTimeout,
        CloseReason::ProtocolError,
        CloseReason::InvalidUtf8,
        CloseReason::MessageTooBig,
        CloseReason::MessageRate,
        CloseReason::SlowConsumer,
        CloseReason::MissingUserId,
        CloseReason::UserRefused,
        CloseReason::Kicked,
        CloseReason::Draining,
        CloseReason::DrainDeadline,
        CloseReason::CloseTimeout,
        CloseReason::TokenExpired,
    ];

    fn facts(self) -> Facts {
        use Level::{Debug, Info, Trace};
        let row = |code, text, label, level| Facts { code, text, label, level };
        match self {
            Self::PeerClosed => row(None, "", "peer_closed", Debug),
            Self::PeerVanished => row(None, "", "peer_vanished", Debug),
            Self::SocketError => row(None, "", "socket_error", Debug),
            Self::HttpDone => row(None, "", "http_done", Trace),
            Self::HttpRefused => row(None, "", "http_refused", Debug),
            Self::HandshakeTimeout => row(None, "", "handshake_timeout", Debug),
            Self::TlsFailed => row(None, "", "tls_failed", Debug),
            Self::HttpIdle => row(None, "", "http_idle", Trace),
            Self::HeartbeatTimeout => row(Some(1001), "No sign of life", "heartbeat_timeout", Debug),
            Self::ProtocolError => row(Some(1002), "Protocol error", "protocol_error", Debug),
            Self::InvalidUtf8 => row(Some(1007), "Invalid UTF-8", "invalid_utf8", Debug),
            Self::MessageTooBig => row(Some(1009), "Message too big", "message_too_big", Debug),
            Self::MessageRate => row(Some(1008), "Message rate exceeded", "message_rate", Debug),
            Self::SlowConsumer => row(Some(1008), "Slow consumer", "slow_consumer", Info),
            Self::MissingUserId => row(Some(4001), "Missing user_id", "missing_user_id", Debug),
            Self::UserRefused => row(Some(4002), "user_id refused", "user_refused", Debug),
            Self::Kicked => row(Some(4003), "Kicked", "kicked", Info),
            Self::Draining => row(Some(1012), "Server is draining", "draining", Debug),
            Self::DrainDeadline => row(None, "", "drain_deadline", Info),
            Self::CloseTimeout => row(None, "", "close_timeout", Debug),
            Self::TokenExpired => row(Some(4010), "Token expired", "token_expired", Debug),
        }
    }

    /// The code of the close frame sent to the peer; `None` when none is sent.
    pub fn code(self) -> Option<CloseCode> {
        self.facts().code.map(CloseCode::from)
    }

    /// The reason text of that frame, unless the closer gave one of its own.
    pub fn text(self) -> &'static str {
        self.facts().text
    }

    /// The value of the metric label `reason`.
    pub fn label(self) -> &'static str {
        self.facts().label
    }

    /// The level at which the end is logged.
    pub fn level(self) -> Level {
        self.facts().level
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_has_its_place_and_a_label_of_its_own() {
        let labels: HashSet<_> = CloseReason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), CloseReason::ALL.len());
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }

    #[test]
    fn codes_we_send_are_allowed_on_the_wire() {
        for reason in CloseReason::ALL {
            assert!(reason.code().is_none_or(CloseCode::is_allowed), "{reason:?}");
            assert!(reason.text().len() <= 123, "{reason:?}");
        }
    }
}
