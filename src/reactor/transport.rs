//! How bytes get to a socket: as they are, or in another way.

use std::io::Write;

/// How bytes get to a socket.
pub trait Transport<S> {
    /// What takes them.
    type Writer<'a>: Write
    where
        Self: 'a,
        S: 'a;

    /// The way to this socket.
    fn to<'a>(&'a mut self, socket: &'a mut S) -> Self::Writer<'a>;
}

/// As they are.
pub struct Direct;

impl<S: Write> Transport<S> for Direct {
    type Writer<'a>
        = &'a mut S
    where
        S: 'a;

    fn to<'a>(&'a mut self, socket: &'a mut S) -> &'a mut S {
        socket
    }
}
