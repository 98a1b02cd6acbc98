//! The table of keys of `throng balance`.

use std::str::FromStr;

use super::{BalanceConfig, ProxyProtocol, Strategy};
use crate::config::key::{LIVE, RESTART, key};
use crate::config::text::{array, one, quoted};
use crate::config::value::{
    ADDRESS, ADDRESS_RATE, CLIENT_AUTH, COUNT, Codec, DURATION, LOG_FORMAT, LOG_LEVEL, NETWORKS,
    OPTIONAL_TEXT, PATH, PORT, RATE, REACTORS, SECRET, SIZE, SWITCH, Shape, TEXT,
};
use crate::config::{Key, Section};

/// Every key, in the order of the documentation.
pub(super) static SECTIONS: &[Section<BalanceConfig>] = &[
    Section { title: "Listening", keys: LISTENING },
    Section { title: "TLS", keys: TLS },
    Section { title: "Identity", keys: IDENTITY },
    Section { title: "Backends", keys: BACKENDS },
    Section { title: "Health", keys: HEALTH },
    Section { title: "Limits", keys: LIMITS },
    Section { title: "Timeouts", keys: TIMEOUTS },
    Section { title: "Policy", keys: POLICY },
    Section { title: "Drain", keys: DRAIN },
    Section { title: "Administration", keys: ADMINISTRATION },
    Section { title: "Logging", keys: LOGGING },
];

const SPECS: Codec<Vec<String>> = Codec {
    form: "HOST:PORT[,weight=N][,max=N]",
    shape: Shape::SpacedList,
    secret: false,
    read: |parts| Ok(parts.to_vec()),
    write: |specs| Some(array(specs)),
};

const DNS_NAME: Codec<Option<String>> = Codec {
    form: "NAME:PORT",
    shape: Shape::Scalar,
    secret: false,
    read: |parts| one(parts).map(|text| Some(text.to_owned())),
    write: |name| name.as_ref().map(quoted),
};

const URL_PATH: Codec<String> = Codec { form: "PATH", ..TEXT };

const STRATEGY: Codec<Strategy> = Codec {
    form: "STRATEGY",
    shape: Shape::Scalar,
    secret: false,
    read: |parts| one(parts)?.parse().map_err(|wrong: <Strategy as FromStr>::Err| wrong.to_string()),
    write: |strategy| Some(quoted(strategy)),
};

const PROXY_PROTOCOL: Codec<ProxyProtocol> = Codec {
    form: "off|v2",
    shape: Shape::Scalar,
    secret: false,
    read: |parts| one(parts)?.parse(),
    write: |version| Some(quoted(version)),
};

const LISTENING: &[Key<BalanceConfig>] = &[
    key! { port: PORT, RESTART, "port",
        "TCP port that clients connect to; 0 takes a free one.",
        plain_variable: Some("PORT"),
    },
    key! { bind: ADDRESS, RESTART, "bind",
        "Address to listen on: 0.0.0.0 is all of IPv4, :: is all of IPv6 and, where the system allows it, \
         of IPv4 too.",
    },
    key! { reactors: REACTORS, RESTART, "reactors",
        "Threads that serve connections, each with a listener of its own; 1 to 255, or auto for one per \
         core.",
        default: Some("auto"),
    },
    key! { private_fd_tables: SWITCH, RESTART, "private-fd-tables",
        "Give every reactor a descriptor table of its own, so that the limit on open files counts per \
         reactor. Every client takes two files: its connection and the one to its backend.",
    },
    key! { proxy_protocol_in: PROXY_PROTOCOL, RESTART, "proxy-protocol-in",
        "v2 wants every connection to begin with a PROXY protocol header, version 2, which tells the \
         client's address; one that does not is closed. Only for a port that nobody but the proxy in front \
         reaches.",
    },
];

const TLS: &[Key<BalanceConfig>] = &[
    key! { tls_cert: PATH, RESTART, "tls-cert",
        "PEM file of the certificate that clients are shown, followed by those that lead to its authority. \
         With it and tls_key the listener speaks TLS, and nothing else. Both files are read again when \
         they change, and at a reload.",
    },
    key! { tls_key: PATH, RESTART, "tls-key",
        "PEM file of its private key, not encrypted.",
    },
    key! { tls_client_ca: PATH, RESTART, "tls-client-ca",
        "PEM file of the authorities whose certificates clients are asked for. It is read again when it \
         changes, and at a reload.",
    },
    key! { tls_client_auth: CLIENT_AUTH, RESTART, "tls-client-auth",
        "Whether a client must show such a certificate: required, or optional, so that one without is \
         taken too.",
    },
];

const IDENTITY: &[Key<BalanceConfig>] = &[key! { service_name: TEXT, RESTART, "service-name",
"Name of the service, shown by /health.",
plain_variable: Some("SERVICE_NAME") }];

const BACKENDS: &[Key<BalanceConfig>] = &[
    key! { backends: SPECS, LIVE, "backend",
        "The nodes to balance over, each written HOST:PORT[,weight=N][,max=N]. The weight, 1 to 1000, is \
         its share among the others, 1 unless given; max is the most connections it is given, unlimited \
         unless given. At least one of backends, backends_file and backends_dns is needed.",
    },
    key! { backends_file: PATH, LIVE, "backends-file",
        "A file of backends, one a line, each written as in backends; empty lines and what follows a # are \
         passed over. It is watched: backends come and go with its lines.",
    },
    key! { backends_dns: DNS_NAME, LIVE, "backends-dns",
        "A DNS name and a port: every address of the name is a backend, such as every pod behind a headless \
         Service of Kubernetes. Backends come and go with its addresses.",
    },
    key! { dns_interval: DURATION, LIVE, "dns-interval",
        "Time between two resolutions of backends_dns and of the names among the backends. 100ms to 1h.",
    },
    key! { strategy: STRATEGY, LIVE, "strategy",
        "How a new client's backend is found among those that are available, by their weights: round_robin \
         takes one after the other, least_connections the least loaded, random_two the less loaded of two \
         taken at random, ip_hash always the same one for a client's address, user_hash always the same one \
         for a user_id, and for the address where there is none. With the last two, few clients move when a \
         backend comes or goes.",
    },
    key! { proxy_protocol_out: PROXY_PROTOCOL, RESTART, "proxy-protocol-out",
        "v2 begins every connection to a backend with a PROXY protocol header, version 2, that tells the \
         client's address; the backends must expect it.",
    },
    key! { backend_tls: SWITCH, RESTART, "backend-tls",
        "Speak TLS with the backends, in health checks too, and believe only certificates of backend_ca.",
    },
    key! { backend_ca: PATH, RESTART, "backend-ca",
        "PEM file of the authorities of the backends' certificates, instead of the system's. It is read \
         again when it changes, and at a reload.",
    },
    key! { backend_tls_name: OPTIONAL_TEXT, RESTART, "backend-tls-name",
        "The name that the backends' certificates have, if it is not the host of each: of backends behind \
         one DNS name, or that are known by their addresses.",
    },
];

const HEALTH: &[Key<BalanceConfig>] = &[
    key! { health_path: URL_PATH, LIVE, "health-path",
        "What is asked of every backend with GET to learn how it is: 200 to 299 is good, 503 is a backend \
         that drains and takes nothing new, anything else is bad. Begins with /, up to 256 bytes.",
    },
    key! { health_interval: DURATION, LIVE, "health-interval",
        "Time between two checks of one backend. 50ms to 1h.",
    },
    key! { health_timeout: DURATION, LIVE, "health-timeout",
        "How long one check may take; shorter than health_interval, at least 10ms.",
    },
    key! { health_rise: RATE, LIVE, "health-rise",
        "Good checks in a row after which a backend that was down is up. 1 to 100.",
    },
    key! { health_fall: RATE, LIVE, "health-fall",
        "Bad checks in a row after which a backend is down. 1 to 100.",
    },
    key! { slow_start: DURATION, LIVE, "slow-start",
        "Time in which a backend that comes up beside others goes from a tenth of its weight to all of it; \
         0s gives it all at once. Up to 1h.",
    },
    key! { ejection_min: DURATION, LIVE, "ejection-min",
        "How long a backend that refused a connection is given nothing new, unless a check finds it good \
         afterwards; doubled every time it happens again. 10ms to 1h.",
    },
    key! { ejection_max: DURATION, LIVE, "ejection-max",
        "The longest of these times; at least ejection_min, up to 1day.",
    },
    key! { failover_window: DURATION, LIVE, "failover-window",
        "Time over which the clients of a lost backend are closed, so that they do not all come back at \
         once. Up to 1m.",
    },
];

const LIMITS: &[Key<BalanceConfig>] = &[
    key! { max_connections: COUNT, LIVE, "max-connections",
        "Clients connected at once, those that wait included; further ones are answered 503. 1 to 16777216.",
    },
    key! { connections_per_address: ADDRESS_RATE, LIVE, "connections-per-address",
        "New connections of one client address (one /64 of IPv6) in so many seconds, written 100/60; further \
         ones are answered 429. An address may begin 4 times as many TLS handshakes and one a second besides; \
         further connections are reset. off is no limit.",
    },
    key! { connect_attempts: RATE, LIVE, "connect-attempts",
        "Backends tried for one client before it is answered 503. 1 to 16.",
    },
    key! { queue_connections: COUNT, LIVE, "queue-connections",
        "Clients that wait while all backends are at their maximum; further ones are answered 503. 0 to \
         1000000; 0 lets none wait.",
    },
    key! { buffer_bytes_max: SIZE, LIVE, "buffer-bytes-max",
        "Bytes held for one direction of one client's connection while the other side does not take them; \
         then the sender has to wait. 4KiB to 16MiB.",
    },
];

const TIMEOUTS: &[Key<BalanceConfig>] = &[
    key! { handshake_timeout: DURATION, LIVE, "handshake-timeout",
        "From accepting a client to the end of its request head. 10ms to 1h.",
    },
    key! { queue_timeout: DURATION, LIVE, "queue-timeout",
        "How long a client waits while all backends are at their maximum before it is answered 503. 10ms to \
         1h.",
    },
    key! { connect_timeout: DURATION, LIVE, "connect-timeout",
        "How long one connect to a backend may take before the next one is tried. 10ms to 1m.",
    },
    key! { answer_timeout: DURATION, LIVE, "answer-timeout",
        "How long a backend may take to answer a handshake before the next one is tried. 10ms to 1h.",
    },
    key! { half_close_timeout: DURATION, LIVE, "half-close-timeout",
        "How long one direction of a connection stays open after the other has ended. 10ms to 1h.",
    },
    key! { idle_timeout: DURATION, LIVE, "idle-timeout",
        "Silence in both directions after which a connection is closed; 0s closes none. Otherwise 1s to \
         7days; longer than the heartbeats of the nodes.",
    },
];

const POLICY: &[Key<BalanceConfig>] = &[key! { trusted_proxies: NETWORKS, LIVE, "trusted-proxy",
"Networks of proxies in front, whose X-Forwarded-… and X-Real-IP headers are believed and passed on; \
those of others are replaced." }];

const DRAIN: &[Key<BalanceConfig>] = &[
    key! { lame_duck: DURATION, LIVE, "lame-duck",
        "How long a draining balancer is not ready but still accepts, for those in front to notice. Up \
         to 1h.",
    },
    key! { drain_window: DURATION, LIVE, "drain-window",
        "Time over which a draining balancer spreads the ends of its connections, from the end of the lame \
         duck. Up to 1h.",
    },
    key! { drain_timeout: DURATION, LIVE, "drain-timeout",
        "Time from the end of the lame duck after which connections that are left are cut; at least \
         drain_window, up to 2h.",
    },
];

const ADMINISTRATION: &[Key<BalanceConfig>] = &[
    key! { admin_token: SECRET, LIVE, "",
        "Bearer token of the calls that add, drain, enable and remove backends. It is given in the \
         environment or with admin_token_file, where other users of the machine do not see it. Without one these calls \
         answer only a loopback peer that sent no forwarding header.",
        flag: None, in_file: false,
    },
    key! { admin_token_file: PATH, LIVE, "admin-token-file",
        "File that holds admin_token, relative to the working directory; white space around it is ignored. \
         It is read again at a reload.",
    },
];

const LOGGING: &[Key<BalanceConfig>] = &[
    key! { log_format: LOG_FORMAT, RESTART, "log-format",
        "Form of the log on stderr: text, or json for one object a line.",
    },
    key! { log_level: LOG_LEVEL, LIVE, "log-level",
        "What is logged: off, error, warn, info, debug or trace, and target=level for parts of the program, \
         separated by commas, such as info,throng::balancer=debug.",
    },
];
