//! The Lua scripts: what Redis does in one piece.
//!
//! Owns: the scripts and how one is called. A script is called by its hash;
//! whoever gets `NOSCRIPT` sends [`Scripts::load`] first. A script computes
//! with Redis's time, never with a node's, and can be repeated without harm.

use redis::{Cmd, Script, cmd};

/// A script and its hash.
#[derive(Debug)]
pub(super) struct Lua {
    text: &'static str,
    hash: String,
}

impl Lua {
    fn new(text: &'static str) -> Lua {
        Lua { text, hash: Script::new(text).get_hash().to_owned() }
    }

    /// A call with these keys; arguments may be added.
    pub(super) fn call(&self, keys: &[&str]) -> Cmd {
        let mut command = cmd("EVALSHA");
        command.arg(&self.hash).arg(keys.len()).arg(keys);
        command
    }
}

/// All scripts.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) register_node: Lua,
    pub(super) beat: Lua,
    pub(super) read_node: Lua,
    pub(super) claim: Lua,
    pub(super) leave: Lua,
    pub(super) slice: Lua,
    pub(super) enlist: Lua,
    pub(super) register_user: Lua,
    pub(super) unregister_user: Lua,
}

impl Scripts {
    pub(super) fn new() -> Scripts {
        Scripts {
            register_node: Lua::new(include_str!("lua/register_node.lua")),
            beat: Lua::new(include_str!("lua/beat.lua")),
            read_node: Lua::new(include_str!("lua/read_node.lua")),
            claim: Lua::new(include_str!("lua/claim.lua")),
            leave: Lua::new(include_str!("lua/leave.lua")),
            slice: Lua::new(include_str!("lua/slice.lua")),
            enlist: Lua::new(include_str!("lua/enlist.lua")),
            register_user: Lua::new(include_str!("lua/register_user.lua")),
            unregister_user: Lua::new(include_str!("lua/unregister_user.lua")),
        }
    }

    /// The commands that make every script known. In a Redis Cluster each has
    /// to reach every master.
    pub(super) fn load(&self) -> impl Iterator<Item = Cmd> {
        let Scripts {
            register_node,
            beat,
            read_node,
            claim,
            leave,
            slice,
            enlist,
            register_user,
            unregister_user,
        } = self;
        [register_node, beat, read_node, claim, leave, slice, enlist, register_user, unregister_user]
            .into_iter()
            .map(|script| {
                let mut command = cmd("SCRIPT");
                command.arg("LOAD").arg(script.text);
                command
            })
    }
}
