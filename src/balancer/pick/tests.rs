use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::*;

const CONNECTIONS: usize = 10_000;

/// Backends `n1`, `n2`, … of these weights, each of which takes any number.
fn directory(weights: &[u32]) -> Directory {
    let backend = |(index, weight): (usize, &u32)| {
        let id = BackendId(index as u32 + 1);
        let address = SocketAddr::from(([10, 0, 0, id.0 as u8], 8080));
        let backend = Backend::new(id, format!("node-{}:8080", id.0), address, None);
        backend.weight_milli.store(weight * 1000, Ordering::Relaxed);
        Arc::new(backend)
    };
    Directory { version: 1, backends: weights.iter().enumerate().map(backend).collect() }
}

fn picker(strategy: Strategy) -> Picker {
    Picker::new(strategy, 7, Arc::default())
}

/// The n-th client: an address and a user of its own.
fn with_client<T>(n: usize, run: impl FnOnce(&Key<'_>) -> T) -> T {
    let user = format!("user-{n}");
    run(&Key { address: IpAddr::from((0x0a00_0000 + n as u32).to_be_bytes()), user: Some(&user) })
}

fn pick(picker: &mut Picker, directory: &Directory, n: usize) -> Option<usize> {
    with_client(n, |key| match picker.pick(directory, key, &[]) {
        Picked::Backend(index) => Some(index),
        _ => None,
    })
}

/// Places connections that stay, and counts them per backend.
fn spread(picker: &mut Picker, directory: &Directory, connections: usize) -> Vec<usize> {
    let mut counts = vec![0; directory.backends.len()];
    for n in 0..connections {
        let index = pick(picker, directory, n).expect("somebody takes it");
        assert!(directory.backends[index].try_take());
        counts[index] += 1;
    }
    counts
}

fn check_spread(strategy: Strategy, weights: &[u32], tolerance: f64) {
    let counts = spread(&mut picker(strategy), &directory(weights), CONNECTIONS);
    let sum: u32 = weights.iter().sum();
    for (count, weight) in counts.iter().zip(weights) {
        let due = CONNECTIONS as f64 * f64::from(*weight) / f64::from(sum);
        let off = (*count as f64 - due).abs() / due;
        assert!(off <= tolerance, "{strategy} {weights:?}: {counts:?}, {:.1} % off", off * 100.0);
    }
}

#[test]
fn connections_are_spread_by_weight() {
    for weights in [&[1, 1, 1, 1, 1][..], &[1, 2, 3, 4, 5], &[10, 1]] {
        check_spread(Strategy::RoundRobin, weights, 0.002);
        check_spread(Strategy::LeastConnections, weights, 0.002);
        check_spread(Strategy::RandomTwo, weights, 0.02);
        check_spread(Strategy::IpHash, weights, 0.08);
        check_spread(Strategy::UserHash, weights, 0.08);
    }
}

#[test]
fn round_robin_takes_turns_over_all_reactors() {
    let rotor = Arc::default();
    let mut reactors: Vec<_> =
        (0..4).map(|seed| Picker::new(Strategy::RoundRobin, seed, Arc::clone(&rotor))).collect();
    let directory = directory(&[1, 1, 1]);
    // Connections come to reactors in any order.
    let picked: Vec<_> = [0, 0, 3, 1, 1, 2, 0, 3, 3]
        .into_iter()
        .map(|reactor: usize| pick(&mut reactors[reactor], &directory, 0))
        .collect();
    assert_eq!(picked, [0, 1, 2, 0, 1, 2, 0, 1, 2].map(Some));
}

#[test]
fn what_one_does_not_take_is_shared_by_all_others() {
    let directory = directory(&[1, 1, 1, 1]);
    let full = &directory.backends[0];
    full.active.store(u32::MAX, Ordering::Relaxed);
    let counts = spread(&mut picker(Strategy::RoundRobin), &directory, 900);
    assert_eq!(counts, [0, 300, 300, 300]);
}

/// Every client first meets the broken backend whenever it is its turn.
#[test]
fn retries_do_not_fall_into_step_with_the_rotor() {
    let directory = directory(&[1, 1, 1, 1]);
    let mut picker = picker(Strategy::RoundRobin);
    let mut counts = [0; 4];
    for n in 0..900 {
        let tried = [directory.backends[0].id];
        let Some(mut index) = pick(&mut picker, &directory, n) else { panic!("nobody") };
        if index == 0 {
            match with_client(n, |key| picker.pick(&directory, key, &tried)) {
                Picked::Backend(next) => index = next,
                other => panic!("{other:?}"),
            }
        }
        counts[index] += 1;
    }
    assert_eq!(counts, [0, 300, 300, 300]);
}

#[test]
fn least_connections_spreads_equals_and_fills_up_who_lost_some() {
    let directory = directory(&[1, 1, 1, 1]);
    let mut picker = picker(Strategy::LeastConnections);
    let firsts: Vec<_> = (0..100).map(|n| pick(&mut picker, &directory, n)).collect();
    for index in 0..4 {
        assert!(firsts.iter().filter(|first| **first == Some(index)).count() > 10, "{firsts:?}");
    }
    for backend in &directory.backends {
        backend.active.store(50, Ordering::Relaxed);
    }
    directory.backends[2].active.store(20, Ordering::Relaxed);
    assert_eq!(spread(&mut picker, &directory, 30), [0, 0, 30, 0]);
}

#[test]
fn few_users_move_when_one_of_five_leaves() {
    for strategy in [Strategy::IpHash, Strategy::UserHash] {
        let directory = directory(&[1; 5]);
        let mut picker = picker(strategy);
        let homes = |picker: &mut Picker| -> Vec<_> {
            (0..CONNECTIONS).map(|n| pick(picker, &directory, n)).collect()
        };
        let before = homes(&mut picker);
        let weight = directory.backends[1].weight_milli.swap(0, Ordering::Relaxed);
        let without = homes(&mut picker);
        let moved = before.iter().zip(&without).filter(|(one, other)| one != other).count();
        assert!(moved * 100 <= CONNECTIONS * 22, "{strategy}: {moved} of {CONNECTIONS}");
        let strays = before.iter().zip(&without).filter(|(one, other)| **one != Some(1) && one != other);
        assert_eq!(strays.count(), 0, "{strategy}: only the clients of the one that left move");
        directory.backends[1].weight_milli.store(weight, Ordering::Relaxed);
        assert_eq!(homes(&mut picker), before, "{strategy}: and they come home");
    }
}

#[test]
fn who_left_is_taken_over_by_all_others() {
    let directory = directory(&[1; 5]);
    let mut picker = picker(Strategy::UserHash);
    let mine: Vec<_> = (0..CONNECTIONS).filter(|n| pick(&mut picker, &directory, *n) == Some(0)).collect();
    directory.backends[0].weight_milli.store(0, Ordering::Relaxed);
    let mut heirs = BTreeMap::<_, usize>::new();
    for n in &mine {
        *heirs.entry(pick(&mut picker, &directory, *n)).or_default() += 1;
    }
    let fair = mine.len() / 4;
    assert!(heirs.len() == 4 && heirs.values().all(|count| count.abs_diff(fair) < fair / 5), "{heirs:?}");
}

/// Balancers that restart, or of another version, must find the same homes.
#[test]
fn homes_are_the_same_everywhere() {
    let directory = directory(&[1, 1, 2]);
    let mut reversed = Directory { version: 2, backends: directory.backends.clone() };
    reversed.backends.reverse();
    let mut picker = picker(Strategy::UserHash);
    let homes: Vec<_> = (0..12).map(|n| pick(&mut picker, &directory, n).unwrap()).collect();
    let mirrored: Vec<_> = (0..12).map(|n| 2 - pick(&mut picker, &reversed, n).unwrap()).collect();
    assert_eq!(homes, mirrored, "the order of backends means nothing");
    assert_eq!(homes, HOMES);
    assert_eq!(hash(b"alice"), 0x3507_d047_a67c_08f4);
}

/// As another implementation of the same hashing found them.
const HOMES: [usize; 12] = [2, 2, 2, 0, 1, 0, 2, 2, 2, 1, 0, 0];

#[test]
fn user_hash_goes_by_the_user_then_by_the_address() {
    let directory = directory(&[1; 5]);
    let mut picker = picker(Strategy::UserHash);
    let mut at = |address: [u8; 4], user| {
        let key = Key { address: IpAddr::from(address), user };
        picker.pick(&directory, &key, &[])
    };
    for n in 0..50 {
        assert_eq!(at([10, 0, 0, n], Some("alice")), at([10, 9, 9, 9], Some("alice")));
        assert_eq!(at([10, 0, 0, n], None), at([10, 0, 0, n], None));
    }
    let homes: std::collections::BTreeSet<_> =
        (0..50).map(|n| format!("{:?}", at([10, 0, 0, n], None))).collect();
    assert_eq!(homes.len(), 5, "addresses are spread");
}

#[test]
fn one_client_has_one_address() {
    let same = |one: &str, other: &str| {
        let [one, other] = [one, other].map(|text| hash_address(text.parse().unwrap()));
        one == other
    };
    assert!(same("10.0.0.1", "::ffff:10.0.0.1"), "IPv4 in IPv6");
    assert!(same("2001:db8::1", "2001:db8::ffff:1"), "one /64");
    assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
    assert!(!same("10.0.0.1", "10.0.0.2"));
}

#[test]
fn full_and_nobody_are_told_apart() {
    for strategy in Strategy::ALL {
        let directory = directory(&[1, 2]);
        let mut picker = picker(strategy);
        let ids: Vec<_> = directory.backends.iter().map(|backend| backend.id).collect();
        let mut check = |tried: &[BackendId], expected: Picked| {
            let picked = with_client(1, |key| picker.pick(&directory, key, tried));
            assert_eq!(picked, expected, "{strategy}, tried {tried:?}");
        };
        check(&ids[..1], Picked::Backend(1));
        check(&ids[1..], Picked::Backend(0));
        check(&ids, Picked::Nobody);
        directory.backends[1].active.store(u32::MAX, Ordering::Relaxed);
        check(&[], Picked::Backend(0));
        check(&ids[..1], Picked::Full);
        check(&ids[1..], Picked::Backend(0));
        directory.backends[0].weight_milli.store(0, Ordering::Relaxed);
        check(&[], Picked::Full);
        directory.backends[1].weight_milli.store(0, Ordering::Relaxed);
        check(&[], Picked::Nobody);
    }
    let nobody = picker(Strategy::RoundRobin).pick(
        &Directory::default(),
        &Key { address: IpAddr::from([127, 0, 0, 1]), user: None },
        &[],
    );
    assert_eq!(nobody, Picked::Nobody);
}

/// Where heavy ones are full, the light one is found although its turn is far.
#[test]
fn a_light_one_is_found_behind_full_heavy_ones() {
    let directory = directory(&[1000, 1]);
    directory.backends[0].active.store(u32::MAX, Ordering::Relaxed);
    let mut picker = picker(Strategy::RoundRobin);
    assert!((0..100).all(|n| pick(&mut picker, &directory, n) == Some(1)));
}

#[test]
fn strategies_are_known_by_name() {
    for strategy in Strategy::ALL {
        assert_eq!(strategy.to_string().parse(), Ok(strategy));
    }
    assert_eq!("fastest".parse::<Strategy>(), Err(UnknownStrategy));
    assert!(
        UnknownStrategy
            .to_string()
            .ends_with("round_robin, least_connections, random_two, ip_hash, user_hash")
    );
}

#[test]
fn who_is_leaving_is_picked_only_when_nobody_else_is_there() {
    for strategy in Strategy::ALL {
        let directory = directory(&[0, 1, 0]);
        let picked = |tried: &[BackendId]| {
            with_client(1, |key| match picker(strategy).pick(&directory, key, tried) {
                Picked::Backend(index) => Some(index),
                _ => None,
            })
        };
        directory.backends[2].last_resort.store(true, Ordering::Relaxed);
        assert_eq!(picked(&[]), Some(1), "{strategy}");
        assert_eq!(picked(&[BackendId(2)]), Some(2), "{strategy}");
        assert_eq!(picked(&[BackendId(2), BackendId(3)]), None, "{strategy}");
        directory.backends[1].weight_milli.store(0, Ordering::Relaxed);
        assert_eq!(picked(&[]), Some(2), "{strategy}");
    }
}
