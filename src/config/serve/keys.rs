//! The table of keys of `throng serve`.

use super::Config;
use crate::config::key::{LIVE, RESTART, key};
use crate::config::value::{
    ADDRESS, ADDRESS_RATE, ALGORITHMS, AUTH, CLIENT_AUTH, COUNT, DURATION, LABELS, LOG_FORMAT, LOG_LEVEL,
    NAMES, NETWORKS, OPTIONAL_TEXT, ORIGINS, PATH, PERMISSION, PORT, RATE, REACTORS, SECRET, SIZE,
    SLOW_CONSUMER, SWITCH, TEXT, TLS_LISTENER, WS_PORT,
};
use crate::config::{Key, Section};

/// Every key, in the order of the documentation.
pub(super) static SECTIONS: &[Section<Config>] = &[
    Section { title: "Listening", keys: LISTENING },
    Section { title: "TLS", keys: TLS },
    Section { title: "Identity", keys: IDENTITY },
    Section { title: "Limits", keys: LIMITS },
    Section { title: "Timeouts", keys: TIMEOUTS },
    Section { title: "Policy", keys: POLICY },
    Section { title: "Authentication", keys: AUTHENTICATION },
    Section { title: "Drain", keys: DRAIN },
    Section { title: "Administration", keys: ADMINISTRATION },
    Section { title: "Cluster", keys: CLUSTER },
    Section { title: "Logging", keys: LOGGING },
];

const LISTENING: &[Key<Config>] = &[
    key! { port: PORT, RESTART, "port",
        "TCP port of HTTP and of WebSockets at /ws and /echo; 0 takes a free one.",
        plain_variable: Some("PORT"),
    },
    key! { ws_port: WS_PORT, RESTART, "ws-port",
        "A second TCP port, which takes WebSockets at any path; 0 or off opens none, auto takes a free \
         one.",
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
         reactor.",
    },
];

const TLS: &[Key<Config>] = &[
    key! { tls_cert: PATH, RESTART, "tls-cert",
        "PEM file of the certificate that clients are shown, followed by those that lead to its authority. \
         With it and tls_key the listeners speak TLS, and nothing else. Both files are read again when \
         they change, and at a reload.",
    },
    key! { tls_key: PATH, RESTART, "tls-key",
        "PEM file of its private key, not encrypted.",
    },
    key! { tls_listener: TLS_LISTENER, RESTART, "tls-listener",
        "Which listeners speak TLS: both, http (that of port) or ws (that of ws_port).",
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

const IDENTITY: &[Key<Config>] = &[
    key! { node_id: OPTIONAL_TEXT, RESTART, "node-id",
        "Name of this node among the others: letters, digits and - _ . : up to 253. Unless set it is \
         ip:port as others reach it.",
        plain_variable: Some("NODE_ID"),
    },
    key! { service_name: TEXT, RESTART, "service-name",
        "Name of the service, the first half of the display name.",
        plain_variable: Some("SERVICE_NAME"),
    },
    key! { labels: LABELS, RESTART, "label",
        "Labels shown with the node's identity.",
    },
];

const LIMITS: &[Key<Config>] = &[
    key! { max_connections: COUNT, LIVE, "max-connections",
        "WebSocket connections open at once; further ones are answered 503. 1 to 16777216.",
    },
    key! { connections_per_address: ADDRESS_RATE, LIVE, "connections-per-address",
        "New WebSocket connections of one client address (one /64 of IPv6) in so many seconds, written \
         100/60; further ones are answered 429. An address may begin 4 times as many TLS handshakes and \
         one a second besides; further connections are reset. off is no limit.",
    },
    key! { message_bytes_max: SIZE, LIVE, "message-bytes-max",
        "Largest message taken from a client, after inflating; a larger one closes the connection with \
         1009. Up to 256MiB.",
    },
    key! { messages_per_second: RATE, LIVE, "messages-per-second",
        "Messages taken from one client in a second; 0 is no limit. Up to 65535.",
    },
    key! { outbound_bytes_max: SIZE, LIVE, "outbound-bytes-max",
        "Bytes owed to one client, beyond what the kernel holds, from which on it is a slow consumer. At \
         least message_bytes_max and 4KiB, up to 1GiB.",
    },
    key! { slow_consumer: SLOW_CONSUMER, LIVE, "slow-consumer",
        "What happens to a client that reads too slowly: drop-newest drops the message that does not fit, \
         disconnect closes the connection. Both are counted.",
    },
];

const TIMEOUTS: &[Key<Config>] = &[
    key! { handshake_timeout: DURATION, LIVE, "handshake-timeout",
        "From accepting a connection to the end of its request head. 10ms to 1h.",
    },
    key! { heartbeat_interval: DURATION, LIVE, "heartbeat-interval",
        "Silence of a client after which it is sent a ping; 0s sends none and closes no silent \
         connection. 10ms to 1day.",
    },
    key! { heartbeat_timeout: DURATION, LIVE, "heartbeat-timeout",
        "Silence of a client after which its connection is closed; longer than heartbeat_interval.",
    },
];

const POLICY: &[Key<Config>] = &[
    key! { require_user_id: SWITCH, LIVE, "require-user-id",
        "Close WebSocket connections that name no user_id with 4001 instead of giving them an anonymous \
         one.",
    },
    key! { trusted_proxies: NETWORKS, LIVE, "trusted-proxy",
        "Networks of proxies whose X-Forwarded-For and X-Real-IP headers tell the client's address.",
    },
    key! { allowed_origins: ORIGINS, LIVE, "allowed-origin",
        "Origins whose pages may connect, such as https://example.org; others are answered 403. None \
         listed: all may.",
    },
    key! { subprotocols: NAMES, LIVE, "subprotocol",
        "WebSocket subprotocols that are accepted, preferred first.",
    },
    key! { compression: SWITCH, LIVE, "compression",
        "Agree to permessage-deflate, without context takeover, with new connections that offer it.",
    },
    key! { client_broadcast: PERMISSION, LIVE, "client-broadcast",
        "Whether clients may send to everybody. With deny they are answered an error; POST /api/broadcast \
         is not concerned.",
    },
    key! { client_send: PERMISSION, LIVE, "client-send",
        "Whether clients may send to users. With deny they are answered an error; POST /api/send is not \
         concerned.",
    },
];

const AUTHENTICATION: &[Key<Config>] = &[
    key! { auth: AUTH, RESTART, "auth",
        "How clients show who they are: with none the user_id of the query is believed; with jwt every \
         WebSocket needs a signed token, whose sub is the user.",
    },
    key! { jwt_key_file: PATH, RESTART, "jwt-key-file",
        "File with the key of the tokens: an RSA, P-256 or Ed25519 public key in PEM, or the secret of \
         HS256, a word of at least 32 visible ASCII characters. It is read again when it changes.",
    },
    key! { jwt_jwks_file: PATH, RESTART, "jwt-jwks-file",
        "File with a JWK Set instead: RSA, EC P-256, OKP Ed25519 or oct keys, at most 64, of which tokens \
         name one by kid. It is read again when it changes.",
    },
    key! { jwt_algorithms: ALGORITHMS, LIVE, "jwt-algorithm",
        "Algorithms that are accepted, of HS256, RS256, ES256 and EdDSA. A key is for one of them only, \
         whatever is listed. None listed: those of the keys.",
    },
    key! { jwt_issuer: OPTIONAL_TEXT, LIVE, "jwt-issuer",
        "The iss that tokens must have. Unless set it is not looked at.",
    },
    key! { jwt_audience: OPTIONAL_TEXT, LIVE, "jwt-audience",
        "The aud that tokens must have or list. Unless set it is not looked at, and a token for another \
         service of the same issuer serves here too.",
    },
    key! { jwt_leeway: DURATION, LIVE, "jwt-leeway",
        "How far the clocks of issuer and node may differ: a token is good for so long beyond its exp, and \
         so much before its nbf. Up to 5m.",
    },
    key! { jwt_require_exp: SWITCH, LIVE, "jwt-require-exp",
        "Refuse tokens without exp. Where they are taken, they are good until their key is gone.",
    },
];

const DRAIN: &[Key<Config>] = &[
    key! { lame_duck: DURATION, LIVE, "lame-duck",
        "How long a draining node is not ready but still accepts, for load balancers to notice. Up to 1h.",
    },
    key! { drain_window: DURATION, LIVE, "drain-window",
        "Time over which a draining node spreads the ends of its connections, from the end of the lame \
         duck. Up to 1h.",
    },
    key! { drain_timeout: DURATION, LIVE, "drain-timeout",
        "Time from the end of the lame duck after which connections that are left are cut; at least \
         drain_window, up to 2h.",
    },
    key! { simulate: SWITCH, LIVE, "simulate",
        "Send every client numbered business messages at random intervals, and 1 to 10 more at the drain, \
         so that a client can prove that it got them all.",
    },
    key! { simulate_interval: DURATION, LIVE, "simulate-interval",
        "Mean time between two simulated messages to one client. 1ms to 1h.",
    },
];

const ADMINISTRATION: &[Key<Config>] = &[
    key! { admin_token: SECRET, LIVE, "",
        "Bearer token of POST /api/send, /api/broadcast and /api/kick. It is given in the environment or \
         with admin_token_file, where other users of the machine do not see it. Without one these calls \
         answer only a loopback peer that sent no forwarding header.",
        flag: None, in_file: false,
    },
    key! { admin_token_file: PATH, LIVE, "admin-token-file",
        "File that holds admin_token, relative to the working directory; white space around it is \
         ignored. It is read again at a reload.",
    },
];

const CLUSTER: &[Key<Config>] = &[
    key! { redis_url: SECRET, RESTART, "redis-url",
        "Redis that makes this node one of a cluster: redis://[[user]:password@]host[:port][/database], \
         redis+sentinel://host:port,.../master or redis+cluster://host:port,...; rediss is TLS. Better \
         given in the environment if it has a password. Without it and redis_host the node is alone.",
        plain_variable: Some("REDIS_URL"),
    },
    key! { redis_host: OPTIONAL_TEXT, RESTART, "redis-host",
        "Host of a Redis without password, if redis_url is not set.",
        plain_variable: Some("REDIS_HOST"),
    },
    key! { redis_port: PORT, RESTART, "redis-port",
        "Port of redis_host.",
        plain_variable: Some("REDIS_PORT"),
    },
    key! { redis_ca_file: PATH, RESTART, "redis-ca-file",
        "Certificates, in PEM, of the authorities trusted for TLS to Redis instead of the system's.",
    },
    key! { redis_prefix: TEXT, RESTART, "redis-prefix",
        "Beginning of all keys and channels in Redis: 1 to 64 letters, digits and . _ : - and the same on \
         all nodes of a cluster.",
    },
    key! { redis_required: SWITCH, RESTART, "redis-required",
        "Refuse to start while Redis cannot be reached. Otherwise the node starts alone and joins later.",
    },
    key! { cluster_beat: DURATION, RESTART, "cluster-beat",
        "Time between two signs of life in Redis. 100ms to 5m.",
    },
    key! { cluster_expiry: DURATION, RESTART, "cluster-expiry",
        "Silence after which other nodes call a node dead and remove its users, by the clock of Redis. At \
         least twice cluster_beat, at most 1h; the same on all nodes.",
    },
    key! { lookup_cache_users: COUNT, RESTART, "lookup-cache-users",
        "Users of other nodes whose place is remembered. 2 to 10000000.",
    },
    key! { lookup_cache_time: DURATION, RESTART, "lookup-cache-time",
        "How long it is remembered, unless a change is heard of. 100ms to 1h.",
    },
    key! { cluster_ring_bytes: SIZE, RESTART, "cluster-ring-bytes",
        "Bytes kept for each other node, to be sent again when it did not hear them. 64KiB to 32MiB.",
    },
];

const LOGGING: &[Key<Config>] = &[
    key! { log_format: LOG_FORMAT, RESTART, "log-format",
        "Form of the log on stderr: text, or json for one object a line.",
    },
    key! { log_level: LOG_LEVEL, LIVE, "log-level",
        "What is logged: off, error, warn, info, debug or trace, and target=level for parts of the \
         program, separated by commas, such as info,throng::ws=debug.",
    },
];
