//! The registry's commands over a connection of ours.

use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

use super::{Commands, LinkError};
use crate::cluster::registry::Executor;

impl Executor for Commands {
    fn run(&mut self, commands: Vec<Cmd>) -> RedisResult<Vec<Value>> {
        self.pipeline(&commands).into_iter().map(|answer| answer.map_err(RedisError::from)).collect()
    }
}

impl From<LinkError> for RedisError {
    /// Keeps apart what the registry does: a script that is not loaded, and a
    /// key that is not of the kind it has to be.
    fn from(error: LinkError) -> Self {
        let kind = match &error {
            LinkError::Command { code, .. } if code == "NOSCRIPT" => {
                ErrorKind::Server(ServerErrorKind::NoScript)
            }
            LinkError::Command { code, detail } if code == "WRONGTYPE" => {
                return redis::make_extension_error(code.clone(), Some(detail.clone()));
            }
            LinkError::Command { .. } => ErrorKind::Server(ServerErrorKind::ResponseError),
            _ => ErrorKind::Io,
        };
        RedisError::from((kind, "Redis", error.to_string()))
    }
}
