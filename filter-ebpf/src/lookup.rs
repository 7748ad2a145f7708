//! The maps that addresses are looked up in, and the lookup: what judges packets and what only measures have it in
//! common.

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, ArrayOfMaps, LpmTrie, lpm_trie::Key},
    macros::btf_map,
};
use filter_ebpf::{
    flat::{self, Cursor, Line, Lines},
    layout::{self, Generation, State, engine},
    parse::{Address, Numbers},
};

/// Capacity of the tries that stand in the maps of maps until the first table, each of which has its own; and
/// of the lines, whose number is set at load time.
const TEMPLATE: usize = 1;

#[btf_map]
pub(crate) static STATE: Array<State, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static V4: ArrayOfMaps<LpmTrie<[u8; 4], u32, TEMPLATE>, { layout::GENERATIONS as usize }> =
    ArrayOfMaps::new();
#[btf_map]
static V6: ArrayOfMaps<LpmTrie<[u8; 16], u32, TEMPLATE>, { layout::GENERATIONS as usize }> =
    ArrayOfMaps::new();
#[btf_map]
static LINES: Array<Line, TEMPLATE, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Set at load time: the verifier removes the other engine.
#[unsafe(no_mangle)]
static NICGATE_ENGINE: Global<u8> = Global::new(engine::LPM);
/// Set at load time: where the second generation's lines begin.
#[unsafe(no_mangle)]
static NICGATE_LINES: Global<u32> = Global::new(0);

/// The live table.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a> {
    /// Its index.
    pub(crate) index: u32,
    pub(crate) generation: &'a Generation,
}

impl Table<'_> {
    /// Reads which one is live; `None` before the first. Read once: one generation judges the whole packet.
    #[inline(always)]
    pub(crate) fn live(state: *const State) -> Option<Self> {
        // SAFETY: the element exists for as long as the program; volatile because userspace stores to it.
        let serial = unsafe { (&raw const (*state).control.live).read_volatile() };
        if serial == 0 {
            return None;
        }
        let index = layout::generation_index(serial);
        // SAFETY: inside the array, because an index is 0 or 1; userspace writes only to the other one.
        let generation =
            unsafe { &*(&raw const (*state).generations).cast::<Generation>().add(index as usize) };
        Some(Self { index, generation })
    }

    /// The first of its lines.
    #[inline(always)]
    pub(crate) fn lines(self) -> GenerationLines {
        GenerationLines { first: if self.index == 0 { 0 } else { NICGATE_LINES.load() } }
    }
}

/// The lines of one generation.
pub(crate) struct GenerationLines {
    first: u32,
}

impl Lines for GenerationLines {
    #[inline(always)]
    fn line(&self, index: u32) -> Option<&Line> {
        LINES.get(self.first.wrapping_add(index))
    }

    // Longer walks have a function of their own: the verifier looks at it once, and not once for every path that
    // leads there.
    #[inline(always)]
    fn walk(&self, cursor: Cursor) -> Option<u32> {
        let Cursor { found, rest, half, lower } = cursor;
        Some(nicgate_walk(self.first, found, rest, half, lower))
    }
}

/// Lines as the function sees them that is verified on its own.
struct Alone(GenerationLines);

impl Lines for Alone {
    #[inline(always)]
    fn line(&self, index: u32) -> Option<&Line> {
        self.0.line(index)
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn nicgate_walk(lines: u32, found: u32, rest: u64, half: u64, lower: u64) -> u32 {
    // Class 0 only in the case that never happens: the host writes no pointer that leads outside.
    flat::walk(&Alone(GenerationLines { first: lines }), Cursor { found, rest, half, lower }).unwrap_or(0)
}

/// The class of a source address: the one place that knows how addresses are looked up.
#[inline(always)]
pub(crate) fn class(table: Table<'_>, source: Numbers) -> u32 {
    if NICGATE_ENGINE.load() == engine::LPM {
        return class_lpm(table, source.address());
    }
    let root = &table.generation.header.roots[usize::from(source.v6)];
    // Class 0 only in the case that never happens: the host writes no pointer that leads outside.
    flat::class(&table.lines(), root, source.upper, source.lower).unwrap_or(0)
}

#[inline(always)]
fn class_lpm(table: Table<'_>, source: Address) -> u32 {
    let (index, header) = (table.index, &table.generation.header);
    let (found, default) = match source {
        Address::V4(address) => (V4.get_value_ptr_mut(index, &Key::new(32, address)), header.default_v4),
        Address::V6(address) => (V6.get_value_ptr_mut(index, &Key::new(128, address)), header.default_v6),
    };
    match found {
        // SAFETY: entries of a live generation are neither changed nor removed.
        Some(class) => unsafe { *class },
        None => default,
    }
}
