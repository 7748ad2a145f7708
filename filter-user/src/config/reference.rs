//! The directives as operators read of them.

use std::fmt::Write as _;

use serde::Serialize;

/// What becomes of a directive, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectWord {
    /// nicgate does what it says.
    Enforced,
    /// It is read, and nothing is enforced by it.
    Read,
    /// It restricts access and is not enforced: a warning names it.
    NotEnforced,
    /// It does not concern access: a note names it.
    PassedOver,
}

/// What there is to say of a directive, or of several that differ in their name only.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DirectiveDoc {
    /// Its names, the usual one first.
    pub names: &'static [&'static str],
    /// How it is written; empty for what is not read.
    pub form: &'static str,
    /// What it does; empty for what is not read.
    pub about: &'static str,
    /// What holds without it; empty where there is nothing to say.
    pub default: &'static str,
    /// A configuration that has it; empty for what is not read.
    pub example: &'static str,
    /// What becomes of it.
    pub effect: EffectWord,
    /// For what is not enforced: what it concerns, or why it is read.
    pub concerns: &'static str,
}

/// The directives of a block.
#[derive(Clone, Debug, Serialize)]
pub struct PlaceDoc {
    /// Where they stand, as a title.
    pub place: &'static str,
    /// What there is to say of all of them.
    pub about: &'static str,
    /// Each directive.
    pub directives: Vec<DirectiveDoc>,
}

/// What stands above the reference.
const HEAD: &str = "# Directives

Every word that nicgate knows in a configuration: what it enforces, what it only reads, what it warns of because the
media server alone enforces it, and what it passes over. `nicgate directives NAME` prints the part about one of them.

Statements end with `;` or have a block in braces. Words stand bare or in double quotes, with a backslash before a quote
inside of them; `#` begins a comment. Where a directive that can stand once stands twice, a message says which counts.
Directives of nicgate's own are marked; all others are Flussonic's.
";

/// The reference as a Markdown page.
pub fn markdown(places: &[PlaceDoc]) -> String {
    let mut out = HEAD.to_owned();
    for PlaceDoc { place, about, directives } in places {
        write!(out, "\n## {place}\n\n{about}\n").expect(ROOM);
        for doc in directives.iter().filter(|doc| !doc.form.is_empty()) {
            out.push('\n');
            out.push_str(&doc.markdown());
        }
        let rest = [
            (EffectWord::NotEnforced, "Warned of, because the media server alone enforces them"),
            (EffectWord::PassedOver, "Passed over"),
        ];
        for (effect, title) in rest {
            let listed: Vec<_> = directives.iter().filter(|doc| doc.effect == effect).collect();
            if listed.is_empty() {
                continue;
            }
            write!(out, "\n### {title}\n\n| directives | what they concern |\n|---|---|\n").expect(ROOM);
            for doc in listed {
                writeln!(out, "| {} | {} |", doc.quoted_names(), doc.concerns).expect(ROOM);
            }
        }
    }
    out
}

/// Writing to a `String` cannot fail.
const ROOM: &str = "a String takes everything";

impl DirectiveDoc {
    fn quoted_names(&self) -> String {
        let names: Vec<_> = self.names.iter().map(|name| format!("`{name}`")).collect();
        names.join(", ")
    }

    /// What there is to say of it, as a part of a Markdown page.
    pub fn markdown(&self) -> String {
        let Self { names: _, form, about, default, example, effect, concerns } = self;
        let mut out = format!("### {}\n\n", self.quoted_names());
        match effect {
            EffectWord::Enforced => write!(out, "`{form}`\n\n{about}\n"),
            EffectWord::Read => write!(out, "`{form}`\n\n{about} Read, and not enforced: {concerns}.\n"),
            EffectWord::NotEnforced => {
                writeln!(
                    out,
                    "Not enforced, and warned of: the media server alone restricts {concerns} by it."
                )
            }
            EffectWord::PassedOver => writeln!(out, "Passed over: it concerns {concerns}, and not access."),
        }
        .expect(ROOM);
        if !default.is_empty() {
            write!(out, "\nWithout it: {default}.\n").expect(ROOM);
        }
        if !example.is_empty() {
            write!(out, "\n```nicgate\n{example}\n```\n").expect(ROOM);
        }
        out
    }
}
