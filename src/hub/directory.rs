//! Users and their connections.
//!
//! Owns: [`Directory`], the entries of the users at home on one reactor. An
//! entry shares its name with the connection's row; one connection, the usual
//! case, needs no further heap.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Place;

use crate::ids::ConnId;
use crate::limits::CONNECTIONS_PER_USER;

/// Whether a user came or went with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// It was the user's first connection.
    Online,
    /// It was the user's last connection.
    Offline,
    /// Neither.
    None,
}

/// The user has as many connections as a user may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

enum Connections {
    One(ConnId),
    /// Boxed twice so that an entry stays at 32 bytes: it is paid for by every user.
    #[allow(clippy::box_collection, reason = "a thin pointer keeps the common entry small")]
    Many(Box<Vec<ConnId>>),
}

impl Connections {
    fn as_slice(&self) -> &[ConnId] {
        match self {
            Connections::One(connection) => std::slice::from_ref(connection),
            Connections::Many(connections) => connections,
        }
    }

    fn add(&mut self, connection: ConnId) {
        match self {
            Connections::One(first) => *self = Connections::Many(Box::new(vec![*first, connection])),
            Connections::Many(connections) => connections.push(connection),
        }
    }

    /// Takes one away; true when none is left.
    fn remove(&mut self, connection: ConnId) -> bool {
        match self {
            Connections::One(only) => *only == connection,
            Connections::Many(connections) => {
                connections.retain(|other| *other != connection);
                if let [only] = connections[..] {
                    *self = Connections::One(only);
                }
                false
            }
        }
    }
}

struct Entry {
    user: Arc<str>,
    connections: Connections,
}

/// Entries by user id. Not thread-safe.
pub struct Directory {
    entries: HashTable<Entry>,
    hash: FixedState,
}

impl Directory {
    /// An empty directory.
    pub fn new(hash: FixedState) -> Self {
        Directory { entries: HashTable::new(), hash }
    }

    /// Users with at least one connection.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is online.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All users, in no order.
    pub fn users(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries.iter().map(|entry| &entry.user)
    }

    /// The user's connections, in the order they came; none when offline.
    pub fn connections(&self, user: &str) -> &[ConnId] {
        let found = self.entries.find(self.hash.hash_one(user), |entry| &*entry.user == user);
        found.map_or(&[], |entry| entry.connections.as_slice())
    }

    /// Adds a connection. Adding one that is there changes nothing.
    ///
    /// # Errors
    /// [`Refused`] at [`CONNECTIONS_PER_USER`].
    pub fn join(&mut self, user: &Arc<str>, connection: ConnId) -> Result<Edge, Refused> {
        let hash = &self.hash;
        let place = self.entries.entry(
            hash.hash_one(&**user),
            |entry| entry.user == *user,
            |entry| hash.hash_one(&*entry.user),
        );
        match place {
            Place::Vacant(place) => {
                place.insert(Entry { user: user.clone(), connections: Connections::One(connection) });
                Ok(Edge::Online)
            }
            Place::Occupied(mut place) => {
                let connections = &mut place.get_mut().connections;
                let known = connections.as_slice();
                if known.contains(&connection) {
                    return Ok(Edge::None);
                }
                if known.len() >= CONNECTIONS_PER_USER {
                    return Err(Refused);
                }
                connections.add(connection);
                Ok(Edge::None)
            }
        }
    }

    /// Takes a connection away. One that is not there changes nothing, so a
    /// late clean-up cannot remove what a newer connection wrote.
    pub fn leave(&mut self, user: &str, connection: ConnId) -> Edge {
        let hash = self.hash.hash_one(user);
        let Ok(mut place) = self.entries.find_entry(hash, |entry| &*entry.user == user) else {
            return Edge::None;
        };
        if !place.get_mut().connections.remove(connection) {
            return Edge::None;
        }
        place.remove();
        self.shrink();
        Edge::Offline
    }

    fn shrink(&mut self) {
        if self.entries.capacity() > 1024 && self.entries.len() < self.entries.capacity() / 8 {
            let hash = &self.hash;
            self.entries.shrink_to(self.entries.len() * 2, |entry| hash.hash_one(&*entry.user));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ReactorId;

    fn conn(n: u32) -> ConnId {
        ConnId::new(ReactorId(0), n, n)
    }

    fn directory() -> Directory {
        Directory::new(FixedState::with_seed(7))
    }

    #[test]
    fn an_entry_is_thirty_two_bytes() {
        assert_eq!(size_of::<Entry>(), 32);
    }

    #[test]
    fn edges_are_the_first_and_the_last_connection() {
        let (mut directory, user) = (directory(), Arc::from("u"));
        assert_eq!(directory.join(&user, conn(1)), Ok(Edge::Online));
        assert_eq!(directory.join(&user, conn(2)), Ok(Edge::None));
        assert_eq!(directory.join(&user, conn(2)), Ok(Edge::None), "twice is once");
        assert_eq!(directory.connections("u"), [conn(1), conn(2)]);
        assert_eq!(directory.leave("u", conn(1)), Edge::None);
        assert_eq!(directory.leave("u", conn(1)), Edge::None, "twice is once");
        assert_eq!(directory.leave("u", conn(2)), Edge::Offline);
        assert_eq!(directory.leave("u", conn(2)), Edge::None);
        assert!(directory.is_empty() && directory.connections("u").is_empty());
    }

    #[test]
    fn a_late_clean_up_does_not_remove_a_newer_connection() {
        let (mut directory, user) = (directory(), Arc::from("u"));
        directory.join(&user, conn(2)).unwrap();
        assert_eq!(directory.leave("u", conn(1)), Edge::None);
        assert_eq!(directory.connections("u"), [conn(2)]);
    }

    #[test]
    fn a_user_has_a_bounded_number_of_connections() {
        let (mut directory, user) = (directory(), Arc::from("u"));
        for n in 0..CONNECTIONS_PER_USER as u32 {
            directory.join(&user, conn(n)).unwrap();
        }
        assert_eq!(directory.join(&user, conn(9999)), Err(Refused));
    }

    #[test]
    fn an_emptied_directory_gives_its_table_back() {
        let mut directory = directory();
        let users: Vec<Arc<str>> = (0..10_000).map(|n| format!("user-{n}").into()).collect();
        for (n, user) in users.iter().enumerate() {
            directory.join(user, conn(n as u32)).unwrap();
        }
        for (n, user) in users.iter().enumerate() {
            assert_eq!(directory.connections(user), [conn(n as u32)]);
            assert_eq!(directory.leave(user, conn(n as u32)), Edge::Offline);
        }
        assert!(directory.entries.capacity() <= 2048);
    }
}
