//! Lists that share their elements: each session is in one list of all and in one of its address.

use slab::Slab;

/// No element.
pub(super) const NIL: u32 = u32::MAX;

/// The neighbours of an element in one list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    before: u32,
    after: u32,
}

impl Links {
    #[cfg(test)]
    pub(super) fn after(self) -> Option<u32> {
        (self.after != NIL).then_some(self.after)
    }
}

impl Default for Links {
    fn default() -> Self {
        Self { before: NIL, after: NIL }
    }
}

/// An element that is in [`CHAINS`] lists at once.
pub(super) trait Linked {
    /// Its neighbours in each.
    fn links(&mut self) -> &mut [Links; CHAINS];
}

/// In how many lists an element is.
pub(super) const CHAINS: usize = 2;

/// A list, as its ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    first: u32,
    last: u32,
}

impl Default for List {
    fn default() -> Self {
        Self { first: NIL, last: NIL }
    }
}

impl List {
    /// The element that has been in it longest.
    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NIL).then_some(self.first)
    }

    /// Puts an element at the end.
    pub(super) fn push<T: Linked>(&mut self, slots: &mut Slab<T>, chain: usize, at: u32) {
        slots[at as usize].links()[chain] = Links { before: self.last, after: NIL };
        match self.last {
            NIL => self.first = at,
            last => slots[last as usize].links()[chain].after = at,
        }
        self.last = at;
    }

    /// Takes an element of it out.
    pub(super) fn unlink<T: Linked>(&mut self, slots: &mut Slab<T>, chain: usize, at: u32) {
        let Links { before, after } = std::mem::take(&mut slots[at as usize].links()[chain]);
        match before {
            NIL => self.first = after,
            before => slots[before as usize].links()[chain].after = after,
        }
        match after {
            NIL => self.last = before,
            after => slots[after as usize].links()[chain].before = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Element([Links; CHAINS]);

    impl Linked for Element {
        fn links(&mut self) -> &mut [Links; CHAINS] {
            &mut self.0
        }
    }

    fn read(list: &List, slots: &mut Slab<Element>, chain: usize) -> Vec<u32> {
        let mut all = Vec::new();
        let mut next = list.first;
        while next != NIL {
            all.push(next);
            next = slots[next as usize].0[chain].after;
        }
        assert_eq!(all.last().copied().unwrap_or(NIL), list.last);
        all
    }

    proptest! {
        #[test]
        fn a_list_is_a_queue_from_which_anybody_can_leave(steps in prop::collection::vec((0..8u32, 0..CHAINS), 0..100)) {
            let mut slots: Slab<Element> = (0..8).map(|key| (key, Element::default())).collect();
            let mut lists = [List::default(); CHAINS];
            let mut expected: [Vec<u32>; CHAINS] = Default::default();
            for (at, chain) in steps {
                match expected[chain].iter().position(|one| *one == at) {
                    Some(place) => {
                        expected[chain].remove(place);
                        lists[chain].unlink(&mut slots, chain, at);
                    }
                    None => {
                        expected[chain].push(at);
                        lists[chain].push(&mut slots, chain, at);
                    }
                }
                for chain in 0..CHAINS {
                    prop_assert_eq!(&read(&lists[chain], &mut slots, chain), &expected[chain]);
                    prop_assert_eq!(lists[chain].first(), expected[chain].first().copied());
                }
            }
        }
    }
}
