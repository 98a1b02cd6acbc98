//! The pages that browsers are shown.
//!
//! Owns: their assembly from markup, styles and scripts into one document
//! each, and the policy that lets a browser run nothing else. Never: the
//! figures on them; a page asks for those itself.
//!
//! The markup of a page has an empty `<style>` and an empty `<script>`
//! element, which are filled with what the page needs of the files beside this
//! one and with its own. Nothing is loaded from elsewhere.

use std::sync::LazyLock;

use data_encoding::BASE64;
use sha2::{Digest, Sha256};

use crate::http::Response;

/// The look that all pages share.
const THEME: &str = include_str!("page/theme.css");
/// What the scripts of all pages share, and the charts.
const COMMON: [&str; 2] = [include_str!("page/common.js"), include_str!("page/chart.js")];

/// A node's page, `/dashboard`.
pub static DASHBOARD: LazyLock<Page> = LazyLock::new(|| {
    Page::assemble(
        include_str!("admin/dashboard.html"),
        include_str!("admin/dashboard.css"),
        &[include_str!("admin/dashboard.js")],
    )
});

/// The balancer's page, `/web-loadbalancer.html`.
pub static BALANCER: LazyLock<Page> = LazyLock::new(|| {
    Page::assemble(
        include_str!("balancer/page.html"),
        include_str!("balancer/page.css"),
        &[
            include_str!("balancer/page/backends.js"),
            include_str!("balancer/page/events.js"),
            include_str!("balancer/page/commands.js"),
            include_str!("balancer/page/clients.js"),
            include_str!("balancer/page.js"),
        ],
    )
});

/// A document that needs nothing else.
#[derive(Debug)]
pub struct Page {
    document: String,
    policy: String,
}

impl Page {
    fn assemble(markup: &str, style: &str, scripts: &[&str]) -> Page {
        let style = format!("{THEME}{style}");
        // In a function of its own, so that no name meets one of the browser's.
        let script = format!("(() => {{\n'use strict';\n{}{}}})();\n", COMMON.concat(), scripts.concat());
        let document = markup.replacen("<style></style>", &format!("<style>{style}</style>"), 1).replacen(
            "<script></script>",
            &format!("<script>{script}</script>"),
            1,
        );
        Page { document, policy: policy(&style, &script) }
    }

    /// The page with the headers that go with it.
    pub fn response(&self) -> Response {
        Response::text(200, "text/html; charset=utf-8", self.document.as_str())
            .with("content-security-policy", self.policy.as_str())
            .with("referrer-policy", "no-referrer")
            .with("cross-origin-opener-policy", "same-origin")
    }
}

/// Content Security Policy: this style and this script by their hashes, figures
/// from the page's own origin, and nothing else. No other page may frame it,
/// and no script can turn text into markup (trusted types).
fn policy(style: &str, script: &str) -> String {
    format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        source(style),
        source(script)
    )
}

/// A hash source: the exact text between the tags.
fn source(text: &str) -> String {
    format!("'sha256-{}'", BASE64.encode(&Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both pages, by name.
    fn pages() -> [(&'static str, &'static Page); 2] {
        [("dashboard", &DASHBOARD), ("balancer", &BALANCER)]
    }

    /// What stands between the only `<tag>` and its end.
    fn content<'a>(document: &'a str, tag: &str) -> &'a str {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        assert_eq!(document.matches(&open).count(), 1, "{open}");
        assert_eq!(document.matches(&close).count(), 1, "{close}");
        let (_, rest) = document.split_once(&open).expect("it was counted");
        rest.split_once(&close).expect("it was counted").0
    }

    #[test]
    fn the_policy_names_the_hash_of_what_the_page_holds() {
        for (name, page) in pages() {
            for tag in ["style", "script"] {
                let content = content(&page.document, tag);
                assert!(content.len() > 1000, "{name}: the {tag} is missing");
                let expected = format!("{tag}-src {};", source(content));
                assert!(page.policy.contains(&expected), "{name}: {}", page.policy);
            }
            assert!(page.policy.starts_with("default-src 'none';") && !page.policy.contains("unsafe"));
        }
    }

    #[test]
    fn a_hash_source_is_as_browsers_write_it() {
        assert_eq!(source("doSomething();"), "'sha256-RFWPLDbv2BY+rCkDzsE+0fr8ylGr2R2faWMhq4lfEQc='");
    }

    /// What the policy would forbid in silence: attributes that are style or
    /// script, and anything loaded from elsewhere.
    #[test]
    fn a_page_holds_nothing_its_policy_forbids() {
        for (name, page) in pages() {
            let markup = page
                .document
                .replace(content(&page.document, "style"), "")
                .replace(content(&page.document, "script"), "");
            for forbidden in
                [" style=", " onclick=", " onload=", "javascript:", " src=", "http://", "https://", "\"//"]
            {
                let found = markup.replace("http://www.w3.org/2000/svg", "").contains(forbidden);
                assert!(!found, "{name}: {forbidden:?} in the markup");
            }
            let script = content(&page.document, "script");
            for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!script.contains(forbidden), "{name}: {forbidden:?} in the script");
            }
            let style = content(&page.document, "style");
            assert!(!style.contains("url(") && !style.contains("@import"), "{name}");
        }
    }

    #[test]
    fn the_answer_is_html_that_is_not_sniffed_kept_or_framed() {
        for (name, page) in pages() {
            let response = page.response();
            assert_eq!((response.status, response.content_type), (200, "text/html; charset=utf-8"));
            let mut out = Vec::new();
            response.write_to(&mut out, true, true);
            let head = String::from_utf8(out).expect("headers are ASCII");
            for part in ["frame-ancestors 'none'", "nosniff", "no-store", "no-referrer"] {
                assert!(head.contains(part), "{name}: {head}");
            }
            assert!(page.document.len() < 128 * 1024, "{name}: {} bytes", page.document.len());
        }
    }
}
