//! DASH manifests.

use std::{fmt, ops::Range};

use quick_xml::{
    Reader,
    escape::{escape, unescape},
    events::{BytesStart, Event},
};

use super::{
    Carrier,
    bases::{Bases, Tree},
};

/// The most elements that stand in each other; a manifest has about ten.
const DEEPEST: usize = 64;

/// Why a text is not read as a DASH manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is no UTF-8, or says that it is not.
    Encoding,
    /// It declares a document type: entities are not expanded.
    DocumentType,
    /// It is not well-formed, or ends early.
    Broken,
    /// Its outermost element is not `MPD`.
    NotMpd,
    /// It has too many elements, or they stand too deep in each other.
    TooComplex,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoding => "it is not UTF-8",
            Self::DocumentType => "it declares a document type",
            Self::Broken => "it is not well-formed",
            Self::NotMpd => "it is no MPD",
            Self::TooComplex => "it has too many elements",
        })
    }
}

impl std::error::Error for Unreadable {}

/// Writes the token into a manifest's references; `None` when nothing changes.
///
/// # Errors
///
/// Why the text cannot be read.
pub fn carry(carrier: &Carrier, text: &[u8]) -> Result<Option<String>, Unreadable> {
    let text = std::str::from_utf8(text).map_err(|_| Unreadable::Encoding)?;
    let (mark, text) = text.split_at(if text.starts_with('\u{feff}') { 3 } else { 0 });
    let mut found = Found::new(text);
    found.read()?;
    let Found { tree, references, plain_ids, .. } = found;
    let bases = tree.resolve(carrier.base());
    let mut new = mark.to_owned();
    let mut done = 0;
    for reference in &references {
        let raw = &text[reference.range.clone()];
        // An entity that is not one of XML's own is never expanded.
        let Ok(written) = unescape(raw) else { continue };
        if let Some(carried) = carried(carrier, &bases, reference, written.trim_matches(SPACE), plain_ids) {
            let start = raw.len() - raw.trim_start_matches(SPACE).len();
            let end = raw.trim_end_matches(SPACE).len();
            new.push_str(&text[done..reference.range.start + start]);
            new.push_str(&escape(carried.as_str()));
            done = reference.range.start + end;
        }
    }
    new.push_str(&text[done..]);
    Ok((done > 0).then_some(new))
}

/// White space of XML.
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

fn carried(
    carrier: &Carrier,
    bases: &Bases,
    reference: &Reference,
    written: &str,
    plain_ids: bool,
) -> Option<String> {
    let below = bases.below(reference.element);
    match reference.kind {
        Kind::Location => carrier.carry(written),
        // A folder is only what others are relative to; some players put a name behind whatever stands there.
        Kind::Base if written.split(['?', '#']).next().is_some_and(|path| path.ends_with('/')) => {
            carrier.lead_here(written)
        }
        Kind::Base => carrier.carry_meant(written, written, bases.above(reference.element)?),
        Kind::Plain => carrier.carry_meant(written, written, below?),
        Kind::Template => carrier.carry_meant(written, &meant(written, plain_ids)?, below?),
    }
}

/// A template with `0` for each of its variables; `None` when one of them could be anything.
fn meant(template: &str, plain_ids: bool) -> Option<String> {
    let mut meant = String::new();
    let mut parts = template.split('$');
    meant.push_str(parts.next()?);
    while let Some(variable) = parts.next() {
        let name = variable.split('%').next()?;
        match name {
            "" if variable.is_empty() => meant.push('$'),
            "RepresentationID" if plain_ids => meant.push('0'),
            "Number" | "Bandwidth" | "Time" | "SubNumber" => meant.push('0'),
            _ => return None,
        }
        meant.push_str(parts.next()?);
    }
    Some(meant)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `BaseURL`.
    Base,
    /// `Location`: relative to the manifest.
    Location,
    Plain,
    /// With `$Number$` and its like.
    Template,
}

/// A place where a reference stands.
#[derive(Debug)]
struct Reference {
    /// In the text.
    range: Range<usize>,
    /// The innermost element with bases that it stands in.
    element: usize,
    kind: Kind,
}

/// The content of an element that is a reference, while it is read.
#[derive(Debug)]
struct Content {
    start: usize,
    depth: usize,
    kind: Kind,
    /// Nothing but text.
    plain: bool,
}

/// What a manifest refers to.
struct Found<'a> {
    text: &'a str,
    tree: Tree,
    /// The innermost element with bases, for each element that is open.
    open: Vec<usize>,
    references: Vec<Reference>,
    content: Option<Content>,
    /// Whether every representation's id is a plain word, that makes no other path of a template.
    plain_ids: bool,
}

impl<'a> Found<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            tree: Tree::new(),
            open: Vec::new(),
            references: Vec::new(),
            content: None,
            plain_ids: true,
        }
    }

    fn read(&mut self) -> Result<(), Unreadable> {
        let mut reader = Reader::from_str(self.text);
        let mut root = false;
        loop {
            let before = reader.buffer_position() as usize;
            let event = reader.read_event().map_err(|_| Unreadable::Broken)?;
            match &event {
                Event::Start(start) | Event::Empty(start) if !root => {
                    if start.local_name().into_inner() != "MPD" {
                        return Err(Unreadable::NotMpd);
                    }
                    root = true;
                }
                Event::DocType(_) => return Err(Unreadable::DocumentType),
                Event::Decl(declaration) => {
                    if let Some(encoding) = declaration.encoding() {
                        let encoding = encoding.map_err(|_| Unreadable::Broken)?;
                        if !["utf-8", "us-ascii"].iter().any(|known| known.eq_ignore_ascii_case(&encoding)) {
                            return Err(Unreadable::Encoding);
                        }
                    }
                }
                _ => {}
            }
            if let Some(content) = &mut self.content {
                content.plain &= matches!(event, Event::Text(_) | Event::GeneralRef(_) | Event::End(_));
            }
            match event {
                Event::Start(start) => {
                    self.element(&start)?;
                    self.begin(&start, reader.buffer_position() as usize);
                }
                Event::Empty(start) => {
                    self.element(&start)?;
                    self.open.pop();
                }
                Event::End(_) => self.end(before),
                Event::Eof if root && self.open.is_empty() => return Ok(()),
                Event::Eof => return Err(Unreadable::Broken),
                _ => {}
            }
        }
    }

    /// An element begins: its bases, and its attributes.
    fn element(&mut self, start: &BytesStart<'_>) -> Result<(), Unreadable> {
        if self.open.len() >= DEEPEST {
            return Err(Unreadable::TooComplex);
        }
        let name = start.local_name().into_inner();
        let mut element = self.open.last().copied().unwrap_or(0);
        if matches!(name, "MPD" | "Period" | "AdaptationSet" | "Representation") {
            element = self.tree.add(element).ok_or(Unreadable::TooComplex)?;
        }
        self.open.push(element);
        let kind = match name {
            "SegmentTemplate" => Kind::Template,
            _ => Kind::Plain,
        };
        let referring: &[&str] = match name {
            "SegmentTemplate" => &["media", "initialization", "index", "bitstreamSwitching"],
            "SegmentURL" => &["media", "index"],
            "Initialization" | "RepresentationIndex" | "BitstreamSwitching" => &["sourceURL"],
            "UTCTiming" => &["value"],
            _ => &[],
        };
        // Comparing each with each is quadratic, and says nothing here.
        for attribute in start.attributes().with_checks(false) {
            let attribute = attribute.map_err(|_| Unreadable::Broken)?;
            let key = attribute.key.into_inner();
            if name == "Representation" && key == "id" {
                let plain = |c: char| c.is_ascii_alphanumeric() || "-_.=,+~@".contains(c);
                self.plain_ids &= attribute.value.chars().all(plain) && !attribute.value.contains("..");
            }
            if referring.contains(&key) || key == "xlink:href" {
                let range = self.range(&attribute.value).ok_or(Unreadable::Broken)?;
                self.references.push(Reference { range, element, kind });
            }
        }
        Ok(())
    }

    /// Where a part of the text stands in it.
    fn range(&self, part: &str) -> Option<Range<usize>> {
        let start = (part.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize)?;
        let range = start..start + part.len();
        (self.text.get(range.clone())? == part).then_some(range)
    }

    fn begin(&mut self, start: &BytesStart<'_>, at: usize) {
        let kind = match start.local_name().into_inner() {
            "BaseURL" => Kind::Base,
            "Location" => Kind::Location,
            "PatchLocation" | "ContentSteering" => Kind::Plain,
            _ => return,
        };
        if self.content.is_none() {
            self.content = Some(Content { start: at, depth: self.open.len(), kind, plain: true });
        }
    }

    fn end(&mut self, before: usize) {
        let depth = self.open.len();
        let element = self.open.pop().unwrap_or(0);
        let Some(Content { start, kind, plain, .. }) = self.content.take_if(|content| content.depth == depth)
        else {
            return;
        };
        let range = start..before;
        if self.text.get(range.clone()).is_none() {
            return;
        }
        if kind == Kind::Base {
            let written =
                Some(&self.text[range.clone()]).filter(|_| plain).and_then(|raw| unescape(raw).ok());
            self.tree.base(element, written.map(|written| written.trim_matches(SPACE).to_owned()));
        }
        if plain {
            self.references.push(Reference { range, element, kind });
        }
    }
}

#[cfg(test)]
mod tests;
