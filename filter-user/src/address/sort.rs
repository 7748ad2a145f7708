//! Sorting ranges.

use std::thread;

use super::Address;

/// A thread is worth its start from about so many ranges on.
const FOR_A_THREAD: usize = 1 << 16;

/// Sorts ranges by where they begin, longer before shorter ones.
pub(super) fn outer_first<A: Address, L: Copy + Send>(ranges: &mut [(A, A, L)]) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = (ranges.len() / FOR_A_THREAD).clamp(1, cores);
    let key = |range: &(A, A, L)| A::outer_first(range.0, range.1);
    if threads == 1 {
        return ranges.sort_unstable_by_key(key);
    }
    let run = ranges.len().div_ceil(threads);
    thread::scope(|scope| {
        for run in ranges.chunks_mut(run) {
            scope.spawn(move || run.sort_unstable_by_key(key));
        }
    });
    // The stable sort finds the sorted runs, and merges them.
    ranges.sort_by_key(key);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_threads_as_there_may_be_sort_like_one() {
        for count in [0, 1, FOR_A_THREAD, 3 * FOR_A_THREAD + 5] {
            let mut ranges: Vec<(u32, u32, u32)> = (0..count as u32)
                .map(|number| {
                    let first = number.wrapping_mul(0x9e37_79b1) & !0xfff;
                    (first, first | (number & 0xfff), number)
                })
                .collect();
            let mut expected = ranges.clone();
            expected.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
            outer_first(&mut ranges);
            let ends = |ranges: &[(u32, u32, u32)]| ranges.iter().map(|r| (r.0, r.1)).collect::<Vec<_>>();
            assert_eq!(ends(&ranges), ends(&expected));
            ranges.sort_unstable_by_key(|range| range.2);
            assert!(ranges.iter().map(|range| range.2).eq(0..count as u32), "none is lost");
        }
    }
}
