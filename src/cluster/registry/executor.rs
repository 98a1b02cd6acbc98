//! What carries out Redis commands.
//!
//! Owns: [`Executor`], and how a connection to one server and one to a Redis
//! Cluster are executors. Never decides what is asked, nor reconnects.

use redis::cluster::{ClusterConnection, cluster_pipe};
use redis::{Cmd, ConnectionLike, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

/// Carries out commands, as few round trips as it can.
///
/// After an error that is not Redis's own answer ([`RedisError::is_io_error`]
/// and the like) some commands may have been carried out, their answers are
/// still on the way, and the connection is to be dropped.
pub trait Executor {
    /// Carries out `commands` and returns as many answers, in their order.
    ///
    /// One command alone is routed as its kind demands: `SCRIPT LOAD` goes to
    /// every master of a Cluster. Several are routed by key each; in a Cluster
    /// those for different masters are carried out in no particular order, and
    /// when slots have moved a command may be carried out twice.
    ///
    /// # Errors
    /// The connection's, or Redis's if it refused any of the commands; the
    /// others have been carried out nevertheless.
    fn run(&mut self, commands: Vec<Cmd>) -> RedisResult<Vec<Value>>;
}

impl<E: Executor + ?Sized> Executor for Box<E> {
    fn run(&mut self, commands: Vec<Cmd>) -> RedisResult<Vec<Value>> {
        (**self).run(commands)
    }
}

/// One server. The first answer that does not come in time ends the wait, so a
/// server that hangs costs one timeout and not one for each command.
impl Executor for redis::Connection {
    fn run(&mut self, commands: Vec<Cmd>) -> RedisResult<Vec<Value>> {
        let mut bytes = Vec::new();
        commands.iter().for_each(|command| command.write_packed_command(&mut bytes));
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        self.send_packed_command(&bytes)?;
        let mut answers = Vec::with_capacity(commands.len());
        let mut refused = None;
        while answers.len() < commands.len() {
            match self.recv_response()? {
                Value::Push { .. } => {}
                Value::ServerError(error) => {
                    refused.get_or_insert(error);
                    answers.push(Value::Nil);
                }
                answer => answers.push(answer),
            }
        }
        refused.map_or(Ok(answers), |error| Err(error.into()))
    }
}

impl Executor for ClusterConnection {
    fn run(&mut self, commands: Vec<Cmd>) -> RedisResult<Vec<Value>> {
        if commands.len() <= 1 {
            return one_by_one(self, &commands);
        }
        let mut pipeline = cluster_pipe();
        for command in &commands {
            pipeline.add_command(command.clone());
        }
        match pipeline.query(self) {
            // A pipeline does not follow redirections; a single command does, and learns the new slots.
            Err(error) if is_any(&error, redirects) => one_by_one(self, &commands),
            answers => answers,
        }
    }
}

fn one_by_one(connection: &mut ClusterConnection, commands: &[Cmd]) -> RedisResult<Vec<Value>> {
    commands.iter().map(|command| connection.req_command(command)).collect()
}

fn redirects(kind: ServerErrorKind) -> bool {
    use ServerErrorKind::{Ask, ClusterDown, Moved, ReadOnly, TryAgain};
    matches!(kind, Ask | ClusterDown | Moved | ReadOnly | TryAgain)
}

/// Whether one of Redis's refusals in `error` is of that kind.
pub(super) fn is_any(error: &RedisError, kind: impl Fn(ServerErrorKind) -> bool) -> bool {
    match error.clone().into_server_errors() {
        Some(errors) => errors.iter().filter_map(|(_, error)| error.kind()).any(kind),
        None => matches!(error.kind(), ErrorKind::Server(found) if kind(found)),
    }
}
