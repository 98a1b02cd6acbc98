//! The end of a node: its death is noticed, its users are swept.
//!
//! A grave is leased to one claimant at a time, who sweeps it slice by slice
//! and renews the lease with each. If the claimant dies the lease ends and
//! another goes on. Two who sweep at once, because one was slow, do no harm.

use std::time::Duration;

use redis::{RedisResult, Value, cmd, from_redis_value};

use super::executor::Executor;
use super::member::Member;
use super::{COMMANDS_MAX, Registry};

/// A dead incarnation whose users the holder is to sweep.
#[derive(Debug, PartialEq, Eq)]
pub struct Grave {
    /// Who is dead.
    pub dead: Member,
    claimant: String,
    lease_ms: u128,
}

/// What one slice of a sweep did.
#[derive(Debug, PartialEq, Eq)]
pub enum Slice {
    /// These users were swept, each with the nodes it is still on; there may be more.
    Swept(Vec<(String, Vec<Member>)>),
    /// Nobody was left: the grave is closed.
    Done,
    /// The grave is closed, or another's: the lease had ended.
    Lost,
}

impl Grave {
    /// The grave of an earlier incarnation of `me`'s node, which is leased to
    /// `me` since [`Registry::register_node`] was given a grace. `lease`: as in
    /// [`Registry::claim`].
    pub fn inherited(me: &Member, predecessor: u64, lease: Duration) -> Grave {
        let dead = Member::new(me.node.clone(), predecessor);
        Grave { dead, claimant: claimant(me), lease_ms: millis(lease) }
    }
}

impl<E: Executor> Registry<E> {
    /// Buries nodes whose last beat is more than `expiry` ago, by Redis's time,
    /// and leases to `me` every grave that nobody sweeps. Of several claimants
    /// exactly one gets a grave, until `lease` after its last
    /// [slice](Registry::sweep). At most one grave a node and call.
    ///
    /// # Errors
    /// The connection's or Redis's. Graves already leased are free again after
    /// the lease.
    pub fn claim(&mut self, me: &Member, expiry: Duration, lease: Duration) -> RedisResult<Vec<Grave>> {
        let ids = self.node_ids()?;
        let mut graves = Vec::new();
        let mut vacant = Vec::new();
        for ids in ids.chunks(COMMANDS_MAX) {
            let keys: Vec<_> = ids.iter().map(|id| [self.names.node(id), self.names.graves(id)]).collect();
            let answers = self.call(|scripts| {
                let claim = |[record, graves]: &[String; 2]| {
                    let mut command = scripts.claim.call(&[record, graves]);
                    command.arg(millis(expiry)).arg(millis(lease)).arg(claimant(me));
                    command
                };
                keys.iter().map(claim).collect()
            })?;
            for (id, answer) in ids.iter().zip(answers) {
                match answer {
                    Value::Int(0) => {}
                    Value::Int(_) => vacant.push(id.clone()),
                    incarnation => {
                        let dead = Member::new(id.clone(), from_redis_value(incarnation)?);
                        graves.push(Grave { dead, claimant: claimant(me), lease_ms: millis(lease) });
                    }
                }
            }
        }
        self.forget_names(&vacant)?;
        Ok(graves)
    }

    /// Ends the membership of `me`: it is no node any more, and what it has
    /// registered is in the grave that is returned, leased to itself for
    /// `lease`. `None` if it was no member. Should it not get around to sweeping
    /// the grave, others will.
    ///
    /// # Errors
    /// The connection's or Redis's.
    pub fn leave(&mut self, me: &Member, lease: Duration) -> RedisResult<Option<Grave>> {
        let keys = [self.names.node(&me.node), self.names.graves(&me.node)];
        let answers = self.call(|scripts| {
            let mut command = scripts.leave.call(&[&keys[0], &keys[1]]);
            command.arg(me.incarnation).arg(millis(lease)).arg(claimant(me));
            vec![command]
        })?;
        let was_member: bool = from_redis_value(super::first(answers))?;
        Ok(was_member.then(|| Grave { dead: me.clone(), claimant: claimant(me), lease_ms: millis(lease) }))
    }

    /// Sweeps at most `limit` users (1 to 1000) that the dead incarnation
    /// registered: its entries in their rows are removed, unless a newer
    /// incarnation's stand there, and who is on no node any more is published as
    /// offline. Called until it is not [`Slice::Swept`].
    ///
    /// # Errors
    /// The connection's or Redis's; the slice can be swept again.
    pub fn sweep(&mut self, grave: &Grave, limit: usize) -> RedisResult<Slice> {
        let dead = &grave.dead;
        let registered = self.names.users_of(&dead.node, dead.incarnation);
        let graves = self.names.graves(&dead.node);
        let answers = self.call(|scripts| {
            let mut command = scripts.slice.call(&[&graves, &registered]);
            command.arg(dead.incarnation).arg(grave.lease_ms).arg(&grave.claimant);
            command.arg(limit.clamp(1, COMMANDS_MAX));
            vec![command]
        })?;
        let users = match super::first(answers) {
            Value::Nil => return Ok(Slice::Lost),
            users => from_redis_value::<Vec<String>>(users)?,
        };
        if users.is_empty() {
            return Ok(Slice::Done);
        }
        let rows = self.unregister_users(dead, &users)?;
        Ok(Slice::Swept(users.into_iter().zip(rows).collect()))
    }

    /// Takes names that neither a record nor a grave has from the list of nodes.
    /// A node that is registering under one just now puts it back itself.
    fn forget_names(&mut self, ids: &[String]) -> RedisResult<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut command = cmd("SREM");
        command.arg(self.names.nodes()).arg(ids);
        self.call(|_| vec![command.clone()]).map(drop)
    }
}

/// Who sweeps, as it is written beside a lease.
fn claimant(me: &Member) -> String {
    format!("{} {}", me.incarnation, me.node)
}

/// In whole milliseconds.
fn millis(span: Duration) -> u128 {
    span.as_millis()
}
