//! What a peer or an operator can put in front of the node's parsers: each
//! [`Entry`] takes any bytes, and fails when something that must hold does not.
//! `cargo test --test fuzz` and the targets of `tools/fuzz` feed the same ones.

mod client_message;
mod config_file;
mod frames;
mod handshake;
mod http_head;
mod token;

/// One way in.
pub(crate) struct Entry {
    /// As in `cargo fuzz run NAME`.
    pub(crate) name: &'static str,
    /// Valid inputs to start from.
    pub(crate) samples: fn() -> Vec<Vec<u8>>,
    /// Pieces of the language, to be put in here and there.
    pub(crate) words: &'static [&'static str],
    /// Takes one input; whether it was accepted as valid. Panics when something
    /// does not hold.
    pub(crate) check: fn(&[u8]) -> bool,
    /// Memory that an input may need while it is checked: bytes, and so many
    /// for each of its own.
    pub(crate) memory: (usize, usize),
}

/// All of them.
pub(crate) const ENTRIES: &[Entry] = &[
    http_head::ENTRY,
    handshake::ENTRY,
    frames::ENTRY,
    client_message::ENTRY,
    config_file::ENTRY,
    token::ENTRY,
];

/// Chances that depend on nothing but the input, so that it fails again when it is tried again.
fn chances(input: &[u8]) -> fastrand::Rng {
    fastrand::Rng::with_seed(hash(input))
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn owned(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
