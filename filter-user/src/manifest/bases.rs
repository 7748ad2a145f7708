//! What relative references of a DASH manifest are relative to.
//!
//! `BaseURL` stands in the manifest, in a period, in an adaptation set and in a representation; each is relative to what
//! is above it, and several in one place are alternatives. What stands in an adaptation set is inherited by its
//! representations and relative to *their* base: a reference is only known to stay here if it does with every base
//! below it.

use url::Url;

use super::reference::resolve;

/// The most bases of one element, of everything below one, and elements: more are not known.
const MOST_BASES: usize = 64;
const MOST_BELOW: usize = 256;
const MOST_ELEMENTS: usize = 20_000;

/// An element that may have a `BaseURL`.
#[derive(Debug, Default)]
struct Element {
    parent: usize,
    /// What its `BaseURL`s say; `None` for one that cannot be read.
    written: Vec<Option<String>>,
    leaf: bool,
}

/// The elements that may have a `BaseURL`, in the order of the document. The first is the document itself.
#[derive(Debug)]
pub(super) struct Tree(Vec<Element>);

/// Bases; `None` where they are not known.
type Known = Option<Vec<Url>>;

/// What references are relative to, for each element.
#[derive(Debug)]
pub(super) struct Bases {
    parents: Vec<usize>,
    /// Of what stands in the element itself.
    own: Vec<Known>,
    /// Of everything below it.
    below: Vec<Known>,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self(vec![Element { leaf: true, ..Element::default() }])
    }

    /// Adds an element; `None` when there are too many.
    pub(super) fn add(&mut self, parent: usize) -> Option<usize> {
        self.0[parent].leaf = false;
        self.0.push(Element { parent, written: Vec::new(), leaf: true });
        (self.0.len() <= MOST_ELEMENTS).then(|| self.0.len() - 1)
    }

    /// Notes a `BaseURL`.
    pub(super) fn base(&mut self, element: usize, written: Option<String>) {
        self.0[element].written.push(written);
    }

    /// Resolves every base, beginning with where the manifest is.
    pub(super) fn resolve(self, manifest: &Url) -> Bases {
        let mut own: Vec<Known> = Vec::with_capacity(self.0.len());
        for element in &self.0 {
            let above = own.get(element.parent).cloned().unwrap_or_else(|| Some(vec![manifest.clone()]));
            own.push(if element.written.is_empty() { above } else { joined(above, &element.written) });
        }
        let mut below: Vec<Known> = self
            .0
            .iter()
            .zip(&own)
            .map(|(element, own)| if element.leaf { own.clone() } else { Some(Vec::new()) })
            .collect();
        for index in (1..self.0.len()).rev() {
            let child = below[index].clone();
            let parent = &mut below[self.0[index].parent];
            *parent = std::mem::take(parent).zip(child).and_then(|(mut all, child)| {
                for url in child {
                    if !all.contains(&url) {
                        all.push(url);
                    }
                }
                (all.len() <= MOST_BELOW).then_some(all)
            });
        }
        Bases { parents: self.0.iter().map(|element| element.parent).collect(), own, below }
    }
}

fn joined(above: Known, written: &[Option<String>]) -> Known {
    let above = above?;
    let mut all = Vec::new();
    for base in &above {
        for written in written {
            let url = resolve(base, written.as_deref()?)?;
            if !all.contains(&url) {
                all.push(url);
            }
            if all.len() > MOST_BASES {
                return None;
            }
        }
    }
    Some(all)
}

impl Bases {
    /// What a `BaseURL` in the element is relative to.
    pub(super) fn above(&self, element: usize) -> Option<&[Url]> {
        self.own[self.parents[element]].as_deref()
    }

    /// What any other reference in the element is relative to.
    pub(super) fn below(&self, element: usize) -> Option<&[Url]> {
        self.below[element].as_deref()
    }
}
