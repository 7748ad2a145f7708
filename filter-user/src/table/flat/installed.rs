//! What the `flat` engine's buckets say, read back from the kernel.

use filter_ebpf::flat::{
    Bucket, DEEP, KEY_BITS, LINE_BUCKETS, Line, NEVER, RANGES, Root, WIDE_RANGES, pointer,
};

use crate::{offload::ClassId, table::ranges::standing_out};

/// IPv4 ranges that stand out from the rest. `None` if a pointer leads outside.
pub(crate) fn installed_v4(lines: &[Line], root: &Root) -> Option<usize> {
    Some(standing_out(pieces_v4(lines, root)?.iter().map(|piece| piece.class)))
}

/// The same for IPv6.
pub(crate) fn installed_v6(lines: &[Line], root: &Root) -> Option<usize> {
    Some(standing_out(pieces_v6(lines, root)?.iter().map(|piece| piece.class)))
}

/// Where a piece begins, left-aligned, and its class.
struct Piece {
    start: u128,
    class: ClassId,
}

/// A place in the table: a bucket, and the first of its addresses.
#[derive(Clone, Copy)]
struct Place {
    bucket: u32,
    /// The upper half, once it is used up.
    upper: Option<u64>,
    start: u64,
    used: u32,
}

struct Walk<'l> {
    lines: &'l [Line],
    /// Buckets still to be visited before it must be a circle.
    left: usize,
    pieces: Vec<Piece>,
}

fn pieces_v4(lines: &[Line], root: &Root) -> Option<Vec<Piece>> {
    let mut walk = Walk::new(lines);
    walk.array(Place { bucket: root.first.checked_add(1)?, upper: None, start: 0, used: 0 }, root.width)?;
    Some(walk.pieces)
}

fn pieces_v6(lines: &[Line], root: &Root) -> Option<Vec<Piece>> {
    let mut outside = Walk::new(lines);
    outside.narrow(Place { bucket: root.first, upper: None, start: 0, used: 0 })?;
    let mut inside = Walk::new(lines);
    inside.array(
        Place { bucket: root.first.checked_add(1)?, upper: None, start: root.prefix, used: root.skip },
        root.width,
    )?;
    let first = u128::from(root.prefix) << 64;
    let last = first | u128::MAX.checked_shr(root.skip).unwrap_or(0);
    let (mut before, mut after, mut behind) = (Vec::new(), Vec::new(), None);
    for piece in outside.pieces {
        if piece.start < first {
            before.push(piece);
        } else if piece.start > last {
            after.push(piece);
        } else {
            behind = Some(piece.class);
        }
    }
    // The piece in which the block ends goes on behind it.
    if let Some(start) = last.checked_add(1)
        && after.first().is_none_or(|piece| piece.start != start)
    {
        let class = behind.or(before.last().map(|piece| piece.class))?;
        after.insert(0, Piece { start, class });
    }
    before.append(&mut inside.pieces);
    before.append(&mut after);
    Some(before)
}

impl<'l> Walk<'l> {
    fn new(lines: &'l [Line]) -> Self {
        Self { lines, left: lines.len() * LINE_BUCKETS, pieces: Vec::new() }
    }

    fn bucket(&mut self, number: u32) -> Option<Bucket> {
        self.left = self.left.checked_sub(1)?;
        let line = self.lines.get(number as usize / LINE_BUCKETS)?;
        line.as_chunks().0.get(number as usize % LINE_BUCKETS).copied()
    }

    fn piece(&mut self, place: Place, start: u64, class: u32) {
        let start = match place.upper {
            Some(upper) => u128::from(upper) << 64 | u128::from(start),
            None => u128::from(start) << 64,
        };
        self.pieces.push(Piece { start, class: ClassId(class) });
    }

    /// 2^width buckets, from a place on.
    fn array(&mut self, first: Place, width: u32) -> Option<()> {
        let used = first.used + width;
        for number in 0..1u32 << width {
            let start = first.start | u64::from(number).checked_shl(64 - used).unwrap_or(0);
            self.narrow(Place { bucket: first.bucket.checked_add(number)?, start, used, ..first })?;
        }
        Some(())
    }

    fn narrow(&mut self, place: Place) -> Option<()> {
        let bucket = self.bucket(place.bucket)?;
        let quarter = |number: usize| (bucket[number / 4] >> (number % 4 * 16)) as u16;
        for piece in 0..RANGES {
            let start = if piece == 0 { 0 } else { quarter(piece - 1) };
            if start == NEVER {
                break;
            }
            let start = place.start | u64::from(start) << (64 - KEY_BITS) >> place.used;
            self.target(
                place,
                start,
                u32::from(quarter(RANGES + piece)),
                (bucket[1] >> 48) as u32,
                KEY_BITS,
            )?;
        }
        Some(())
    }

    fn wide(&mut self, place: Place) -> Option<()> {
        let bucket = self.bucket(place.bucket)?;
        let starts = [place.start, bucket[0].max(place.start), bucket[1].max(place.start)];
        for piece in 0..WIDE_RANGES {
            // Of pieces that begin at one place the last counts.
            if starts.get(piece + 1) == Some(&starts[piece]) {
                continue;
            }
            let found = (bucket[2] >> (piece * 16)) as u32 & 0xffff;
            self.target(place, starts[piece], found, bucket[3] as u32, 64 - place.used)?;
        }
        Some(())
    }

    /// A piece that begins at `start`, in a bucket that compares so many bits.
    fn target(&mut self, place: Place, start: u64, found: u32, upper_bits: u32, bits: u32) -> Option<()> {
        if found & DEEP == 0 {
            self.piece(place, start, found);
            return Some(());
        }
        let bucket = upper_bits << pointer::OFFSET_BITS | found & (pointer::BLOCK - 1);
        let next = if found & pointer::LOWER != 0 {
            Place { bucket, upper: Some(start), start: 0, used: 0 }
        } else if found & pointer::BELOW != 0 {
            Place { bucket, start, used: place.used + bits, ..place }
        } else {
            Place { bucket, ..place }
        };
        if found & pointer::WIDE != 0 {
            self.wide(next)
        } else {
            self.array(next, found >> pointer::WIDTH_SHIFT & pointer::WIDTH_MASK)
        }
    }
}
