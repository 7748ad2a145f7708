//! The rooms of the controller stand on floors, and nobody climbs: what a room uses lies below it. Files, of any crate,
//! use each other in one direction only.

#![allow(clippy::unwrap_used, reason = "a source file that cannot be read has to fail the test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    iter::Peekable,
    path::{Path, PathBuf},
    str::Chars,
};

/// From the ground up; rooms of one floor do not know each other. ARCHITECTURE.md says what each is for.
const FLOORS: [&[&str]; 15] = [
    &["address", "manifest"],
    &["model"],
    &["bans", "country", "limits", "tls"],
    &["judge", "offload"],
    &["explain", "config", "table"],
    &["load"],
    &["kernel"],
    &["state"],
    &["backend", "http"],
    &["session"],
    &["watch", "gate"],
    &["operations"],
    &["control"],
    &["daemon"],
    &["cli"],
];

fn sources() -> PathBuf {
    kit::workspace().join("filter-user/src")
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// A file without its tests, which may use whatever they like, and without comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let text = text.split("#[cfg(test)]\npub(").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Every path that begins with `root::`, braces taken apart: `crate::{a::B, c}` is `[a, B]` and `[c]`.
fn paths(code: &str, root: &str) -> Vec<Vec<String>> {
    let root = format!("{root}::");
    let begins = |at: &usize| {
        let before = code[..*at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
    };
    let places = code.match_indices(&root).map(|(at, _)| at).filter(begins);
    places.flat_map(|at| tree(&mut code[at + root.len()..].chars().peekable())).collect()
}

/// Reads one tree of a `use`, up to what follows it.
fn tree(text: &mut Peekable<Chars<'_>>) -> Vec<Vec<String>> {
    let mut before = Vec::new();
    loop {
        while text.next_if(|c| c.is_whitespace()).is_some() {}
        if text.next_if_eq(&'{').is_some() {
            let mut found = Vec::new();
            while text.peek().is_some_and(|c| *c != '}') {
                found.extend(tree(text).into_iter().map(|path| [&before[..], &path].concat()));
                // `as NAME`, and the comma.
                while text.next_if(|c| !matches!(c, ',' | '}')).is_some() {}
                text.next_if_eq(&',');
                while text.next_if(|c| c.is_whitespace()).is_some() {}
            }
            text.next();
            return found;
        }
        let mut word = String::new();
        while let Some(c) = text.next_if(|c| c.is_alphanumeric() || *c == '_') {
            word.push(c);
        }
        if word.is_empty() {
            return vec![before];
        }
        before.push(word);
        if text.next_if_eq(&':').is_none() {
            return vec![before];
        }
        text.next();
    }
}

#[test]
fn paths_are_found_in_braces_and_out_of_them() {
    let code = "use crate::{a::{B, c::D as E}, f}; crate::g::h(); not_crate::i; super::crate::j;";
    let found: Vec<String> = paths(code, "crate").iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["a::B", "a::c::D", "f", "g::h"]);
}

#[test]
fn no_room_uses_one_on_its_own_floor_or_above() {
    let floor: BTreeMap<&str, usize> = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(floor, rooms)| rooms.iter().map(move |room| (*room, floor)))
        .collect();
    let root = sources();
    let mut all = Vec::new();
    files(&root, &mut all);
    let mut climbs = Vec::new();
    let mut seen = BTreeSet::new();
    for path in &all {
        let inside = path.strip_prefix(&root).unwrap();
        let room = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        if matches!(room, "lib" | "main") {
            continue;
        }
        let own = *floor.get(room).unwrap_or_else(|| panic!("the room `{room}` stands on no floor"));
        seen.insert(room.to_owned());
        let used: BTreeSet<String> =
            paths(&code(path), "crate").into_iter().filter_map(|path| path.into_iter().next()).collect();
        for used in used {
            let Some(theirs) = floor.get(&*used) else {
                climbs.push(format!("{}: `crate::{used}` is no room", inside.display()));
                continue;
            };
            if used != room && *theirs >= own {
                climbs.push(format!(
                    "{}: `{room}` (floor {own}) uses `{used}` (floor {theirs})",
                    inside.display()
                ));
            }
        }
    }
    assert!(climbs.is_empty(), "{}", climbs.join("\n"));
    let known: BTreeSet<String> = floor.keys().map(|room| (*room).to_owned()).collect();
    assert_eq!(seen, known, "a floor names a room that is not there");
}

/// The file that a path leads to from a folder, if it is one with code: a `mod.rs` names its files, which is no use.
fn file_of(folder: &Path, path: &[String]) -> Option<PathBuf> {
    let (mut folder, mut found) = (folder.to_owned(), None);
    for word in path {
        let file = folder.join(format!("{word}.rs"));
        if file.is_file() {
            found = Some(file);
        } else if folder.join(word).join("mod.rs").is_file() {
            found = None;
        } else {
            break;
        }
        folder.push(word);
    }
    found
}

/// The files that a file uses, of those below `root`.
fn used_by(path: &Path, root: &Path) -> BTreeSet<PathBuf> {
    let code = code(path);
    let siblings = path.parent().unwrap();
    let mut used: BTreeSet<PathBuf> =
        paths(&code, "crate").iter().filter_map(|path| file_of(root, path)).collect();
    for words in paths(&code, "super") {
        let climbed = words.iter().take_while(|word| *word == "super").count();
        let folder = siblings.ancestors().nth(climbed).unwrap();
        // What is no file of the folder is an item of the folder's own file, `report.rs` beside `report/`.
        let own = folder.with_extension("rs");
        used.extend(file_of(folder, &words[climbed..]).or_else(|| own.is_file().then_some(own)));
    }
    used.remove(path);
    used
}

/// Every crate's sources: those of a binary of several files are a folder of their own.
fn crates() -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> =
        ["filter-user", "filter-ebpf", "xtask", "tests/kit", "tests/demo", "tests/benchmarks", "tests/suite"]
            .map(|name| kit::workspace().join(name).join("src"))
            .into();
    for bins in ["tests/benchmarks/src/bin", "tests/suite/src/bin", "tests/suite/tests"] {
        let entries = fs::read_dir(kit::workspace().join(bins)).unwrap().map(|entry| entry.unwrap().path());
        roots.extend(entries.filter(|path| path.is_dir()));
    }
    roots
}

#[test]
fn files_do_not_use_each_other_in_circles() {
    let mut left = Vec::new();
    for root in crates() {
        let mut all = Vec::new();
        files(&root, &mut all);
        let names_files = |path: &&PathBuf| {
            ["mod.rs", "lib.rs", "main.rs"].iter().any(|name| path.file_name().unwrap() == *name)
        };
        let code = all.iter().filter(|path| !names_files(path));
        let mut uses: BTreeMap<PathBuf, BTreeSet<PathBuf>> =
            code.map(|path| (path.clone(), used_by(path, &root))).collect();
        // What uses nothing that is left is taken away, until nothing is or only circles are.
        loop {
            let before = uses.len();
            let remaining: BTreeSet<PathBuf> = uses.keys().cloned().collect();
            uses.retain(|_, used| !used.is_disjoint(&remaining));
            if uses.len() == before {
                break;
            }
        }
        for (path, used) in &uses {
            let shown = |path: &Path| path.strip_prefix(kit::workspace()).unwrap().display().to_string();
            let used: Vec<String> =
                used.iter().filter(|used| uses.contains_key(*used)).map(|used| shown(used)).collect();
            left.push(format!("{} uses {}", shown(path), used.join(", ")));
        }
    }
    assert!(left.is_empty(), "circles among:\n{}", left.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut all = Vec::new();
    crates().iter().for_each(|root| files(root, &mut all));
    let silent: Vec<String> = all
        .iter()
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//!"))
        .map(|path| path.display().to_string())
        .collect();
    assert!(silent.is_empty(), "without a first line of documentation:\n{}", silent.join("\n"));
}
