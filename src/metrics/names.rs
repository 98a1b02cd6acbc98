//! Every metric of a node: its name, what it says, and the cell it is kept in.

use super::family::{self, Unit};

/// Something that only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Sockets accepted.
    Accepted,
    /// Calls of accept that failed, for want of descriptors or memory.
    AcceptErrors,
    /// HTTP requests answered, upgrades left out.
    HttpRequests,
    /// Upgrades answered with 101.
    HandshakesCompleted,
    /// Upgrades refused as malformed or as none of the paths for it (400, 404, 405, 426).
    HandshakesRefused,
    /// Upgrades refused for their Origin (403).
    OriginRefused,
    /// Upgrades refused because their address connects too often (429).
    AddressRefused,
    /// Upgrades refused because the node is full (503).
    CapacityRefused,
    /// Upgrades refused because the node is draining (503).
    DrainingRefused,
    /// Upgrades refused because the home of the user takes no more messages (503).
    OverloadRefused,
    /// Upgrades refused for their token, or for want of one (401, 403).
    Unauthorized,
    /// TLS handshakes with a signature.
    TlsFull,
    /// TLS handshakes that went on from an earlier connection's.
    TlsResumed,
    /// TLS connections that ended by breaking the protocol, most of them in the handshake.
    TlsFailed,
    /// TLS handshakes that did not begin because their address begins too many.
    TlsAddressRefused,
    /// Messages to everybody that the client may not send.
    BroadcastsDenied,
    /// Messages to a user that the client may not send.
    SendsDenied,
    /// Bytes read from sockets.
    BytesReceived,
    /// Bytes written to sockets.
    BytesSent,
    /// Messages to a user, handed to at least one connection of this node.
    Delivered,
    /// Messages to a user who has no connection.
    Undelivered,
    /// Messages to everybody that were asked for.
    Broadcasts,
    /// Messages not queued because the client reads too slowly.
    DroppedSlowConsumer,
    /// Messages between reactors that found the mailbox full.
    DroppedMailboxFull,
    /// Messages for a connection that ended before they reached it.
    DroppedGone,
    /// Users whose first connection on this node opened.
    UsersOnline,
    /// Users whose last connection on this node closed.
    UsersOffline,
    /// Heartbeat pings sent.
    PingsSent,
    /// Times a connection's input was left unread because it does not read its own replies.
    ReadsPaused,
    /// Times a reactor was woken to look at its mailbox.
    Wakes,
    /// Turns taken by reactors.
    Turns,
    /// Notices sent to clients that the node is going.
    ShutdownNotices,
    /// Log lines left out because nobody read them.
    LogLinesDropped,
    /// Presence events left out because the embedding program did not take them.
    PresenceDropped,
    /// Batches of envelopes published for other nodes.
    ClusterBatchesSent,
    /// Their bytes.
    ClusterBytesSent,
    /// Batches of envelopes heard from other nodes.
    ClusterBatchesReceived,
    /// Users looked up in Redis.
    ClusterLookups,
    /// Times something missing of a stream was asked for.
    ClusterGaps,
    /// Times a part of this node's stream was repeated for another node.
    ClusterRepairs,
    /// Envelopes that could not be repeated.
    ClusterEnvelopesLost,
    /// Clients' messages that came back because their users had left the node.
    ClusterReturned,
    /// Times the link to Redis broke.
    ClusterLinkLosses,
    /// Times the keys of tokens were read again and taken over.
    KeysTakenOver,
    /// Times they were read again and could not be used.
    KeysRefused,
}

impl Counter {
    /// How many there are.
    pub const COUNT: usize = Counter::KeysRefused as usize + 1;
}

/// Something that goes up and down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gauge {
    /// Open WebSocket connections.
    Connections,
    /// Open client sockets of any kind.
    Sockets,
    /// Users with a connection, counted where their entry is kept.
    Users,
    /// Bytes owed to clients.
    OutboundBytes,
    /// Messages waiting in mailboxes.
    MailboxDepth,
    /// How long the drain has taken, or took, in milliseconds.
    DrainMilliseconds,
    /// Until when the certificate in force is valid, in milliseconds since the Unix epoch.
    CertificateExpiryMilliseconds,
}

impl Gauge {
    /// How many there are.
    pub const COUNT: usize = Gauge::CertificateExpiryMilliseconds as usize + 1;
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

/// All counters but messages, which have one per type, and connections closed, which have one per close reason.
pub(super) const COUNTERS: &[CounterFamily] = &[
    one(&[(Counter::Accepted, "")], "throng_accepted_sockets", "Sockets accepted."),
    one(
        &[(Counter::AcceptErrors, "")],
        "throng_accept_errors",
        "Calls of accept that failed, for want of descriptors or memory.",
    ),
    one(&[(Counter::HttpRequests, "")], "throng_http_requests", "HTTP requests answered, upgrades left out."),
    CounterFamily {
        name: "throng_handshakes",
        help: "WebSocket upgrades answered, by outcome.",
        unit: Unit::Count,
        label: "outcome",
        members: &[
            (Counter::HandshakesCompleted, "completed"),
            (Counter::HandshakesRefused, "malformed"),
            (Counter::OriginRefused, "origin"),
            (Counter::AddressRefused, "address_rate"),
            (Counter::CapacityRefused, "capacity"),
            (Counter::DrainingRefused, "draining"),
            (Counter::OverloadRefused, "overloaded"),
            (Counter::Unauthorized, "unauthorized"),
        ],
    },
    CounterFamily {
        name: "throng_tls_handshakes",
        help: "TLS handshakes, by outcome; failed counts later breaches of the protocol, too, and address_rate those that did not begin.",
        unit: Unit::Count,
        label: "outcome",
        members: &[
            (Counter::TlsFull, "full"),
            (Counter::TlsResumed, "resumed"),
            (Counter::TlsFailed, "failed"),
            (Counter::TlsAddressRefused, "address_rate"),
        ],
    },
    CounterFamily {
        name: "throng_messages_denied",
        help: "Messages that clients may not send, by what they asked for.",
        unit: Unit::Count,
        label: "action",
        members: &[(Counter::BroadcastsDenied, "broadcast"), (Counter::SendsDenied, "send_message")],
    },
    CounterFamily {
        name: "throng_received",
        help: "Bytes read from client sockets; of TLS what was inside.",
        unit: Unit::Bytes,
        label: "",
        members: &[(Counter::BytesReceived, "")],
    },
    CounterFamily {
        name: "throng_sent",
        help: "Bytes written to client sockets; of TLS what was inside.",
        unit: Unit::Bytes,
        label: "",
        members: &[(Counter::BytesSent, "")],
    },
    CounterFamily {
        name: "throng_user_messages",
        help: "Messages to a user, by whether one of the user's connections took it.",
        unit: Unit::Count,
        label: "outcome",
        members: &[(Counter::Delivered, "delivered"), (Counter::Undelivered, "offline")],
    },
    one(&[(Counter::Broadcasts, "")], "throng_broadcasts", "Messages to everybody that were asked for."),
    CounterFamily {
        name: "throng_messages_dropped",
        help: "Messages that were not queued, by reason.",
        unit: Unit::Count,
        label: "reason",
        members: &[
            (Counter::DroppedSlowConsumer, "slow_consumer"),
            (Counter::DroppedMailboxFull, "mailbox_full"),
            (Counter::DroppedGone, "gone"),
        ],
    },
    CounterFamily {
        name: "throng_user_changes",
        help: "Users who came (first connection) and went (last connection).",
        unit: Unit::Count,
        label: "event",
        members: &[(Counter::UsersOnline, "online"), (Counter::UsersOffline, "offline")],
    },
    one(&[(Counter::PingsSent, "")], "throng_pings_sent", "Heartbeat pings sent."),
    one(
        &[(Counter::ReadsPaused, "")],
        "throng_reads_paused",
        "Times a connection's input was left unread because it does not read its own replies.",
    ),
    one(&[(Counter::Wakes, "")], "throng_reactor_wakes", "Times a reactor was woken to look at its mailbox."),
    one(&[(Counter::Turns, "")], "throng_reactor_turns", "Turns taken by reactors."),
    one(
        &[(Counter::ShutdownNotices, "")],
        "throng_shutdown_notices",
        "Notices sent to clients that the node is going.",
    ),
    one(
        &[(Counter::PresenceDropped, "")],
        "throng_presence_events_dropped",
        "Presence events the embedding program did not take in time.",
    ),
    one(
        &[(Counter::ClusterBatchesSent, "")],
        "throng_cluster_batches_sent",
        "Batches of envelopes published for other nodes.",
    ),
    CounterFamily {
        name: "throng_cluster_sent",
        help: "Bytes of the batches published for other nodes.",
        unit: Unit::Bytes,
        label: "",
        members: &[(Counter::ClusterBytesSent, "")],
    },
    one(
        &[(Counter::ClusterBatchesReceived, "")],
        "throng_cluster_batches_received",
        "Batches of envelopes heard from other nodes.",
    ),
    one(&[(Counter::ClusterLookups, "")], "throng_cluster_lookups", "Users looked up in Redis."),
    one(
        &[(Counter::ClusterGaps, "")],
        "throng_cluster_gaps",
        "Times something missing of another node's stream was asked for.",
    ),
    one(
        &[(Counter::ClusterRepairs, "")],
        "throng_cluster_repairs",
        "Times another node asked for a part of this node's stream again and was answered.",
    ),
    one(
        &[(Counter::ClusterEnvelopesLost, "")],
        "throng_cluster_envelopes_lost",
        "Envelopes of other nodes that could not be repeated.",
    ),
    one(
        &[(Counter::ClusterReturned, "")],
        "throng_cluster_messages_returned",
        "Clients' messages that came back because their users had left the node.",
    ),
    one(&[(Counter::ClusterLinkLosses, "")], "throng_cluster_link_losses", "Times the link to Redis broke."),
    CounterFamily {
        name: "throng_token_keys_reads",
        help: "Times the keys of clients' tokens were read again, by whether they could be used.",
        unit: Unit::Count,
        label: "outcome",
        members: &[(Counter::KeysTakenOver, "taken_over"), (Counter::KeysRefused, "refused")],
    },
    one(
        &[(Counter::LogLinesDropped, "")],
        "throng_log_lines_dropped",
        "Log lines left out because stderr took no more.",
    ),
];

/// How connections ended; the label values are those of the close reasons.
pub(super) const CLOSED_NAME: &str = "throng_connections_closed";
/// See [`CLOSED_NAME`].
pub(super) const CLOSED_HELP: &str = "Connections that ended, HTTP included, by reason.";

/// All gauges.
pub(super) const GAUGES: &[GaugeFamily] = &[
    GaugeFamily {
        gauge: Gauge::Connections,
        name: "throng_connections",
        help: "Open WebSocket connections, by reactor.",
        unit: Unit::Count,
        per_reactor: true,
    },
    GaugeFamily {
        gauge: Gauge::Sockets,
        name: "throng_sockets",
        help: "Open client sockets of any kind, by reactor.",
        unit: Unit::Count,
        per_reactor: true,
    },
    GaugeFamily {
        gauge: Gauge::Users,
        name: "throng_users",
        help: "Users with a connection to this node.",
        unit: Unit::Count,
        per_reactor: false,
    },
    GaugeFamily {
        gauge: Gauge::OutboundBytes,
        name: "throng_outbound",
        help: "Bytes owed to clients.",
        unit: Unit::Bytes,
        per_reactor: false,
    },
    GaugeFamily {
        gauge: Gauge::MailboxDepth,
        name: "throng_mailbox_messages",
        help: "Messages waiting in the reactor's mailbox.",
        unit: Unit::Count,
        per_reactor: true,
    },
    GaugeFamily {
        gauge: Gauge::DrainMilliseconds,
        name: "throng_drain",
        help: "How long the drain has taken; 0 while serving.",
        unit: Unit::Seconds,
        per_reactor: false,
    },
    GaugeFamily {
        gauge: Gauge::CertificateExpiryMilliseconds,
        name: "throng_tls_certificate_expiry_timestamp",
        help: "Until when the certificate shown to clients is valid, since the Unix epoch; 0 without TLS.",
        unit: Unit::Seconds,
        per_reactor: false,
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
        let counters =
            COUNTERS.iter().flat_map(|family| family.members).map(|(counter, _)| *counter as usize);
        check_every_cell_once(counters.collect(), Counter::COUNT);
        check_every_cell_once(GAUGES.iter().map(|family| family.gauge as usize).collect(), Gauge::COUNT);
    }

    #[test]
    fn families_of_several_have_a_label_and_families_of_one_have_none() {
        for family in COUNTERS {
            assert_eq!(family.members.len() > 1, !family.label.is_empty(), "{}", family.name);
            assert!(family.members.iter().all(|(_, value)| value.is_empty() == family.label.is_empty()));
        }
    }

    #[test]
    fn names_follow_the_conventions() {
        let gauges = GAUGES.iter().map(|family| (family.name, family.help));
        let counters = COUNTERS.iter().map(|family| (family.name, family.help));
        for (name, help) in counters.chain(gauges).chain([(CLOSED_NAME, CLOSED_HELP)]) {
            assert!(name.starts_with("throng_") && !name.ends_with("_total"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert!(help.ends_with('.') && !help.contains(['\n', '\\']), "{help}");
        }
    }
}
