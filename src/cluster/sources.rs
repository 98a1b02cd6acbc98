//! Short names for the lives of other nodes, so that what travels through a
//! reactor can say in four bytes where it came from.
//!
//! Owns [`SourceId`], [`Naming`], the subscriber's end, which gives the names,
//! and [`Sources`], the publisher's, which is told of them. A name is never
//! given twice; one that has been forgotten means nobody.

use std::collections::{BTreeMap, HashMap};

use super::registry::Member;
use crate::limits::STREAM_SOURCES;

/// A node, in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceId(u32);

impl SourceId {
    /// This node.
    pub const HERE: SourceId = SourceId(0);
}

/// Gives names to the lives of up to [`STREAM_SOURCES`] nodes.
#[derive(Debug, Default)]
pub struct Naming {
    /// The latest life of each node.
    known: HashMap<String, (u64, SourceId)>,
    last: u32,
}

/// What [`Naming::name`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// Known before.
    Known(SourceId),
    /// Given just now.
    New(SourceId),
    /// A newer life of the node is known.
    Outdated,
}

impl Naming {
    /// The name of a node's life.
    pub fn name(&mut self, node: &str, incarnation: u64) -> Name {
        match self.known.get(node) {
            Some((known, id)) if *known == incarnation => return Name::Known(*id),
            Some((known, _)) if *known > incarnation => return Name::Outdated,
            Some(_) | None => {}
        }
        if self.known.len() >= STREAM_SOURCES {
            self.known.clear();
        }
        self.last = self.last.saturating_add(1);
        let id = SourceId(self.last);
        self.known.insert(node.to_owned(), (incarnation, id));
        Name::New(id)
    }
}

/// The last [`STREAM_SOURCES`] lives that were given a name.
#[derive(Debug, Default)]
pub struct Sources(BTreeMap<SourceId, Member>);

impl Sources {
    /// A name was given.
    pub fn add(&mut self, id: SourceId, member: Member) {
        self.0.insert(id, member);
        if self.0.len() > STREAM_SOURCES {
            self.0.pop_first();
        }
    }

    /// Who has this name.
    pub fn get(&self, id: SourceId) -> Option<&Member> {
        self.0.get(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_life_has_a_name_of_its_own() {
        let mut naming = Naming::default();
        let Name::New(first) = naming.name("a", 5) else { panic!("never heard of") };
        assert_ne!(first, SourceId::HERE);
        assert_eq!(naming.name("a", 5), Name::Known(first));
        let Name::New(second) = naming.name("a", 6) else { panic!("another life") };
        assert_ne!(first, second);
        assert_eq!(naming.name("a", 5), Name::Outdated);
        assert_eq!(naming.name("a", 6), Name::Known(second));
    }

    #[test]
    fn both_ends_are_bounded_and_the_latest_names_are_known() {
        let (mut naming, mut sources) = (Naming::default(), Sources::default());
        let mut ids = Vec::new();
        for n in 0..2 * STREAM_SOURCES as u64 + 5 {
            let node = format!("node-{n}");
            let Name::New(id) = naming.name(&node, n) else { panic!("{node} is new") };
            sources.add(id, Member::new(node, n));
            ids.push(id);
            assert!(naming.known.len() <= STREAM_SOURCES && sources.0.len() <= STREAM_SOURCES);
        }
        assert_eq!(sources.get(ids[0]), None);
        let last = ids.len() - 1;
        assert_eq!(sources.get(ids[last]), Some(&Member::new(format!("node-{last}"), last as u64)));
        assert_eq!(sources.get(SourceId::HERE), None);
    }
}
