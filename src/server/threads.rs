//! The threads of reactors, of a node's as of a balancer's.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, bounded};

use super::StartError;
use crate::ids::ReactorId;
use crate::net;

/// What a reactor is made of, and the descriptors only it uses.
pub(crate) struct Part<P> {
    pub(crate) parts: P,
    pub(crate) descriptors: Vec<RawFd>,
}

/// Starts a thread for each reactor and waits until each has all it needs.
///
/// `settle` makes a reactor on its thread; with descriptors, those of the
/// others, it is to take a table of its own first and close its copies of them.
/// `run` is its life. When a thread ends, however it does, `ended` is sent to `news`.
///
/// # Errors
/// A thread that cannot be started, or a reactor that cannot be made.
pub(crate) fn spawn<P, R, N>(
    parts: Vec<Part<P>>,
    private_fd_tables: bool,
    news: &Sender<N>,
    ended: fn(ReactorId) -> N,
    settle: impl Fn(P, Option<&[RawFd]>) -> io::Result<R> + Send + Sync + 'static,
    run: fn(R),
) -> Result<Vec<JoinHandle<()>>, StartError>
where
    P: Send + 'static,
    N: Send + 'static,
    R: 'static,
{
    let settle = Arc::new(settle);
    let owned: Vec<Vec<RawFd>> = parts.iter().map(|part| part.descriptors.clone()).collect();
    let (settled, settled_in) = bounded(parts.len());
    let mut threads = Vec::new();
    for (index, part) in parts.into_iter().enumerate() {
        let others = owned.iter().enumerate().filter(|(other, _)| *other != index);
        let foreign: Vec<RawFd> = others.flat_map(|(_, descriptors)| descriptors.iter().copied()).collect();
        let (news, settled, settle) = (news.clone(), settled.clone(), settle.clone());
        let life = move || {
            let made = settle(part.parts, private_fd_tables.then_some(&foreign[..]));
            let (outcome, reactor) = match made {
                Ok(reactor) => (Ok(()), Some(reactor)),
                Err(error) => (Err(error), None),
            };
            drop(settled.send(outcome));
            let _obituary = Obituary { reactor: ReactorId(index as u8), news, ended };
            if let Some(reactor) = reactor {
                run(reactor);
            }
        };
        let thread = thread::Builder::new().name(format!("throng-{index}")).spawn(life);
        threads.push(thread.map_err(|error| StartError::System("start a reactor's thread", error))?);
    }
    for _ in 0..threads.len() {
        if let Ok(Err(error)) = settled_in.recv() {
            return Err(StartError::System("give a reactor its descriptors", error));
        }
    }
    if private_fd_tables {
        // The reactors have their own; ours would keep the ports open after theirs are closed.
        net::close_copies(&owned.concat());
    }
    Ok(threads)
}

/// Tells the supervisor when a reactor's thread ends.
struct Obituary<N> {
    reactor: ReactorId,
    news: Sender<N>,
    ended: fn(ReactorId) -> N,
}

impl<N> Drop for Obituary<N> {
    fn drop(&mut self) {
        drop(self.news.send((self.ended)(self.reactor)));
    }
}
