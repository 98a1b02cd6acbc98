//! `throng balance`: what stands before several nodes and gives each client one
//! of them.
//!
//! # What runs where
//!
//! ```text
//!   clients ──► reactors (one thread a core: accept, head, pick, pump) ──► backends
//!                 │  ▲                                                        ▲
//!        Observed │  │ directory, closures, news                              │
//!                 ▼  │                                                        │
//!               director (one thread: the roster, checks, files, names) ──────┘
//! ```
//!
//! A reactor reads the head of a request ([`head`]), [picks](pick) one of the
//! backends in the [directory](roster::Directory), passes the head on with the
//! forwarding headers, and from the answer on pumps bytes; of these it follows
//! only where the backend's frames end ([`frames`]), so that it can say a last
//! word between two of them. The [director] owns the [roster], which decides by
//! [health] who takes connections; what reactors need of it they read from
//! atomics.
//!
//! # Why a buffer and not splice(2)
//!
//! For messages up to a few KiB, reading into one buffer per reactor and writing
//! from it costs less than two splices (`cargo bench --bench pump`), holds no
//! pipe per pair, and shows the frame headers, without which a client whose
//! backend died could not be told to come back.
//!
//! # What an idle pair costs
//!
//! Its row, what the client said of itself, and nothing else: no buffer, no
//! timer, no thread.

pub mod api;
pub mod config;
pub mod director;
pub mod ended;
pub mod frames;
mod handle;
pub mod head;
pub mod health;
mod live;
pub mod metrics;
pub mod pick;
pub mod proxy_protocol;
pub mod reactor;
pub mod roster;
mod start;
pub mod view;

pub use handle::Balancer;
pub use start::{start, start_with};
