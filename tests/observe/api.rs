//! The descriptions of the HTTP interfaces name paths and methods that are there.

use crate::balancer::Balancer;
use crate::file;
use crate::node::Node;
use crate::web::Web;

/// The methods of each path, from the indentation of a description.
fn operations(description: &str) -> Vec<(String, String)> {
    let (mut path, mut found) = (String::new(), Vec::new());
    let paths = description.lines().skip_while(|line| *line != "paths:").skip(1);
    for line in paths.take_while(|line| line.starts_with(' ') || line.is_empty()) {
        match line.strip_prefix("  ") {
            Some(rest) if rest.starts_with('/') => rest.trim_end_matches(':').clone_into(&mut path),
            Some(rest) if rest.starts_with("  ") && !rest.starts_with("   ") => {
                let key = rest.trim().trim_end_matches(':');
                if ["get", "post", "delete", "head", "put"].contains(&key) {
                    found.push((key.to_uppercase(), path.clone()));
                }
            }
            _ => {}
        }
    }
    found
}

fn check(description: &str, address: std::net::SocketAddr, at_least: usize) {
    let operations = operations(&file(description));
    assert!(operations.len() >= at_least, "{operations:?}");
    for (method, path) in operations {
        let target = path.replace("{id}", "b1").replace("{user_id}", "anna");
        let mut web = Web::connect(address);
        web.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        let response = web.response();
        // What needs a body is answered 400; that what is asked for was deleted before is no matter here.
        let is_there = !String::from_utf8_lossy(&response.body).contains("no such path");
        assert!(is_there && !matches!(response.status, 405 | 501), "{method} {path}: {response:?}");
    }
}

#[test]
fn what_is_described_is_there() {
    let nodes = [Node::start(&[])];
    let balancer = Balancer::start(&nodes, &[]);
    check("docs/api.yaml", nodes[0].http, 10);
    check("docs/balancer-api.yaml", balancer.http, 12);
}
