//! Every key of every command, through every layer and through a reload.

use super::*;

/// Each key with a value that is not its default: as text parts, and in TOML.
/// `admin_token_file` needs a file, and what [`APART`] has needs others beside it: they are tried apart.
type Values = &'static [(&'static str, &'static [&'static str], &'static str)];

const SERVE: Values = &[
    ("port", &["9000"], "9000"),
    ("ws_port", &["auto"], "'auto'"),
    ("bind", &["::1"], "'::1'"),
    ("reactors", &["7"], "7"),
    ("private_fd_tables", &["true"], "true"),
    ("tls_cert", &["/cert.pem"], "'/cert.pem'"),
    ("tls_key", &["/key.pem"], "'/key.pem'"),
    ("tls_listener", &["http"], "'http'"),
    ("tls_client_ca", &["/clients.pem"], "'/clients.pem'"),
    ("tls_client_auth", &["optional"], "'optional'"),
    ("node_id", &["n1"], "'n1'"),
    ("service_name", &["s"], "'s'"),
    ("labels", &["a=1", "b=2"], "{ b = '2', a = 1 }"),
    ("max_connections", &["5"], "5"),
    ("connections_per_address", &["100/60"], "'100/60'"),
    ("message_bytes_max", &["64KiB"], "65536"),
    ("messages_per_second", &["9"], "9"),
    ("outbound_bytes_max", &["2MiB"], "'2MiB'"),
    ("slow_consumer", &["drop-newest"], "'drop-newest'"),
    ("handshake_timeout", &["500ms"], "'500ms'"),
    ("heartbeat_interval", &["20s"], "'20s'"),
    ("heartbeat_timeout", &["2m"], "'2m'"),
    ("require_user_id", &["true"], "true"),
    ("trusted_proxies", &["10.0.0.0/8", "fd00::/8"], "['10.0.0.0/8', 'fd00::/8']"),
    ("allowed_origins", &["https://a", "null"], "['https://A', 'null']"),
    ("subprotocols", &["v2", "v1"], "['v2', 'v1']"),
    ("compression", &["false"], "false"),
    ("client_broadcast", &["deny"], "'deny'"),
    ("client_send", &["deny"], "'deny'"),
    ("jwt_algorithms", &["ES256", "EdDSA"], "['ES256', 'EdDSA']"),
    ("jwt_issuer", &["https://issuer"], "'https://issuer'"),
    ("jwt_audience", &["a"], "'a'"),
    ("jwt_leeway", &["0s"], "'0s'"),
    ("jwt_require_exp", &["false"], "false"),
    ("lame_duck", &["1s"], "'1s'"),
    ("drain_window", &["11s"], "'11s'"),
    ("drain_timeout", &["26s"], "'26s'"),
    ("simulate", &["true"], "true"),
    ("simulate_interval", &["1s"], "'1s'"),
    ("admin_token", &["s3cret"], ""),
    ("redis_url", &["redis://:pw@r:1"], "'redis://:pw@r:1'"),
    ("redis_host", &["r"], "'r'"),
    ("redis_port", &["7"], "7"),
    ("redis_ca_file", &["/ca.pem"], "'/ca.pem'"),
    ("redis_prefix", &["p"], "'p'"),
    ("redis_required", &["true"], "true"),
    ("cluster_beat", &["1s"], "'1s'"),
    ("cluster_expiry", &["3m"], "'3m'"),
    ("lookup_cache_users", &["10"], "10"),
    ("lookup_cache_time", &["1s"], "'1s'"),
    ("cluster_ring_bytes", &["1MiB"], "'1MiB'"),
    ("log_format", &["json"], "'json'"),
    ("log_level", &["warn,throng::ws=debug"], "'warn,throng::ws=debug'"),
];

const BALANCE: Values = &[
    ("port", &["9000"], "9000"),
    ("bind", &["::1"], "'::1'"),
    ("reactors", &["7"], "7"),
    ("private_fd_tables", &["true"], "true"),
    ("proxy_protocol_in", &["v2"], "'v2'"),
    ("tls_cert", &["/cert.pem"], "'/cert.pem'"),
    ("tls_key", &["/key.pem"], "'/key.pem'"),
    ("tls_client_ca", &["/clients.pem"], "'/clients.pem'"),
    ("tls_client_auth", &["optional"], "'optional'"),
    ("service_name", &["s"], "'s'"),
    ("backends", &["b:1", "b:2,weight=3,max=4"], "['b:1', 'b:2,weight=3,max=4']"),
    ("backends_file", &["/b"], "'/b'"),
    ("backends_dns", &["nodes:80"], "'nodes:80'"),
    ("dns_interval", &["1s"], "'1s'"),
    ("strategy", &["user_hash"], "'user_hash'"),
    ("proxy_protocol_out", &["v2"], "'v2'"),
    ("backend_tls", &["true"], "true"),
    ("backend_ca", &["/nodes.pem"], "'/nodes.pem'"),
    ("backend_tls_name", &["node.example"], "'node.example'"),
    ("health_path", &["/livez"], "'/livez'"),
    ("health_interval", &["3s"], "'3s'"),
    ("health_timeout", &["500ms"], "'500ms'"),
    ("health_rise", &["1"], "1"),
    ("health_fall", &["1"], "1"),
    ("slow_start", &["0s"], "'0s'"),
    ("ejection_min", &["2s"], "'2s'"),
    ("ejection_max", &["2m"], "'2m'"),
    ("failover_window", &["1s"], "'1s'"),
    ("max_connections", &["5"], "5"),
    ("connections_per_address", &["100/60"], "'100/60'"),
    ("connect_attempts", &["2"], "2"),
    ("queue_connections", &["0"], "0"),
    ("buffer_bytes_max", &["16KiB"], "'16KiB'"),
    ("handshake_timeout", &["500ms"], "'500ms'"),
    ("queue_timeout", &["1s"], "'1s'"),
    ("connect_timeout", &["2s"], "'2s'"),
    ("answer_timeout", &["1s"], "'1s'"),
    ("half_close_timeout", &["1s"], "'1s'"),
    ("idle_timeout", &["2m"], "'2m'"),
    ("trusted_proxies", &["10.0.0.0/8", "fd00::/8"], "['10.0.0.0/8', 'fd00::/8']"),
    ("lame_duck", &["1s"], "'1s'"),
    ("drain_window", &["11s"], "'11s'"),
    ("drain_timeout", &["26s"], "'26s'"),
    ("admin_token", &["s3cret"], ""),
    ("log_format", &["json"], "'json'"),
    ("log_level", &["warn,throng::balancer=debug"], "'warn,throng::balancer=debug'"),
];

/// Keys that are not valid alone.
const APART: [&str; 3] = ["auth", "jwt_key_file", "jwt_jwks_file"];

/// What a command needs besides the key that is tried, as variables.
const FOR_A_NODE: &[(&str, &str)] = &[
    ("THRONG_TLS_CERT", "/c"),
    ("THRONG_TLS_KEY", "/k"),
    ("THRONG_AUTH", "jwt"),
    ("THRONG_JWT_KEY_FILE", "/k.pem"),
];
const A_BACKEND: &[(&str, &str)] =
    &[("THRONG_BACKENDS", "a:1"), ("THRONG_TLS_CERT", "/c"), ("THRONG_TLS_KEY", "/k")];

fn variable_text<C>(key: &Key<C>, parts: &[&str]) -> String {
    parts.join(if key.shape == Shape::SpacedList { " " } else { "," })
}

#[test]
fn every_key_through_every_layer() {
    fn check<C: Settings>(values: Values, needed: &[(&str, &str)]) {
        let apart = C::keys().filter(|key| APART.contains(&key.name)).count();
        assert_eq!(values.len() + apart + 1, C::keys().count());
        for (name, parts, toml) in values {
            let key: &Key<C> = key::find(name).expect("a key");
            let mut expected = load::<C>(flags(None, &[]), needed).expect("valid").0;
            let needed: Vec<_> = needed.iter().copied().filter(|(name, _)| *name != key.variable()).collect();
            let before = expected.clone();
            key.read(&mut expected, &owned(parts)).expect("a value");
            assert!(!key.is_same(&expected, &before), "{name} is tried with its default");

            let (variable, text) = (key.variable(), variable_text(key, parts));
            let with_it = [&needed[..], &[(variable.as_str(), text.as_str())]].concat();
            let (by_variable, sources) = load::<C>(flags(None, &[]), &with_it).expect(name);
            assert_eq!(
                (by_variable, sources.of(name)),
                (expected.clone(), &Source::Environment(key.variable()))
            );
            if key.in_file {
                let file = TempFile::new(&format!("\n{name} = {toml}\n"));
                let (by_file, sources) = load::<C>(flags(Some(&file.0), &[]), &needed).expect(name);
                let source = Source::File { path: file.0.clone(), line: 2 };
                assert_eq!((by_file, sources.of(name)), (expected.clone(), &source));
            }
            if let Some(flag) = key.flag {
                let (by_flag, sources) = load::<C>(flags(None, &[(name, parts)]), &needed).expect(name);
                assert_eq!((by_flag, sources.of(name)), (expected, &Source::Flag(flag)));
            }
        }
    }
    check::<Config>(SERVE, FOR_A_NODE);
    check::<BalanceConfig>(BALANCE, A_BACKEND);
}

#[test]
fn the_keys_of_tokens_through_every_layer() {
    let expected = |key_file: Option<&str>, set: Option<&str>| Config {
        auth: Auth::Jwt,
        jwt_key_file: key_file.map(Into::into),
        jwt_jwks_file: set.map(Into::into),
        ..Config::default()
    };
    for (name, path, expected) in [
        ("jwt_key_file", "/k.pem", expected(Some("/k.pem"), None)),
        ("jwt_jwks_file", "/j.json", expected(None, Some("/j.json"))),
    ] {
        let variable = format!("THRONG_{}", name.to_uppercase());
        let by_variable = load::<Config>(flags(None, &[]), &[("THRONG_AUTH", "jwt"), (&variable, path)]);
        assert_eq!(by_variable.expect(name).0, expected);
        let file = TempFile::new(&format!("auth = 'jwt'\n{name} = '{path}'\n"));
        assert_eq!(load::<Config>(flags(Some(&file.0), &[]), &[]).expect(name).0, expected);
        let by_flag = load::<Config>(flags(None, &[("auth", &["jwt"]), (name, &[path])]), &[]);
        assert_eq!(by_flag.expect(name).0, expected);
    }
}

#[test]
fn what_is_printed_is_a_configuration_file() {
    fn check<C: Settings>(values: Values, needed: &[(&str, &str)]) {
        let token = TempFile::new("s3cret");
        let mut values: Vec<(&str, &[&str])> =
            values.iter().map(|(name, parts, _)| (*name, *parts)).collect();
        values.retain(|(name, _)| !matches!(*name, "admin_token" | "redis_url"));
        let path = [token.as_str()];
        values.push(("admin_token_file", &path));
        for flags in [flags(None, &values), flags(None, &[])] {
            let (config, sources) = load::<C>(flags, needed).expect("valid");
            let printed = print(&config, &sources);
            assert!(!printed.contains("s3cret"));
            let file = TempFile::new(&printed);
            let again =
                load::<C>(Flags { file: Some(file.0.clone()), values: vec![] }, &[]).expect("valid").0;
            assert_eq!(again, config);
        }
    }
    check::<Config>(SERVE, FOR_A_NODE);
    check::<BalanceConfig>(BALANCE, A_BACKEND);
}

#[test]
fn secrets_are_masked() {
    let environment = [("THRONG_REDIS_URL", "redis://:hush@r:1"), ("THRONG_ADMIN_TOKEN", "s3cret")];
    let (config, sources): (Config, _) = load(flags(None, &[]), &environment).expect("valid");
    let printed = print(&config, &sources);
    assert!(!printed.contains("hush") && !printed.contains("s3cret"), "{printed}");
    for name in ["redis_url", "admin_token"] {
        assert!(printed.contains(&format!("# {name} = \"***\"\n")), "{printed}");
    }
}

#[test]
fn every_key_is_live_or_needs_a_restart() {
    fn check<C: Settings>(values: Values, needed: &[(&str, &str)], restart: &[&str]) {
        for (name, parts, _) in values {
            let key: &Key<C> = key::find(name).expect("a key");
            let old = load::<C>(flags(None, &[]), needed).expect("valid").0;
            let mut new = old.clone();
            key.read(&mut new, &owned(parts)).expect("a value");
            let (merged, changed, waiting) = old.with_live_changes(&new);
            let expected = if key.live { (new, vec![*name], vec![]) } else { (old, vec![], vec![*name]) };
            assert_eq!((merged, changed, waiting), expected, "{name}");
        }
        let waiting: Vec<&str> = C::keys().filter(|key| !key.live).map(|key| key.name).collect();
        assert_eq!(waiting, restart);
    }
    let listening = ["port", "ws_port", "bind", "reactors", "private_fd_tables"];
    let tls = ["tls_cert", "tls_key", "tls_listener", "tls_client_ca", "tls_client_auth"];
    let identity = ["node_id", "service_name", "labels"];
    let authentication = ["auth", "jwt_key_file", "jwt_jwks_file"];
    let cluster = Config::sections().iter().find(|section| section.title == "Cluster").expect("a section");
    let cluster: Vec<&str> = cluster.keys.iter().map(|key| key.name).collect();
    let restart = [&listening[..], &tls, &identity, &authentication, &cluster, &["log_format"]].concat();
    check::<Config>(SERVE, FOR_A_NODE, &restart);

    let listening = ["port", "bind", "reactors", "private_fd_tables", "proxy_protocol_in"];
    let tls = ["tls_cert", "tls_key", "tls_client_ca", "tls_client_auth"];
    let backends = ["proxy_protocol_out", "backend_tls", "backend_ca", "backend_tls_name"];
    let restart = [&listening[..], &tls, &["service_name"], &backends, &["log_format"]].concat();
    check::<BalanceConfig>(BALANCE, A_BACKEND, &restart);
}
