//! The rooms of the controller stand on floors, and nobody climbs: what a room uses lies below it. Files of one room
//! use each other in one direction only.

#![allow(clippy::unwrap_used, reason = "a source file that cannot be read has to fail the test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// From the ground up; rooms of one floor do not know each other. ARCHITECTURE.md says what each is for.
const FLOORS: [&[&str]; 15] = [
    &["address", "manifest"],
    &["model"],
    &["bans", "country", "limits"],
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

/// The first words of every path that begins with `root::`, braces included.
fn first_words(code: &str, root: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for (at, _) in code.match_indices(root) {
        let own = code[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':');
        if !own {
            continue;
        }
        let rest = &code[at + root.len()..];
        if let Some(list) = rest.strip_prefix('{') {
            // Names at the outer level of the braces.
            let mut depth = 0;
            let mut word = String::new();
            let mut fresh = true;
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        words.insert(std::mem::take(&mut word));
                        fresh = true;
                    }
                    ':' if depth == 0 => fresh = false,
                    c if depth == 0 && fresh && (c.is_alphanumeric() || c == '_') => word.push(c),
                    _ => {}
                }
            }
            words.insert(word);
        } else {
            words.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    words.remove("");
    words
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
        for used in first_words(&code(path), "crate::") {
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

#[test]
fn files_of_a_room_do_not_use_each_other_in_circles() {
    let root = sources();
    let mut all = Vec::new();
    files(&root, &mut all);
    let mut uses: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for path in &all {
        let folder = path.parent().unwrap();
        let code = code(path);
        let is_mod = path.file_name().is_some_and(|name| name == "mod.rs");
        // A `mod.rs` names its files; that is no use.
        if is_mod {
            continue;
        }
        let mut used = BTreeSet::new();
        for word in first_words(&code, "super::") {
            for target in [folder.join(format!("{word}.rs")), folder.join(&word).join("mod.rs")] {
                if target.is_file() && target != *path {
                    used.insert(target);
                }
            }
        }
        uses.insert(path.clone(), used);
    }
    // What uses nothing that is left is taken away, until nothing is or only circles are.
    loop {
        let done: Vec<PathBuf> = uses
            .iter()
            .filter(|(_, used)| used.iter().all(|used| !uses.contains_key(used)))
            .map(|(path, _)| path.clone())
            .collect();
        if done.is_empty() {
            break;
        }
        for path in done {
            uses.remove(&path);
        }
    }
    let left: Vec<String> = uses
        .iter()
        .map(|(path, used)| {
            let shown = |path: &Path| path.strip_prefix(&root).unwrap().display().to_string();
            let used: Vec<String> =
                used.iter().filter(|used| uses.contains_key(*used)).map(|used| shown(used)).collect();
            format!("{} uses {}", shown(path), used.join(", "))
        })
        .collect();
    assert!(left.is_empty(), "circles among:\n{}", left.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut all = Vec::new();
    files(&sources(), &mut all);
    let silent: Vec<String> = all
        .iter()
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//!"))
        .map(|path| path.display().to_string())
        .collect();
    assert!(silent.is_empty(), "without a first line of documentation:\n{}", silent.join("\n"));
}
