//! Who is a member of the cluster and which users are where, kept in Redis.
//!
//! Owns: [`Registry`], the only code that reads or writes these keys. Never
//! decides when to beat, sweep or retry, never connects, and knows no clock
//! but Redis's.
//!
//! # What is kept
//!
//! * A node has a record: its incarnation, address, status and last beat. A
//!   node that has not beaten for the expiry, that leaves, or whose name is
//!   registered anew has no record any more but a *grave*, until the users of
//!   that incarnation are swept.
//! * A user has a row: on which nodes, registered by which incarnation. The
//!   row is gone when the last node is.
//! * An incarnation has the set of the users it registered, and all users are
//!   in one index. Both may for a moment name users who are gone; neither lacks
//!   one who is registered.
//!
//! # Fencing
//!
//! An incarnation writes only its own entry in a row and only over older ones,
//! and removes only what it or an older one wrote. So a late command, of a node
//! that was declared dead or of whoever sweeps it, harms nothing newer. Every
//! call can be repeated: what it returns is how things are, not what it
//! changed. Events are the exception: they are published by the very script
//! that makes the first entry of a row or removes the last, hence once.
//!
//! A node whose connection broke cannot know which of its commands are still
//! to be carried out. [`Registry::register_node`] with an incarnation above its
//! last one makes those harmless.

mod executor;
mod graves;
mod member;
mod names;
mod scripts;
mod users;

use std::collections::HashMap;
use std::time::Duration;

use redis::{Cmd, RedisError, RedisResult, ServerErrorKind, Value, cmd, from_redis_value};

pub use executor::Executor;
pub use graves::{Grave, Slice};
pub use member::{Member, NodeDescription, NodeRecord, RegistryError, Standing, Status};
pub use names::{BadPrefix, Names, PREFIX_BYTES};
pub use users::{Page, Registered};

use scripts::Scripts;

/// Largest incarnation: Lua counts in doubles.
pub const INCARNATION_MAX: u64 = 1 << 53;

/// Commands in one round trip, and members in one command. What is larger is
/// split, so that other clients of Redis get their turn.
const COMMANDS_MAX: usize = 1000;

/// The cluster's tables in Redis.
#[derive(Debug)]
pub struct Registry<E> {
    executor: E,
    names: Names,
    scripts: Scripts,
}

impl<E: Executor> Registry<E> {
    /// The tables under `names`, reached through `executor`. Asks Redis nothing.
    pub fn new(executor: E, names: Names) -> Registry<E> {
        Registry { executor, names, scripts: Scripts::new() }
    }

    /// The connection, for commands that are not the registry's.
    pub fn executor(&mut self) -> &mut E {
        &mut self.executor
    }

    /// The names in use.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Makes a node a member and returns its incarnation: `at_least`, or Redis's
    /// time in milliseconds if that is more, or more still if a predecessor had
    /// as much. The clocks of the machines that a node has its lives on may
    /// differ; that of Redis goes on from one to the next. A predecessor that
    /// still had the record is buried. Bounded by [`INCARNATION_MAX`].
    ///
    /// `grace`: how long nobody else may sweep that predecessor. Zero unless its
    /// users are about to be registered anew; see [`Grave::inherited`].
    ///
    /// # Errors
    /// The connection's or Redis's.
    pub fn register_node(
        &mut self,
        node: &NodeDescription,
        at_least: u64,
        grace: Duration,
    ) -> RedisResult<u64> {
        let keys = [self.names.node(&node.id), self.names.graves(&node.id)];
        // The name comes first: a record that no name leads to would never expire.
        let name = self.name_of(&node.id);
        self.call(|_| vec![name.clone()])?;
        let answers = self.call(|scripts| {
            let mut command = scripts.register_node.call(&[&keys[0], &keys[1]]);
            command.arg(at_least.min(INCARNATION_MAX)).arg(&node.address).arg(node.port);
            command.arg(node.connections).arg(&node.version).arg(node.status.as_str());
            command.arg(grace.as_millis()).arg(&node.id).arg(node.process);
            vec![command, name.clone()]
        })?;
        Ok(from_redis_value(first(answers))?)
    }

    /// Tells that `me` lives, with how many connections and what it is doing.
    /// Only [`Standing::Member`] has been noted.
    ///
    /// # Errors
    /// The connection's or Redis's.
    pub fn beat(&mut self, me: &Member, connections: u64, status: Status) -> RedisResult<Standing> {
        let record = self.names.node(&me.node);
        let name = self.name_of(&me.node);
        let answers = self.call(|scripts| {
            let mut command = scripts.beat.call(&[&record]);
            command.arg(me.incarnation).arg(connections).arg(status.as_str());
            vec![command, name.clone()]
        })?;
        let registered: u64 = from_redis_value(first(answers))?;
        Ok(Standing::of(me.incarnation, registered))
    }

    /// The record of a node, however long its last beat is ago; `None` if there
    /// is none.
    ///
    /// # Errors
    /// The connection's or Redis's.
    pub fn node(&mut self, id: &str) -> RedisResult<Option<NodeRecord>> {
        let key = self.names.node(id);
        let answers = self.call(|scripts| vec![scripts.read_node.call(&[&key])])?;
        Ok(read_record(id, first(answers)))
    }

    /// The nodes whose last beat is at most `expiry` ago, by Redis's time, in
    /// the order of their ids. One command a node and one more.
    ///
    /// # Errors
    /// The connection's or Redis's.
    pub fn nodes(&mut self, expiry: Duration) -> RedisResult<Vec<NodeRecord>> {
        let mut ids = self.node_ids()?;
        ids.sort_unstable();
        let mut nodes = Vec::with_capacity(ids.len());
        for ids in ids.chunks(COMMANDS_MAX) {
            let keys: Vec<_> = ids.iter().map(|id| self.names.node(id)).collect();
            let answers =
                self.call(|scripts| keys.iter().map(|key| scripts.read_node.call(&[key])).collect())?;
            for (id, answer) in ids.iter().zip(answers) {
                nodes.extend(read_record(id, answer));
            }
        }
        nodes.retain(|node| node.beat_age <= expiry);
        Ok(nodes)
    }

    /// Ids of nodes that have a record, a grave, or had one a moment ago.
    fn node_ids(&mut self) -> RedisResult<Vec<String>> {
        let mut command = cmd("SMEMBERS");
        command.arg(self.names.nodes());
        let ids: Vec<Vec<u8>> = from_redis_value(first(self.call(|_| vec![command.clone()])?))?;
        Ok(ids.into_iter().filter_map(|id| String::from_utf8(id).ok()).collect())
    }

    /// The command that makes a node's name known.
    fn name_of(&self, id: &str) -> Cmd {
        let mut command = cmd("SADD");
        command.arg(self.names.nodes()).arg(id);
        command
    }

    /// Runs what `build` makes, again after loading the scripts if Redis does
    /// not know one: it has been restarted, or a replica has been promoted.
    fn call(&mut self, build: impl Fn(&Scripts) -> Vec<Cmd>) -> RedisResult<Vec<Value>> {
        match self.executor.run(build(&self.scripts)) {
            Err(error) if is_unknown_script(&error) => {
                for command in self.scripts.load() {
                    self.executor.run(vec![command])?;
                }
                self.executor.run(build(&self.scripts))
            }
            answers => answers,
        }
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    executor::is_any(error, |kind| kind == ServerErrorKind::NoScript)
}

/// Whether a key was not of the kind that it has to be.
fn is_wrong_type(error: &RedisError) -> bool {
    const CODE: &str = "WRONGTYPE";
    match error.clone().into_server_errors() {
        Some(errors) => errors.iter().any(|(_, error)| error.code() == CODE),
        None => error.code() == Some(CODE),
    }
}

/// A record as the script gives it. What is no text was written by no node.
fn read_record(id: &str, answer: Value) -> Option<NodeRecord> {
    let (now_ms, fields): (u64, HashMap<String, String>) = from_redis_value(answer).ok()?;
    NodeRecord::read(id, &fields, now_ms)
}

/// The answer to the first command.
fn first(answers: Vec<Value>) -> Value {
    answers.into_iter().next().unwrap_or_default()
}
