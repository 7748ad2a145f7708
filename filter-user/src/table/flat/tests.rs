//! The lookup beside the partition that it was made of.

use std::ops::BitXor;

use filter_ebpf::flat::{self, LINE_BUCKETS, pointer};
use proptest::prelude::*;

use super::{super::ranges::ranges, *};
use crate::address::Address;

fn ask_v4(flat: &Flat, address: u32) -> Option<u32> {
    flat::class(flat.lines(), &flat.v4, u64::from(address) << 32, 0)
}

fn ask_v6(flat: &Flat, address: u128) -> Option<u32> {
    flat::class(flat.lines(), &flat.v6, (address >> 64) as u64, address as u64)
}

fn around<A: Address>(partition: &Partition<A, ClassId>) -> Vec<A> {
    partition
        .iter()
        .flat_map(|piece| [Some(piece.first), Some(piece.last), piece.first.next(), piece.last.previous()])
        .flatten()
        .collect()
}

fn check(v4: &Partition<u32, ClassId>, v6: &Partition<u128, ClassId>, more: &[u128]) {
    let flat = Flat::new(v4, v6, 0).unwrap();
    for address in around(v4).into_iter().chain(more.iter().map(|bits| *bits as u32)) {
        assert_eq!(ask_v4(&flat, address), Some(v4.get(address).0), "{}", address.ip());
    }
    for address in around(v6).into_iter().chain(more.iter().copied()) {
        assert_eq!(ask_v6(&flat, address), Some(v6.get(address).0), "{}", address.ip());
    }
    assert_eq!(installed_v4(flat.lines(), &flat.v4), Some(ranges(v4)));
    assert_eq!(installed_v6(flat.lines(), &flat.v6), Some(ranges(v6)));
}

/// Pieces of random lengths, many of them short, from starts that meet often.
fn starts<A: Address + BitXor<Output = A>>(
    bits: impl Strategy<Value = A>,
    most: usize,
) -> impl Strategy<Value = Partition<A, ClassId>> {
    proptest::collection::vec((bits, 0u8..=128, 0..7u32), 0..most).prop_map(|nets| {
        let nets = nets.into_iter().map(|(address, len, class)| {
            let host_bits = A::BITS - len.min(A::BITS);
            let last = address.block_end(host_bits);
            (last ^ A::MIN.block_end(host_bits), last, ClassId(class))
        });
        Partition::from_nested(nets.collect(), ClassId(3))
    })
}

fn near_v4() -> impl Strategy<Value = u32> {
    prop_oneof![
        0x0a00_0000u32..0x0a00_0200,
        0u32..4,
        u32::MAX - 3..=u32::MAX,
        any::<u32>(),
        any::<u32>().prop_map(|bits| bits & 0x0300_ff07),
    ]
}

fn near_v6() -> impl Strategy<Value = u128> {
    const NET: u128 = 0x2001_0db8 << 96;
    prop_oneof![
        NET..NET + 32,
        (0u128..64).prop_map(|n| NET + (n << 64)),
        (0u128..64, 0u128..8).prop_map(|(n, low)| NET + (n << 62) + low),
        (any::<u16>(), any::<u64>()).prop_map(|(n, low)| NET + (u128::from(n) << 80) + u128::from(low)),
        0u128..4,
        u128::MAX - 3..=u128::MAX,
        any::<u128>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..Default::default() })]
    #[test]
    fn a_lookup_is_what_the_partition_says(
        v4 in starts(near_v4(), 400),
        v6 in starts(near_v6(), 400),
        more in proptest::collection::vec(any::<u128>(), 100),
    ) {
        check(&v4, &v6, &more);
    }
}

/// A class that changes at every one of so many addresses, `apart` from each other.
fn dense<A: Address>(first: A, count: u32, apart: impl Fn(A) -> A) -> Partition<A, ClassId> {
    let mut at = first;
    let pieces = (0..count).map(|n| {
        let this = at;
        at = apart(at);
        (this, this, ClassId(1 + n % 2))
    });
    Partition::from_sorted(pieces, ClassId(0)).unwrap()
}

#[test]
fn dense_runs_fill_whole_leaves() {
    let none = Partition::constant(ClassId(0));
    let none_v4 = Partition::constant(ClassId(0));
    for first in [0u32, 0x0a00_ff00, u32::MAX - 150_000] {
        check(&dense(first, 150_000, |at| at.wrapping_add(1)), &none, &[]);
        check(&dense(first, 50_000, |at| at.wrapping_add(3)), &none, &[]);
    }
    for (first, apart) in [
        (0u128, 1u128),
        (0x2001 << 112, 1 << 64),
        (0x2001 << 112, 3 << 64),
        ((0x2001 << 112) + 7, 1 << 64),
        ((0x2001 << 112) + 7, 1 << 80),
        ((0x2001 << 112) + 7, (1 << 80) + 1),
        (u128::MAX - (200_000 << 32), 1 << 32),
    ] {
        check(&none_v4, &dense(first, 100_000, |at| at.wrapping_add(apart)), &[]);
    }
}

#[test]
fn a_small_table_needs_little() {
    let flat = Flat::new(&Partition::constant(ClassId(5)), &Partition::constant(ClassId(6)), 0).unwrap();
    assert_eq!((ask_v4(&flat, 9), ask_v6(&flat, 9)), (Some(5), Some(6)));
    assert!(size_of_val(flat.lines()) <= 2_048, "{} lines", flat.lines().len());
}

#[test]
fn a_table_can_begin_behind_something_else() {
    let v4 = dense(0x0a00_0000u32, 3_000, |at| at + 5);
    let v6 = dense(0x2001u128 << 112, 3_000, |at| at + (7 << 60));
    let flat = Flat::new(&v4, &v6, 700).unwrap();
    let mut lines = vec![[u64::MAX; 8]; flat.first_line()];
    lines.extend(flat.lines());
    for address in around(&v4) {
        let upper = u64::from(address) << 32;
        assert_eq!(flat::class(&lines[..], &flat.v4, upper, 0), Some(v4.get(address).0));
    }
    for address in around(&v6) {
        let (upper, lower) = ((address >> 64) as u64, address as u64);
        assert_eq!(flat::class(&lines[..], &flat.v6, upper, lower), Some(v6.get(address).0));
    }
}

#[test]
fn memory_follows_the_pieces() {
    // A scattered million, which is the worst: every address costs two pieces, both in one bucket. With
    // an eighth more for growth, two generations leave 4 of 64 MB to everything else.
    let mut state = 1u32;
    let nets = std::iter::repeat_with(|| {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        let address = state ^ state >> 15;
        (address, address, ClassId(1))
    });
    let v4 = Partition::from_nested(nets.take(1_000_000).collect(), ClassId(0));
    let flat = Flat::new(&v4, &Partition::constant(ClassId(0)), 0).unwrap();
    let bytes = size_of_val(flat.lines());
    assert!(bytes * 9 / 4 < 60_000_000, "{bytes} bytes for {} pieces", v4.pieces());
}

#[test]
fn more_than_pointers_reach_is_refused() {
    let last = (pointer::BLOCKS * pointer::BLOCK) as usize / LINE_BUCKETS;
    let none = (Partition::constant(ClassId(0)), Partition::constant(ClassId(0)));
    assert_eq!(Flat::new(&none.0, &none.1, last - 8), Err(TooMany));
    assert!(Flat::new(&none.0, &none.1, last - 64).is_ok());
}
