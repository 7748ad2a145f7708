//! List files: which rules name them, and what is taken of them.
//!
//! They are read when the whole configuration has been, because settings further down say what becomes of a list that
//! cannot be used.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::IpNet;

use super::{Binder, LARGEST_LIST};
use crate::{
    config::{
        Part, Refused, Severity,
        lexer::Word,
        list::{self, ListText, plural},
        source::Span,
        syntax::Statement,
    },
    model::{Action, List, Matcher},
};

/// What becomes of a list that cannot be used as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum OnError {
    /// Its former contents stay in force; the rest of the configuration is taken.
    #[default]
    Refuse,
    /// Lines that cannot be read are left out.
    Skip,
    /// The whole configuration is refused.
    Abort,
}

/// The block of a list that is being read.
#[derive(Default)]
pub(super) struct ListDraft {
    on_error: Option<(OnError, Span)>,
}

/// The list files that rules name, in the order in which they are named first.
#[derive(Default)]
pub(super) struct NamedLists {
    lists: Vec<NamedList>,
    numbers: HashMap<Key, usize>,
}

/// Rules that read the same file alike share what is read.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    path: PathBuf,
    of: Of,
    on_error: Option<OnError>,
}

/// What the lines of a list are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Of {
    Prefixes,
    Tokens,
}

struct NamedList {
    key: Key,
    /// The path in the first rule that names it.
    at: Span,
    /// Whether a rule denies or drops by it.
    denies: bool,
}

/// A list of a rule: its places among the rules of its policy and among the lists.
#[derive(Clone)]
pub(super) struct ListUse {
    pub(super) rule: usize,
    list: usize,
}

/// What was read.
enum Contents {
    Prefixes(Arc<Vec<(IpNet, u32)>>),
    Tokens(Arc<Vec<(Box<str>, u32)>>),
}

/// Why a list cannot be used as it is.
struct Fault {
    code: &'static str,
    /// As a sentence about the list: "line 3 is 0.0.0.0/0 …".
    why: String,
    help: &'static str,
}

impl Fault {
    fn emptied(before: usize) -> Self {
        Self {
            code: "list-emptied",
            why: format!("it has no entry any more, and had {before}"),
            help: "restore the list, or write `list_guard off;`",
        }
    }
}

impl Binder<'_> {
    /// `on_error refuse|skip|abort;`
    pub(super) fn on_error(&mut self, statement: &Statement) {
        let earlier = self.on_error;
        self.on_error = self.read_on_error(statement, earlier).or(earlier);
    }

    /// The same in the block of one list.
    pub(super) fn list_on_error(&mut self, statement: &Statement, draft: &mut ListDraft) {
        draft.on_error = self.read_on_error(statement, draft.on_error).or(draft.on_error);
    }

    fn read_on_error(
        &mut self,
        statement: &Statement,
        earlier: Option<(OnError, Span)>,
    ) -> Option<(OnError, Span)> {
        let word = self.only_value(statement, "refuse, skip or abort")?;
        let read = match &*word.text {
            "refuse" => OnError::Refuse,
            "skip" => OnError::Skip,
            "abort" => OnError::Abort,
            other => {
                let message = format!("`{other}` is nothing that can be done about errors");
                self.sources
                    .error(word.span, "unknown-word", message)
                    .help("known here: refuse, skip, abort");
                return None;
            }
        };
        if let Some((_, earlier)) = earlier {
            self.set_again("on_error", word.span, earlier);
        }
        Some((read, word.span))
    }

    /// Whether an error of a list or a database refuses the whole configuration.
    pub(super) fn aborts(&self) -> bool {
        self.on_error.is_some_and(|(on_error, _)| on_error == OnError::Abort)
    }

    /// The block behind the paths of a rule.
    pub(super) fn list_block(&mut self, line: &Statement) -> ListDraft {
        let mut draft = ListDraft::default();
        for option in line.statements() {
            self.directive(option, &mut draft);
        }
        draft
    }

    /// Takes note of a list that rule number `rule` of a policy names. Its entries come later.
    pub(super) fn list(
        &mut self,
        word: &Word,
        of: Of,
        action: Action,
        block: &ListDraft,
        rule: usize,
    ) -> (Matcher, ListUse) {
        let list = self.name_list(word, of, action, block);
        let path: Arc<str> = (&*word.text).into();
        let matcher = match of {
            Of::Prefixes => Matcher::IpFile(List { path, entries: Arc::default() }),
            Of::Tokens => Matcher::TokenFile(List { path, entries: Arc::default() }),
        };
        (matcher, ListUse { rule, list })
    }

    fn name_list(&mut self, word: &Word, of: Of, action: Action, block: &ListDraft) -> usize {
        let path = self.relative(word);
        let key = Key { path, of, on_error: block.on_error.map(|(on_error, _)| on_error) };
        let NamedLists { lists, numbers } = &mut self.lists;
        let list = *numbers.entry(key).or_insert_with_key(|key| {
            lists.push(NamedList { key: key.clone(), at: word.span, denies: false });
            lists.len() - 1
        });
        lists[list].denies |= action != Action::Allow;
        list
    }

    /// Reads every list, and gives the rules their entries.
    pub(super) fn fill_lists(&mut self) {
        let lists = std::mem::take(&mut self.lists).lists;
        let contents: Vec<Contents> = lists.iter().map(|list| self.contents(list)).collect();
        for policy in &mut self.policies {
            for ListUse { rule, list } in std::mem::take(&mut policy.lists) {
                match (&mut policy.rules[rule].matcher, &contents[list]) {
                    (Matcher::IpFile(list), Contents::Prefixes(entries)) => list.entries = entries.clone(),
                    (Matcher::TokenFile(list), Contents::Tokens(entries)) => list.entries = entries.clone(),
                    _ => unreachable!("a list is named together with its rule"),
                }
            }
        }
    }

    fn contents(&mut self, list: &NamedList) -> Contents {
        let guarded = list.denies && self.list_guard.is_none_or(|(on, _)| on);
        match list.key.of {
            Of::Prefixes => {
                let check = |read: &ListText<IpNet>| everybody(read).filter(|_| guarded);
                Contents::Prefixes(self.read_list(list, guarded, list::read_prefixes, check))
            }
            Of::Tokens => Contents::Tokens(self.read_list(list, guarded, list::read_tokens, |_| None)),
        }
    }

    /// The entries of a list: those of the file, or the former ones if it cannot be used. `guarded` says that it must
    /// not become empty; `check` finds faults of what could be read.
    fn read_list<T>(
        &mut self,
        list: &NamedList,
        guarded: bool,
        read: fn(&[u8]) -> ListText<T>,
        check: impl Fn(&ListText<T>) -> Option<Fault>,
    ) -> Arc<Vec<(T, u32)>> {
        let Key { path, on_error, .. } = &list.key;
        let on_error = on_error.or(self.on_error.map(|(on_error, _)| on_error)).unwrap_or_default();
        let skip = on_error == OnError::Skip;
        let usable = |text: &ListText<T>| bad_lines(text, skip).or_else(|| check(text)).map_or(Ok(()), Err);
        let file: Arc<str> = path.to_string_lossy().into();
        if !self.list_files.contains(path) {
            self.list_files.push(path.clone());
        }

        let (text, mut fault) = match self.list_bytes(path) {
            Ok(bytes) => {
                let text = read(&bytes);
                let fault = usable(&text).err();
                (text, fault)
            }
            Err(fault) => (ListText::default(), Some(fault)),
        };
        let empty = guarded && fault.is_none() && text.entries.is_empty();
        if (fault.is_some() || empty)
            && let Some(former) = self.files.former(path)
        {
            let kept = read(&former.bytes);
            if empty && !kept.entries.is_empty() {
                fault = Some(Fault::emptied(kept.entries.len()));
            }
            if let Some(fault) = &fault
                && on_error != OnError::Abort
                && usable(&kept).is_ok()
            {
                self.say_refused(list, fault, kept.entries.len(), former.read_at);
                text.say_bad(&file, Severity::Warning, &mut self.sources);
                return Arc::new(kept.entries);
            }
        }
        self.say_fault(list, fault, &text);
        text.say_odd(&file, &mut self.sources);
        Arc::new(text.entries)
    }

    /// Says that a list is refused and its former contents stay in force, which were read at `read_at`, in seconds since
    /// 1970.
    fn say_refused(&mut self, list: &NamedList, fault: &Fault, former: usize, read_at: u64) {
        let NamedList { key: Key { path, .. }, at, .. } = list;
        let entries = match former {
            1 => "1 entry".to_owned(),
            count => format!("{count} entries"),
        };
        let message = format!(
            "the list `{}` is refused: {}; its former contents ({entries}) stay in force",
            path.display(),
            fault.why
        );
        self.sources.warning(*at, "list-refused", message).help(fault.help);
        self.sources.refused(Refused {
            part: Part::List,
            path: path.clone(),
            origin: self.sources.origin(*at),
            why: fault.why.clone(),
            read_at,
        });
    }

    /// Says what is wrong with a list that nothing stands in for, and which lines of it are left out.
    fn say_fault<T>(&mut self, list: &NamedList, fault: Option<Fault>, text: &ListText<T>) {
        let NamedList { key: Key { path, .. }, at, .. } = list;
        let file = path.to_string_lossy().into();
        match fault {
            // Each bad line is an error of its own.
            Some(Fault { code: "list-lines", .. }) => text.say_bad(&file, Severity::Error, &mut self.sources),
            Some(Fault { code, why, help }) => {
                let message = format!("the list `{}` cannot be used: {why}", path.display());
                self.sources.error(*at, code, message).help(help);
            }
            None if text.bad_lines > 0 => {
                let message = format!(
                    "{} of this list cannot be read and are left out",
                    plural(text.bad_lines, "line")
                );
                self.sources.warning(*at, "list-skipped", message);
                text.say_bad(&file, Severity::Warning, &mut self.sources);
            }
            None => {}
        }
    }

    fn list_bytes(&self, path: &Path) -> Result<Vec<u8>, Fault> {
        let fault = |code, why, help| Fault { code, why, help };
        match self.files.read(path) {
            Ok(bytes) if bytes.len() > LARGEST_LIST => {
                let why = format!("it is larger than {} MiB", LARGEST_LIST >> 20);
                Err(fault("file-too-large", why, "divide it into several"))
            }
            Ok(bytes) => Ok(bytes),
            Err(error) => {
                let help = match error.kind() {
                    io::ErrorKind::NotFound => "relative paths are relative to the file that names them",
                    _ => "a list is a file with one value a line",
                };
                Err(fault("unreadable-file", error.to_string(), help))
            }
        }
    }
}

/// The fault of a list with lines that cannot be read. Where those are left out, one that has no other lines is
/// surely no list.
fn bad_lines<T>(text: &ListText<T>, skip: bool) -> Option<Fault> {
    if text.bad_lines == 0 || (skip && !text.entries.is_empty()) {
        return None;
    }
    let lines = plural(text.bad_lines, "line");
    let (why, help) = if skip {
        ("no line of it can be read".to_owned(), "is it a list at all?")
    } else {
        (format!("{lines} of it cannot be read"), "correct them; `on_error skip;` leaves such lines out")
    };
    Some(Fault { code: "list-lines", why, help })
}

/// The fault of a list that holds every address of a family.
fn everybody(text: &ListText<IpNet>) -> Option<Fault> {
    let (net, line) = text.entries.iter().find(|(net, _)| net.prefix_len() == 0)?;
    let family = if net.addr().is_ipv4() { "IPv4" } else { "IPv6" };
    Some(Fault {
        code: "list-everybody",
        why: format!("it denies everybody: line {line} is {net}, every {family} address"),
        help: "remove the line; or, if everybody is to be shut out, write `list_guard off;`",
    })
}
