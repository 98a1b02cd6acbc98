//! Hashes that are the same in every balancer and every version of it.

use std::net::IpAddr;

use super::Key;

/// Hashes bytes the same way in every balancer and version: FNV-1a, finished by [`mix`].
pub(in crate::balancer) fn hash(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// The finaliser of MurmurHash3: each bit of the input changes half of the output's.
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

pub(super) fn hash_address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => hash(&address.octets()),
        IpAddr::V6(address) => hash(&address.octets()[..8]),
    }
}

pub(super) fn hash_user(key: &Key<'_>) -> u64 {
    key.user.map_or_else(|| hash_address(key.address), |user| hash(user.as_bytes()))
}
