//! What a directive is: an entry of the table in `directives/`.

use super::Binder;
use crate::config::{
    syntax::Statement,
    vocabulary::{Context, Known},
};

/// Reads a statement into what its block is read into.
pub(super) type Reader<D> = fn(&mut Binder<'_>, &Statement, &mut D);

/// What becomes of a directive.
pub(super) enum Effect<D> {
    /// nicgate does what it says.
    Enforced(Reader<D>),
    /// It is read, and nothing is enforced by it; for this.
    Read(Reader<D>, &'static str),
    /// It restricts access to this, and is not enforced: a warning.
    NotEnforced(&'static str),
    /// It concerns this, and not access: a note names it.
    PassedOver(&'static str),
}

/// A directive, or several that differ in their name only: how it is read, and all that is said of it. The lists of
/// words, the advice for misspelt ones and the reference for operators are made from these.
pub(super) struct Directive<D> {
    /// Its names, the usual one first.
    pub(super) names: &'static [&'static str],
    /// How it is written.
    pub(super) form: &'static str,
    /// What it does, in whole sentences.
    pub(super) about: &'static str,
    /// What holds without it.
    pub(super) default: &'static str,
    /// A configuration that has it; a test loads it.
    pub(super) example: &'static str,
    /// Whether something would be left open without a word if it were misspelt and passed over: a word that is nearly
    /// this one is an error then.
    pub(super) opens_if_missed: bool,
    /// Whether a line that begins with it, inside another block, shows that the block was left open.
    pub(super) top_only: bool,
    /// What its block has in it.
    pub(super) block: Context,
    /// What becomes of it.
    pub(super) effect: Effect<D>,
}

impl<D> Directive<D> {
    /// Flussonic's directives that do not concern access, but this.
    pub(super) const fn passed_over(names: &'static [&'static str], what: &'static str) -> Self {
        Self::without_reader(names, Effect::PassedOver(what))
    }

    /// Flussonic's directives that restrict access to this, which nicgate leaves to the media server.
    pub(super) const fn not_enforced(names: &'static [&'static str], what: &'static str) -> Self {
        Self::without_reader(names, Effect::NotEnforced(what))
    }

    const fn without_reader(names: &'static [&'static str], effect: Effect<D>) -> Self {
        Self {
            names,
            form: "",
            about: "",
            default: "",
            example: "",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect,
        }
    }
}

/// What a block is read into, with the block's part of the table.
pub(super) trait Draft: Sized + 'static {
    /// Where these directives stand, as a title.
    const PLACE: &'static str;
    /// What there is to say of all of them.
    const ABOUT: &'static str;
    /// The directives of the block. No name is there twice.
    const DIRECTIVES: &'static [Directive<Self>];

    /// Says what there is to say of a word that is none of them.
    fn unknown(binder: &mut Binder<'_>, statement: &Statement);

    /// The directive of a name.
    fn find(name: &str) -> Option<&'static Directive<Self>> {
        Self::DIRECTIVES.iter().find(|directive| directive.names.contains(&name))
    }

    /// What the parser has to know of a word.
    fn known(name: &str) -> Option<Known> {
        Self::find(name).map(|directive| Known { block: directive.block, top_only: directive.top_only })
    }

    /// The names of the directives for which this holds.
    fn names(wanted: fn(&Directive<Self>) -> bool) -> Vec<&'static str> {
        let found = Self::DIRECTIVES.iter().filter(|directive| wanted(directive));
        found.flat_map(|directive| directive.names).copied().collect()
    }
}
