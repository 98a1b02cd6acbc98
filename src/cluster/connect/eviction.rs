//! Whether Redis throws keys away that have no time to live.
//!
//! Owns the reading of what `INFO memory` says. Never what is done about it.

/// The policy by which a server throws away any key when its memory is full,
/// as it stands in its answer to `INFO memory`; `None` if it keeps those that
/// have no time to live, has no bound, or does not say.
pub(super) fn evicting_policy(info: &str) -> Option<&str> {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let is_bounded = field("maxmemory")?.trim().parse::<u64>().ok()? > 0;
    let policy = field("maxmemory_policy")?.trim();
    Some(policy).filter(|policy| is_bounded && policy.starts_with("allkeys-"))
}

#[cfg(test)]
mod tests {
    use super::evicting_policy;

    #[test]
    fn only_a_bound_and_a_policy_for_all_keys_evict_ours() {
        let check = |maxmemory: &str, policy: &str, expected: Option<&str>| {
            let info = format!(
                "# Memory\r\nused_memory:1\r\nmaxmemory:{maxmemory}\r\nmaxmemory_human:1M\r\n\
                 maxmemory_policy:{policy}\r\n"
            );
            assert_eq!(evicting_policy(&info), expected, "{info}");
        };
        check("1048576", "allkeys-lru", Some("allkeys-lru"));
        check("1048576", "allkeys-random", Some("allkeys-random"));
        check("0", "allkeys-lru", None);
        check("1048576", "volatile-lru", None);
        check("1048576", "noeviction", None);
        check("much", "allkeys-lru", None);
        assert_eq!(evicting_policy(""), None);
    }
}
