//! Users that came to this node or left it, until Redis is told.
//!
//! Owns [`Changes`]. Never: when Redis is told, or what it answers.

use std::sync::Arc;

use crate::limits::CLUSTER_CHANGES;

/// A user, and whether it came.
pub(super) type Change = (Arc<str>, bool);

/// What changed since the reactors were asked for all their users, in order.
/// What came before is in their lists, so it is not kept.
#[derive(Debug, Default)]
pub(super) struct Changes {
    waiting: Vec<Change>,
    has_begun: bool,
}

impl Changes {
    /// The reactors are asked for their users now.
    pub(super) fn begin(&mut self) {
        self.has_begun = true;
    }

    /// Notes what is to be told, if there is a list it is to be added to.
    pub(super) fn extend(&mut self, changes: impl IntoIterator<Item = Change>) {
        if self.has_begun {
            self.waiting.extend(changes);
        }
    }

    /// Whether Redis has been told of all.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether more wait than may while nobody can be told. To list all users
    /// anew is then cheaper than to keep what each of them did.
    pub(super) fn are_too_many(&self) -> bool {
        self.waiting.len() > CLUSTER_CHANGES
    }

    /// Takes out all that is to be told.
    pub(super) fn take(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(n: usize, joined: bool) -> Change {
        (format!("user-{n}").into(), joined)
    }

    #[test]
    fn nothing_is_kept_that_a_list_will_tell() {
        let mut changes = Changes::default();
        changes.extend((0..10).map(|n| change(n, true)));
        assert!(changes.is_empty());
        changes.begin();
        changes.extend([change(1, true), change(1, false)]);
        assert_eq!(changes.take(), [change(1, true), change(1, false)]);
        assert!(changes.is_empty());
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut changes = Changes::default();
        changes.begin();
        changes.extend((0..CLUSTER_CHANGES).map(|n| change(n, n % 2 == 0)));
        assert!(!changes.are_too_many());
        changes.extend([change(0, false)]);
        assert!(changes.are_too_many());
        changes.take();
        assert!(!changes.are_too_many());
    }
}
