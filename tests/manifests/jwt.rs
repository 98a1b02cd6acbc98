//! The component for tokens: a pod whose keys are rotated.

use std::path::Path;

use serde_json::json;
use throng::config::Auth;

use crate::node::{Launch, Node};
use crate::program::Program;
use crate::signing::{Signer, jwks, now};
use crate::socket::Socket;
use crate::tls::{Secret, read};

const COMPONENT: &str = "k8s/components/jwt";

#[test]
fn the_program_is_told_where_the_keys_are() {
    let (pod, settings) = read(COMPONENT, "StatefulSet", "jwt.env");
    let mount = &pod["containers"][0]["volumeMounts"][0];
    assert!(mount["subPath"].is_null(), "it would never be replaced");
    assert_eq!(mount["name"], pod["volumes"][0]["name"]);
    let Program::Node(config) = Program::read(&["serve".to_owned()], &settings) else { panic!() };
    let file = Path::new(mount["mountPath"].as_str().unwrap()).join("jwks.json");
    assert_eq!((config.auth, config.jwt_jwks_file), (Auth::Jwt, Some(file)));
}

/// The status that an upgrade with a token is answered with.
fn status(node: &Node, signer: &Signer, id: &str) -> u16 {
    let token = signer.token_of(id, &json!({"sub": "alice", "exp": now() + 600}));
    let bearer = format!("Authorization: Bearer {token}\r\n");
    Socket::try_connect(node.http, "/ws", &bearer).map_or_else(|answer| answer.status, |_| 101)
}

#[test]
fn keys_are_rotated_without_a_restart() {
    let (old, new) = (Signer::fresh(), Signer::fresh());
    let mut secret = Secret::mount(&[("jwks.json", &jwks(&[old.jwk("old")]))]);
    let (_, settings) = read(COMPONENT, "StatefulSet", "jwt.env");
    let launch = settings.iter().fold(Launch::serve(&["--reactors", "1"]), |launch, (name, value)| {
        launch.variable(name, &value.replacen("/jwt/", &format!("{}/", secret.mounted.display()), 1))
    });
    let node = launch.start();
    assert_eq!([status(&node, &old, "old"), status(&node, &new, "new")], [101, 401]);
    secret.update(&[("jwks.json", &jwks(&[old.jwk("old"), new.jwk("new")]))]);
    node.process.log_line("2 keys");
    assert_eq!([status(&node, &old, "old"), status(&node, &new, "new")], [101, 101]);
    secret.update(&[("jwks.json", "{")]);
    node.process.log_line("the keys of tokens stay as they were");
    assert_eq!(status(&node, &new, "new"), 101);
}
