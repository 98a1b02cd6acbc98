//! The exposition in the text format that was there before OpenMetrics
//! (version 0.0.4), for readers that do not know the newer one.
//!
//! Owns: which of the two a request prefers, and the rewriting. The values are
//! the same; what differs is that a counter's family bears the suffix
//! `_total`, an info is a gauge whose name ends in `_info`, and units and the
//! end are not marked.

/// The media type of the older format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether an `Accept` header asks for plain text and not for OpenMetrics.
/// Without preference OpenMetrics is right.
pub(crate) fn is_preferred(accept: Option<&str>) -> bool {
    let types = |name: &str| {
        let types = accept.unwrap_or_default().split(',');
        types
            .map(|part| part.split(';').next().unwrap_or_default().trim_ascii())
            .any(|found| found.eq_ignore_ascii_case(name))
    };
    types("text/plain") && !types("application/openmetrics-text")
}

/// Rewrites an exposition of ours in the older format.
pub(crate) fn rewrite(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len());
    // HELP stands before TYPE, which alone says how the family is called here.
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                _ => ("", kind),
            };
            if let Some((_, text)) = help.take() {
                push(&mut out, &["# HELP ", name, suffix, " ", text]);
            }
            push(&mut out, &["# TYPE ", name, suffix, " ", kind]);
        } else if !line.starts_with('#') {
            push(&mut out, &[line]);
        }
    }
    out
}

fn push(out: &mut String, parts: &[&str]) {
    out.extend(parts.iter().copied());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_for_who_asks_for_it_alone() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, preferred) in [
            (None, false),
            (Some("*/*"), false),
            (Some("text/html"), false),
            (Some(prometheus), false),
            (Some("text/plain"), true),
            (Some("application/json, Text/Plain; version=0.0.4;q=0.5"), true),
            (Some(""), false),
        ] {
            assert_eq!(is_preferred(accept), preferred, "{accept:?}");
        }
    }

    #[test]
    fn families_are_called_as_their_samples() {
        let openmetrics = "# HELP a A thing.\n# TYPE a counter\n# UNIT a bytes\na_total{b=\"# TYPE c\"} 1\n\
                           # HELP n The node.\n# TYPE n info\nn_info{v=\"1\"} 1\n\
                           # HELP g More.\n# TYPE g gauge\ng 2\n# EOF\n";
        let classic = "# HELP a_total A thing.\n# TYPE a_total counter\na_total{b=\"# TYPE c\"} 1\n\
                       # HELP n_info The node.\n# TYPE n_info gauge\nn_info{v=\"1\"} 1\n\
                       # HELP g More.\n# TYPE g gauge\ng 2\n";
        assert_eq!(rewrite(openmetrics), classic);
    }
}
