//! All commands that are configured: the one place that knows every table.

use super::{Config, Settings, print};
use crate::balancer::config::BalanceConfig;

/// The command that has a key called `name`.
pub(super) fn with_key(name: &str) -> Option<&'static str> {
    fn has<C: Settings>(name: &str) -> Option<&'static str> {
        C::keys().any(|key| key.name == name).then_some(C::COMMAND)
    }
    has::<Config>(name).or_else(|| has::<BalanceConfig>(name))
}

/// The command that has a key with this `THRONG_…` variable.
pub(super) fn with_variable(variable: &str) -> Option<&'static str> {
    let name = variable.strip_prefix("THRONG_")?;
    // In capitals only, as a variable is written.
    if name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        None
    } else {
        with_key(&name.to_ascii_lowercase())
    }
}

/// Appends the reference of every command's keys, in Markdown.
pub(super) fn describe(out: &mut String) {
    print::describe::<Config>(out);
    print::describe::<BalanceConfig>(out);
}
