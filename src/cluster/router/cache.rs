//! Where users were when last looked up: bounded in number and in time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::cluster::registry::Member;

struct Known {
    nodes: Vec<Member>,
    until: Instant,
}

/// Two generations: when the younger has half of all that may be kept, it
/// becomes the older and the older is forgotten.
pub(super) struct Cache {
    young: HashMap<Box<str>, Known>,
    old: HashMap<Box<str>, Known>,
    half: usize,
    time: Duration,
}

impl Cache {
    pub(super) fn new(users: usize, time: Duration) -> Self {
        Cache { young: HashMap::new(), old: HashMap::new(), half: users / 2, time }
    }

    /// The nodes of a user, if they were looked up lately.
    pub(super) fn nodes(&self, user: &str, now: Instant) -> Option<Vec<Member>> {
        let known = self.young.get(user).or_else(|| self.old.get(user))?;
        (now < known.until).then(|| known.nodes.clone())
    }

    pub(super) fn insert(&mut self, user: &str, nodes: Vec<Member>, now: Instant) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(user.into(), Known { nodes, until: now + self.time });
    }

    /// Forgets the users on nodes of whom not each `is_alive`.
    pub(super) fn retain(&mut self, is_alive: impl Fn(&Member) -> bool) {
        for generation in [&mut self.young, &mut self.old] {
            generation.retain(|_, known| known.nodes.iter().all(&is_alive));
        }
    }

    pub(super) fn remove(&mut self, user: &str) {
        self.young.remove(user);
        self.old.remove(user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(name: &str) -> Vec<Member> {
        vec![Member::new(name, 1)]
    }

    #[test]
    fn what_is_known_is_forgotten_in_time_or_when_told() {
        let start = Instant::now();
        let mut cache = Cache::new(100, Duration::from_secs(30));
        cache.insert("ann", nodes("a"), start);
        assert_eq!(cache.nodes("ann", start + Duration::from_secs(29)), Some(nodes("a")));
        assert_eq!(cache.nodes("ann", start + Duration::from_secs(30)), None);
        cache.remove("ann");
        assert_eq!(cache.nodes("ann", start), None);
    }

    #[test]
    fn users_of_a_node_that_is_gone_are_forgotten() {
        let start = Instant::now();
        let mut cache = Cache::new(2, Duration::from_secs(30));
        cache.insert("ann", nodes("a"), start);
        cache.insert("bob", [nodes("a"), nodes("b")].concat(), start);
        cache.retain(|member| member.node != "b");
        assert_eq!(cache.nodes("ann", start), Some(nodes("a")));
        assert_eq!(cache.nodes("bob", start), None);
    }

    #[test]
    fn the_number_kept_is_bounded_and_the_latest_are_kept() {
        let start = Instant::now();
        let mut cache = Cache::new(100, Duration::from_secs(30));
        for n in 0..1000 {
            cache.insert(&format!("user-{n}"), nodes("a"), start);
            assert!(cache.young.len() + cache.old.len() <= 100);
        }
        assert!((960..1000).all(|n| cache.nodes(&format!("user-{n}"), start).is_some()));
    }
}
