//! A whole address space, cut into ranges with a label each.

use ipnet::IpNet;

use super::{Address, sort::outer_first};

/// A run of addresses, both ends included, that all have the same label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<A, L> {
    /// The lowest address.
    pub first: A,
    /// The highest address.
    pub last: A,
    /// What the partition says of every address in between.
    pub label: L,
}

/// A label for every address of a space, stored as the points where it changes.
///
/// The invariant, established here and nowhere else: the first start is the lowest address, starts
/// rise strictly, and neighbouring labels differ. Two partitions are therefore equal exactly when
/// they give every address the same label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition<A, L> {
    starts: Vec<A>,
    labels: Vec<L>,
}

impl<A: Address, L: Copy + PartialEq> Partition<A, L> {
    /// The same label everywhere.
    pub fn constant(label: L) -> Self {
        Self { starts: vec![A::MIN], labels: vec![label] }
    }

    fn with_capacity(pieces: usize) -> Self {
        Self { starts: Vec::with_capacity(pieces), labels: Vec::with_capacity(pieces) }
    }

    /// Appends a piece; `start` must be above all earlier ones, and the first must be the lowest address.
    fn push(&mut self, start: A, label: L) {
        debug_assert!(self.starts.last().map_or(start == A::MIN, |last| *last < start));
        if self.labels.last() != Some(&label) {
            self.starts.push(start);
            self.labels.push(label);
        }
    }

    /// The lowest label of all ranges that contain an address, `outside` where there is none.
    ///
    /// `ranges` are (first, last, label), in any order; they must be nested or disjoint, as prefixes
    /// always are.
    pub fn from_nested(mut ranges: Vec<(A, A, L)>, outside: L) -> Self
    where
        L: Ord + Send,
    {
        outer_first(&mut ranges);
        let mut result = Self::with_capacity(ranges.len() * 2 + 1);
        // The ranges around the current address, outermost first, each with the lowest label so far.
        let mut around: Vec<(A, L)> = Vec::new();
        let mut next_start = Some(A::MIN);
        let close = |result: &mut Self, around: &mut Vec<(A, L)>, next_start: &mut Option<A>| {
            if let (Some((last, label)), Some(start)) = (around.pop(), *next_start)
                && start <= last
            {
                result.push(start, label);
                *next_start = last.next();
            }
        };
        for (first, last, label) in ranges {
            while around.last().is_some_and(|(end, _)| *end < first) {
                close(&mut result, &mut around, &mut next_start);
            }
            if let Some(start) = next_start
                && start < first
            {
                let here = around.last().map_or(outside, |(_, label)| *label);
                result.push(start, here);
                next_start = Some(first);
            }
            let lowest = around.last().map_or(label, |(_, outer)| label.min(*outer));
            debug_assert!(around.last().is_none_or(|(end, _)| last <= *end));
            around.push((last, lowest));
        }
        while !around.is_empty() {
            close(&mut result, &mut around, &mut next_start);
        }
        if let Some(start) = next_start {
            result.push(start, outside);
        }
        result
    }

    /// Pieces in rising order that need not touch: gaps get `outside`.
    ///
    /// Returns `None` when a piece overlaps or precedes an earlier one.
    pub fn from_sorted(pieces: impl IntoIterator<Item = (A, A, L)>, outside: L) -> Option<Self> {
        let mut result = Self::with_capacity(0);
        let mut next_start = Some(A::MIN);
        for (first, last, label) in pieces {
            let start = next_start.filter(|start| *start <= first && first <= last)?;
            if start < first {
                result.push(start, outside);
            }
            result.push(first, label);
            next_start = last.next();
        }
        if let Some(start) = next_start {
            result.push(start, outside);
        }
        Some(result)
    }

    /// The label of one address, by binary search.
    pub fn get(&self, address: A) -> L {
        self.labels[self.starts.partition_point(|start| *start <= address) - 1]
    }

    /// Where pieces start, and the label of each.
    pub fn as_slices(&self) -> (&[A], &[L]) {
        (&self.starts, &self.labels)
    }

    /// How many pieces there are; at least one.
    pub fn pieces(&self) -> usize {
        self.starts.len()
    }

    /// All pieces, lowest first, without gaps.
    pub fn iter(&self) -> impl Iterator<Item = Piece<A, L>> + '_ {
        let ends = self.starts[1..]
            .iter()
            .map(|start| start.previous().expect("only the first piece starts at the lowest address"))
            .chain([A::MAX]);
        self.starts.iter().zip(ends).zip(&self.labels).map(|((first, last), label)| Piece {
            first: *first,
            last,
            label: *label,
        })
    }

    /// The same pieces under other labels.
    pub fn map<M: Copy + PartialEq>(&self, mut relabel: impl FnMut(L) -> M) -> Partition<A, M> {
        let mut result = Partition::with_capacity(self.pieces());
        for (start, label) in self.starts.iter().zip(&self.labels) {
            result.push(*start, relabel(*label));
        }
        result
    }

    /// Gives every address a label made of its labels in both partitions.
    pub fn zip<M, N>(&self, other: &Partition<A, M>, mut combine: impl FnMut(L, M) -> N) -> Partition<A, N>
    where
        M: Copy + PartialEq,
        N: Copy + PartialEq,
    {
        // Most lists are empty: a million pieces need not be merged with one.
        if let [only] = self.labels[..] {
            return other.map(|label| combine(only, label));
        }
        if let [only] = other.labels[..] {
            return self.map(|label| combine(label, only));
        }
        let mut result = Partition::with_capacity(self.pieces() + other.pieces());
        let (mut i, mut j) = (0, 0);
        let mut start = A::MIN;
        loop {
            result.push(start, combine(self.labels[i], other.labels[j]));
            let (a, b) = (self.starts.get(i + 1), other.starts.get(j + 1));
            let Some(next) = [a, b].into_iter().flatten().min() else { break };
            start = *next;
            i += usize::from(a == Some(&start));
            j += usize::from(b == Some(&start));
        }
        result.starts.shrink_to_fit();
        result.labels.shrink_to_fit();
        result
    }

    /// The fewest prefixes that cover exactly the addresses whose label satisfies `wanted`, in rising
    /// order.
    pub fn prefixes<'a>(
        &'a self,
        mut wanted: impl FnMut(L) -> bool + 'a,
    ) -> impl Iterator<Item = IpNet> + 'a {
        let mut pieces = self.iter().filter(move |piece| wanted(piece.label)).peekable();
        // Neighbouring pieces with different labels may both be wanted: join them first.
        let runs = std::iter::from_fn(move || {
            let mut run = pieces.next()?;
            while let Some(more) = pieces.next_if(|next| run.last.next() == Some(next.first)) {
                run.last = more.last;
            }
            Some((run.first, run.last))
        });
        runs.flat_map(|(first, last)| range_prefixes(first, last)).map(|(first, len)| first.net(len))
    }
}

/// The fewest prefixes, as (network, length), that cover exactly `first..=last`, in rising order.
pub(crate) fn range_prefixes<A: Address>(first: A, last: A) -> impl Iterator<Item = (A, u8)> {
    let mut next = Some(first);
    std::iter::from_fn(move || {
        let start = next.filter(|start| *start <= last)?;
        let mut host_bits = start.trailing_zeros();
        while start.block_end(host_bits) > last {
            host_bits -= 1;
        }
        next = start.block_end(host_bits).next();
        Some((start, A::BITS - host_bits))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Random prefixes that collide often: few distinct high bits, all lengths, both ends of the space.
    fn nets() -> impl Strategy<Value = Vec<(u32, u32, u8)>> {
        let net = (
            prop_oneof![Just(0u32), Just(u32::MAX), 0x0a00_0000u32..0x0a00_0100, any::<u32>()],
            0u8..=32,
            0u8..5,
        );
        proptest::collection::vec(net, 0..12).prop_map(|nets| {
            nets.into_iter()
                .map(|(address, len, label)| {
                    let host = u32::MAX.checked_shr(u32::from(len)).unwrap_or(0);
                    (address & !host, address | host, label)
                })
                .collect()
        })
    }

    fn edges(nets: &[(u32, u32, u8)]) -> Vec<u32> {
        nets.iter()
            .flat_map(|(first, last, _)| [first.wrapping_sub(1), *first, *last, last.wrapping_add(1)])
            .chain([0, u32::MAX])
            .collect()
    }

    proptest! {
        #[test]
        fn nested_ranges_give_the_lowest_label_that_covers(nets in nets(), extra in any::<u32>()) {
            let partition = Partition::from_nested(nets.clone(), 99);
            for x in edges(&nets).into_iter().chain([extra]) {
                let naive = nets.iter().filter(|n| n.0 <= x && x <= n.1).map(|n| n.2).min().unwrap_or(99);
                prop_assert_eq!(partition.get(x), naive, "at {}", x.ip());
            }
        }

        #[test]
        fn zip_is_pointwise(a in nets(), b in nets()) {
            let (pa, pb) = (Partition::from_nested(a.clone(), 9), Partition::from_nested(b.clone(), 9));
            let both = pa.zip(&pb, |x, y| (x, y));
            for x in edges(&a).into_iter().chain(edges(&b)) {
                prop_assert_eq!(both.get(x), (pa.get(x), pb.get(x)));
            }
        }

        #[test]
        fn prefixes_cover_exactly_and_cannot_be_joined(nets in nets()) {
            let partition = Partition::from_nested(nets.clone(), 99);
            let cover: Vec<IpNet> = partition.prefixes(|label| label < 3).collect();
            for x in edges(&nets) {
                prop_assert_eq!(cover.iter().any(|net| net.contains(&x.ip())), partition.get(x) < 3);
            }
            prop_assert_eq!(IpNet::aggregate(&cover), cover);
        }
    }

    #[test]
    fn the_whole_space_is_one_prefix() {
        let all = Partition::<u128, bool>::constant(true);
        assert_eq!(all.prefixes(|x| x).map(|n| n.to_string()).collect::<Vec<_>>(), ["::/0"]);
        let single = Partition::from_nested(vec![(u32::MAX, u32::MAX, 1)], 0);
        assert_eq!(
            single.prefixes(|x| x == 1).map(|n| n.to_string()).collect::<Vec<_>>(),
            ["255.255.255.255/32"]
        );
    }

    #[test]
    fn sorted_pieces_must_not_overlap() {
        assert!(Partition::from_sorted([(0u32, 5, 1), (5, 6, 2)], 0).is_none());
        let gap = Partition::from_sorted([(1u32, 5, 1), (6, u32::MAX, 2)], 0).unwrap();
        assert_eq!((gap.get(0), gap.get(5), gap.get(6), gap.pieces()), (0, 1, 2, 3));
    }
}
