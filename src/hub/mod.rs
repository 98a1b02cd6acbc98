//! Who gets what: the directory of users and where a message for one must go.
//!
//! Owns: [`Hub`], one per reactor, and [`Homes`]. Every user has a *home*, the
//! reactor whose hub holds the user's directory entry; it is found by hashing
//! the id, so no thread needs a lock or a query to find it. Messages for a user
//! travel by way of its home, which keeps their order. Anonymous users have no
//! entry: their id names their connection. Never touches sockets, threads or
//! clocks; sees ids, not reactors.

pub mod directory;
pub mod gather;

use std::collections::{BinaryHeap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::ids::{ConnId, ReactorId};
use directory::{Directory, Edge, Refused};

/// Which reactor is home to a user. The same in every thread of a node.
#[derive(Clone, Debug)]
pub struct Homes {
    hash: FixedState,
    reactors: u8,
    /// Beginning of every anonymous id of this node.
    anonymous_prefix: Arc<str>,
}

impl Homes {
    /// `seed` differs from process to process, so that nobody outside can
    /// choose ids that share a home. `instance` makes anonymous ids unlike
    /// those of other nodes.
    pub fn new(reactors: u8, seed: u64, instance: &str) -> Self {
        debug_assert!(reactors > 0);
        Homes {
            hash: FixedState::with_seed(seed),
            reactors,
            anonymous_prefix: format!("{ANONYMOUS}{instance}-").into(),
        }
    }

    /// The home of a named user.
    pub fn of(&self, user: &str) -> ReactorId {
        let hash = self.hash.hash_one(user);
        ReactorId(((u128::from(hash) * u128::from(self.reactors)) >> 64) as u8)
    }

    /// The id of the anonymous user on a connection.
    pub fn anonymous(&self, connection: ConnId) -> String {
        format!("{}{connection}", self.anonymous_prefix)
    }

    /// The connection an anonymous id of this node names; it may have ended.
    pub fn anonymous_connection(&self, user: &str) -> Option<ConnId> {
        let id: ConnId = user.strip_prefix(&*self.anonymous_prefix)?.parse().ok()?;
        (id.reactor().0 < self.reactors).then_some(id)
    }

    fn hash(&self) -> FixedState {
        self.hash.clone()
    }
}

/// Ids that begin like this are given by nodes and cannot be chosen.
pub const ANONYMOUS: &str = "anon-";

/// Where a message for a user must go from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// This reactor is the user's home; these are the connections, on whatever reactor.
    Connections(&'a [ConnId]),
    /// The id names a connection, of this or another reactor.
    Anonymous(ConnId),
    /// Ask the home.
    Home(ReactorId),
    /// This reactor is the user's home and knows no connection.
    Offline,
}

/// One reactor's part of the directory. Not thread-safe.
pub struct Hub {
    me: ReactorId,
    homes: Homes,
    directory: Directory,
    /// Users at home here who are on other nodes as well: few.
    elsewhere: HashSet<Arc<str>>,
}

impl Hub {
    /// An empty hub for reactor `me`.
    pub fn new(me: ReactorId, homes: Homes) -> Self {
        let directory = Directory::new(homes.hash());
        Hub { me, homes, directory, elsewhere: HashSet::new() }
    }

    /// Who is home to whom.
    pub fn homes(&self) -> &Homes {
        &self.homes
    }

    /// Users with a connection, of those at home here.
    pub fn users(&self) -> usize {
        self.directory.len()
    }

    /// Where a message for `user` goes from here.
    pub fn route(&self, user: &str) -> Route<'_> {
        if let Some(connection) = self.homes.anonymous_connection(user) {
            return Route::Anonymous(connection);
        }
        let home = self.homes.of(user);
        if home != self.me {
            return Route::Home(home);
        }
        match self.directory.connections(user) {
            [] => Route::Offline,
            connections => Route::Connections(connections),
        }
    }

    /// Whether `user` is known to be on other nodes as well.
    pub fn is_elsewhere(&self, user: &str) -> bool {
        !self.elsewhere.is_empty() && self.elsewhere.contains(user)
    }

    /// Notes whether `user` is on other nodes as well. Of no concern for users without a connection here.
    pub fn set_elsewhere(&mut self, user: &str, elsewhere: bool) {
        if !elsewhere {
            self.elsewhere.remove(user);
        } else if !self.directory.connections(user).is_empty() {
            self.elsewhere.insert(user.into());
        }
    }

    /// The first `limit` users at home here whose ids come after `after`, in
    /// the order of their bytes, and whether there are more.
    pub fn users_after(&self, after: &str, limit: usize) -> (Vec<Arc<str>>, bool) {
        let mut first: BinaryHeap<&Arc<str>> = BinaryHeap::with_capacity(limit + 1);
        let mut more = false;
        for user in self.directory.users().filter(|user| &***user > after) {
            first.push(user);
            if first.len() > limit {
                first.pop();
                more = true;
            }
        }
        (first.into_sorted_vec().into_iter().cloned().collect(), more)
    }

    /// All users with a connection, of those at home here, in no order.
    pub fn all_users(&self) -> impl Iterator<Item = &Arc<str>> {
        self.directory.users()
    }

    /// Records a connection of a user at home here.
    ///
    /// # Errors
    /// [`Refused`] when the user has as many connections as a user may.
    pub fn join(&mut self, user: &Arc<str>, connection: ConnId) -> Result<Edge, Refused> {
        debug_assert_eq!(self.homes.of(user), self.me);
        self.directory.join(user, connection)
    }

    /// Forgets a connection of a user at home here.
    pub fn leave(&mut self, user: &str, connection: ConnId) -> Edge {
        let edge = self.directory.leave(user, connection);
        if edge == Edge::Offline {
            self.elsewhere.remove(user);
        }
        edge
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(me: u8, reactors: u8) -> Hub {
        Hub::new(ReactorId(me), Homes::new(reactors, 42, "0badcafe"))
    }

    #[test]
    fn every_user_has_one_home_and_homes_share_the_users() {
        let homes = Homes::new(4, 1, "x");
        let mut counts = [0; 4];
        for n in 0..10_000 {
            let user = format!("user-{n}");
            assert_eq!(homes.of(&user), homes.clone().of(&user));
            counts[homes.of(&user).index()] += 1;
        }
        assert!(counts.iter().all(|count| (2200..2800).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_message_is_routed_by_way_of_the_home() {
        let user: Arc<str> = "alice".into();
        let home = hub(0, 3).homes().of(&user);
        let (a, b) = (ConnId::new(ReactorId(0), 1, 1), ConnId::new(ReactorId(2), 9, 4));
        for me in 0..3 {
            let mut hub = hub(me, 3);
            if ReactorId(me) != home {
                assert_eq!(hub.route(&user), Route::Home(home));
                continue;
            }
            assert_eq!(hub.route(&user), Route::Offline);
            hub.join(&user, a).unwrap();
            hub.join(&user, b).unwrap();
            assert_eq!(hub.route(&user), Route::Connections(&[a, b]));
        }
    }

    #[test]
    fn users_are_listed_in_order_a_page_at_a_time() {
        let mut hub = hub(0, 1);
        for n in (0..25).rev() {
            hub.join(&format!("user-{n:02}").into(), ConnId::new(ReactorId(0), n, n)).unwrap();
        }
        let (first, more) = hub.users_after("", 10);
        assert_eq!((first.len(), &*first[0], &*first[9], more), (10, "user-00", "user-09", true));
        let (last, more) = hub.users_after("user-19", 10);
        assert_eq!((last.len(), &*last[4], more), (5, "user-24", false));
    }

    #[test]
    fn an_anonymous_id_names_its_connection_on_its_node_only() {
        let connection = ConnId::new(ReactorId(1), 77, 3);
        let id = hub(0, 2).homes().anonymous(connection);
        assert_eq!(hub(0, 2).route(&id), Route::Anonymous(connection));
        let elsewhere = Homes::new(2, 42, "another");
        assert_eq!(elsewhere.anonymous_connection(&id), None);
        for bad in ["anon-0badcafe-", "anon-0badcafe-zz", "anon-0badcafe-ff00000000000000"] {
            assert_eq!(hub(0, 2).homes().anonymous_connection(bad), None, "{bad}");
        }
    }
}
