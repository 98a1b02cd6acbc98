//! Which users are on which nodes.
//!
//! The index of all users has a key of its own, which in a Redis Cluster lies
//! elsewhere than the rows and so cannot change with them in one piece. Its
//! order is: a row is made, then indexed; a row is gone, then taken from the
//! index, then looked at again and indexed again if it is back.

use redis::{Cmd, RedisResult, Value, cmd, from_redis_value};
use serde::Serialize;

use super::executor::Executor;
use super::member::{Member, RegistryError};
use super::scripts::{Lua, Scripts};
use super::{COMMANDS_MAX, Names, Registry};

/// What registering a user found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The other nodes the user is on. They may route to this one from now on.
    pub others: Vec<Member>,
    /// Whether the user was on no node at all.
    pub came_online: bool,
}

/// A part of the list of all users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Users with the nodes they are on, in the order of the ids' bytes.
    pub users: Vec<(String, Vec<Member>)>,
    /// What to go on after; `None` at the end.
    pub next: Option<String>,
}

/// A user came online or went offline, as it is published.
#[derive(Serialize)]
struct Event<'a> {
    event: &'static str,
    user_id: &'a str,
}

impl<E: Executor> Registry<E> {
    /// Notes that `users` are on the node `me`, and publishes who came online.
    /// Returns what was found for each, in their order. One command a user, and
    /// four for every thousand.
    ///
    /// # Errors
    /// [`RegistryError::NotMember`] if `me` is not the registered incarnation of
    /// its node, before or afterwards; else the connection's or Redis's.
    pub fn register_users(
        &mut self,
        me: &Member,
        users: &[impl AsRef<str>],
    ) -> Result<Vec<Registered>, RegistryError> {
        let mut registered = Vec::with_capacity(users.len());
        for users in users.chunks(COMMANDS_MAX) {
            let users: Vec<&str> = users.iter().map(AsRef::as_ref).collect();
            // Before the rows: who dies in between must leave none that nobody sweeps.
            self.enlist(me, &users, &[])?;
            let answers = self.change_rows(me, &users, "online", |scripts| &scripts.register_user)?;
            let index = self.index(&users);
            // Afterwards too: who was declared dead in between has to know.
            self.enlist(me, &[], &[index])?;
            for (user, answer) in users.iter().zip(answers) {
                if let Value::Int(_) = answer {
                    let key = self.names.user(user);
                    log::warn!("{key} in Redis is no hash: other nodes cannot find the user");
                }
                registered.push(found(me, answer)?);
            }
        }
        Ok(registered)
    }

    /// Notes that `users` are no longer on the node `me`, unless a newer
    /// incarnation of it has registered them, and publishes who went offline.
    /// Returns the nodes each is on, in their order. Two commands a user at most,
    /// and three for every thousand.
    ///
    /// # Errors
    /// The connection's or Redis's.
    pub fn unregister_users(
        &mut self,
        me: &Member,
        users: &[impl AsRef<str>],
    ) -> RedisResult<Vec<Vec<Member>>> {
        let mut left = Vec::with_capacity(users.len());
        for users in users.chunks(COMMANDS_MAX) {
            let users: Vec<&str> = users.iter().map(AsRef::as_ref).collect();
            let answers = self.change_rows(me, &users, "offline", |scripts| &scripts.unregister_user)?;
            let rows: Vec<_> = answers.into_iter().map(Member::read_row).collect::<Result<_, _>>()?;
            let mut delist = cmd("SREM");
            delist.arg(self.names.users_of(&me.node, me.incarnation)).arg(&users);
            let gone: Vec<&str> =
                users.iter().zip(&rows).filter(|(_, row)| row.is_empty()).map(|(user, _)| *user).collect();
            self.remove_from_index(&gone, Some(delist))?;
            left.extend(rows);
        }
        Ok(left)
    }

    /// The nodes each of `users` is on, in their order. A dead node is among
    /// them until it is swept. One command a user.
    ///
    /// # Errors
    /// The connection's or Redis's.
    pub fn lookup(&mut self, users: &[impl AsRef<str>]) -> RedisResult<Vec<Vec<Member>>> {
        let mut found = Vec::with_capacity(users.len());
        for users in users.chunks(COMMANDS_MAX) {
            let names = self.names.clone();
            let answers =
                self.call(|_| users.iter().map(|user| on_row("HGETALL", &names, user.as_ref())).collect());
            let answers = match answers {
                Err(error) if super::is_wrong_type(&error) => self.lookup_each(users)?,
                answers => answers?,
            };
            for answer in answers {
                found.push(Member::read_row(answer)?);
            }
        }
        Ok(found)
    }

    /// The rows of users of whom one has a key that is no row: that one is nowhere.
    fn lookup_each(&mut self, users: &[impl AsRef<str>]) -> RedisResult<Vec<Value>> {
        let mut rows = Vec::with_capacity(users.len());
        for user in users {
            let row = on_row("HGETALL", &self.names, user.as_ref());
            match self.call(|_| vec![row.clone()]) {
                Err(error) if super::is_wrong_type(&error) => rows.push(Value::Array(Vec::new())),
                answers => rows.push(super::first(answers?)),
            }
        }
        Ok(rows)
    }

    /// The users that come after `after` in the order of their ids' bytes, from
    /// the first for `None`, at most `limit` of them (1 to 1000). There may be
    /// fewer though there are more to come; the end is where `next` is `None`.
    /// Who comes or goes while a list is paged may be missing or not; others are
    /// there once.
    ///
    /// # Errors
    /// The connection's or Redis's.
    pub fn page(&mut self, after: Option<&str>, limit: usize) -> RedisResult<Page> {
        let limit = limit.clamp(1, COMMANDS_MAX);
        let mut range = cmd("ZRANGEBYLEX");
        let least = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
        range.arg(self.names.users()).arg(least).arg("+").arg("LIMIT").arg(0).arg(limit);
        let ids: Vec<String> = from_redis_value(super::first(self.call(|_| vec![range.clone()])?))?;
        let rows = self.lookup(&ids)?;
        let next = ids.last().filter(|_| ids.len() == limit).cloned();
        let (users, gone): (Vec<_>, Vec<_>) = ids.into_iter().zip(rows).partition(|(_, row)| !row.is_empty());
        let gone: Vec<&str> = gone.iter().map(|(user, _)| &**user).collect();
        self.remove_from_index(&gone, None)?;
        Ok(Page { users, next })
    }

    /// Adds to the users that `me` has registered, and runs other commands beside.
    fn enlist(&mut self, me: &Member, users: &[&str], others: &[Cmd]) -> Result<(), RegistryError> {
        let keys = [self.names.node(&me.node), self.names.users_of(&me.node, me.incarnation)];
        let answers = self.call(|scripts| {
            let mut command = scripts.enlist.call(&[&keys[0], &keys[1]]);
            command.arg(me.incarnation).arg(users);
            [&[command], others].concat()
        })?;
        let is_member: bool = from_redis_value(super::first(answers))?;
        if is_member { Ok(()) } else { Err(RegistryError::NotMember) }
    }

    /// Runs a script that changes the row of each user in the name of `member`
    /// and publishes `event` if it made the first entry or removed the last.
    pub(super) fn change_rows(
        &mut self,
        member: &Member,
        users: &[&str],
        event: &'static str,
        script: impl Fn(&Scripts) -> &Lua,
    ) -> RedisResult<Vec<Value>> {
        let names = self.names.clone();
        let channel = names.events();
        self.call(|scripts| {
            let change = |user: &&str| {
                let mut command = script(scripts).call(&[&names.user(user)]);
                command.arg(&member.node).arg(member.incarnation).arg(&channel).arg(text(event, user));
                command
            };
            users.iter().map(change).collect()
        })
    }

    /// The command that puts users into the index.
    fn index(&self, users: &[&str]) -> Cmd {
        let mut command = cmd("ZADD");
        command.arg(self.names.users());
        users.iter().for_each(|user| {
            command.arg(0).arg(user);
        });
        command
    }

    /// Takes users without a row from the index, and runs another command beside.
    pub(super) fn remove_from_index(&mut self, users: &[&str], other: Option<Cmd>) -> RedisResult<()> {
        let mut commands: Vec<Cmd> = other.into_iter().collect();
        if !users.is_empty() {
            let mut remove = cmd("ZREM");
            remove.arg(self.names.users()).arg(users);
            commands.push(remove);
        }
        if !commands.is_empty() {
            self.call(|_| commands.clone())?;
        }
        if users.is_empty() {
            return Ok(());
        }
        let names = self.names.clone();
        let rows = self.call(|_| users.iter().map(|user| on_row("EXISTS", &names, user)).collect())?;
        let mut back = Vec::new();
        for (user, exists) in users.iter().zip(rows) {
            if from_redis_value::<bool>(exists)? {
                back.push(*user);
            }
        }
        if !back.is_empty() {
            let index = self.index(&back);
            self.call(|_| vec![index.clone()])?;
        }
        Ok(())
    }
}

/// A command whose only argument is a user's row.
fn on_row(name: &str, names: &Names, user: &str) -> Cmd {
    let mut command = cmd(name);
    command.arg(names.user(user));
    command
}

/// What the row was before `me` was entered; no row if a newer incarnation of
/// the same node is there, and a number if the key holds something else.
fn found(me: &Member, before: Value) -> Result<Registered, RegistryError> {
    if before == Value::Nil {
        return Err(RegistryError::NotMember);
    }
    if let Value::Int(_) = before {
        return Ok(Registered { others: Vec::new(), came_online: true });
    }
    let mut others = Member::read_row(before)?;
    let came_online = others.is_empty();
    others.retain(|member| member.node != me.node);
    Ok(Registered { others, came_online })
}

/// An event as it is published.
fn text(event: &'static str, user: &str) -> String {
    let event = Event { event, user_id: user };
    // A struct of two strings has no way to fail; without text nobody is told, which is better than a panic.
    serde_json::to_string(&event).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_json_whatever_the_id() {
        let check = |user: &str, expected: &str| assert_eq!(text("online", user), expected);
        check("bob", r#"{"event":"online","user_id":"bob"}"#);
        check("\"\\\n/ü", r#"{"event":"online","user_id":"\"\\\n/ü"}"#);
    }

    #[test]
    fn what_a_row_tells_who_registers() {
        let row = |entries: &[&str]| {
            Value::Array(entries.iter().map(|text| Value::BulkString(text.as_bytes().to_vec())).collect())
        };
        let me = Member::new("a", 7);
        let check = |before: Value, others: &[(&str, u64)], came_online: bool| {
            let others = others.iter().map(|(node, life)| Member::new(*node, *life)).collect();
            let found = found(&me, before).expect("a member");
            assert_eq!(found, Registered { others, came_online });
        };
        check(row(&[]), &[], true);
        check(Value::Int(0), &[], true);
        check(row(&["a", "6"]), &[], false);
        check(row(&["b", "1", "a", "7"]), &[("b", 1)], false);
        assert!(matches!(found(&me, Value::Nil), Err(RegistryError::NotMember)));
    }
}
