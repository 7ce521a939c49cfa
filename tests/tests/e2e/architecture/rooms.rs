//! Rooms know each other in one direction. A room is a folder, or a file at the root of a crate; what knows what is read from
//! the `crate::`, `super::` and `self::` paths of production code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use signet_tests::failure::{Outcome, ensure};

use super::sources;

/// The source folders of our crates.
const CRATES: [&str; 6] = ["ca/src", "core/src", "plugins/src", "runtime/src", "sds/src", "sds/agent/src"];

#[test]
fn rooms_know_each_other_in_one_direction() -> Outcome {
    let all = sources();
    let found: Vec<(String, String)> = CRATES.iter().flat_map(|root| circles(root, &all)).collect();
    ensure(found.is_empty(), || format!("rooms that know each other in a circle: {found:?}"))
}

type Module = Vec<String>;

/// For each module with children: which child knows which.
type Knows = BTreeMap<Module, BTreeMap<String, BTreeSet<String>>>;

/// The circles of a crate: the folder, and the names of the rooms in it.
fn circles(root: &str, all: &[(PathBuf, String)]) -> Vec<(String, String)> {
    let files: Vec<(PathBuf, &str)> = all
        .iter()
        .filter_map(|(path, text)| Some((path.strip_prefix(root).ok()?.to_path_buf(), text.as_str())))
        .filter(|(path, _)| !is_of_tests(path))
        .collect();
    let modules: BTreeSet<Module> = files.iter().map(|(path, _)| module(path)).collect();
    let mut knows = Knows::new();
    for (path, text) in &files {
        let from = module(path);
        for named in paths(&production(text), &from) {
            let to = longest_module(&named, &modules);
            let common = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
            if let (Some(one), Some(other)) = (from.get(common), to.get(common)) {
                let siblings = knows.entry(from[..common].to_vec()).or_default();
                siblings.entry(one.clone()).or_default().insert(other.clone());
            }
        }
    }
    let mut found = Vec::new();
    for (parent, graph) in &knows {
        let is_room = |name: &str| {
            let inside = |module: &&Module| module.len() > parent.len() + 1 && module.starts_with(parent);
            parent.is_empty() || modules.iter().filter(inside).any(|module| module[parent.len()] == name)
        };
        for circle in components(graph).into_iter().filter(|circle| circle.iter().any(|name| is_room(name))) {
            let place = [&[root.to_owned()], parent.as_slice()].concat().join("/");
            found.push((place, circle.into_iter().collect::<Vec<_>>().join(" ")));
        }
    }
    found
}

/// Test code, by the names that it has throughout.
fn is_of_tests(path: &Path) -> bool {
    path.iter().any(|part| {
        let name = part.to_string_lossy();
        let name = name.trim_end_matches(".rs");
        name == "tests" || name.starts_with("test_") || name.ends_with("_tests")
    })
}

/// The module that a file is; the root of the crate has no name.
fn module(path: &Path) -> Module {
    let mut names: Module = path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(names.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        names.pop();
    }
    names
}

fn longest_module(named: &[String], modules: &BTreeSet<Module>) -> Module {
    let lengths = (0..=named.len()).rev();
    lengths.map(|length| named[..length].to_vec()).find(|module| modules.contains(module)).unwrap_or_default()
}

/// The members of each circle.
fn components(graph: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<BTreeSet<String>> {
    let reached = |from: &str| {
        let (mut seen, mut left) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(next) = left.pop() {
            left.extend(graph.get(&next).into_iter().flatten().filter(|name| seen.insert((*name).clone())).cloned());
        }
        seen
    };
    let reach: BTreeMap<&String, BTreeSet<String>> = graph.keys().map(|name| (name, reached(name))).collect();
    let circle = |name: &String| {
        let both = |other: &&String| reach.get(other).is_some_and(|back| back.contains(name));
        reach[name].iter().filter(both).cloned().collect::<BTreeSet<_>>()
    };
    graph.keys().map(circle).filter(|circle| !circle.is_empty()).collect()
}

/// The text without comments, literals, and whatever is compiled for tests only.
fn production(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let raw = rest.strip_prefix('r').map(|after| after.trim_start_matches('#')).filter(|it| it.starts_with('"'));
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let (Some(after), false) = (raw, code.ends_with(|c: char| c.is_alphanumeric() || c == '_')) {
            let hashes = rest.len() - after.len() - 1;
            let end = format!("\"{}", "#".repeat(hashes));
            after[1..].find(&end).map_or(rest.len(), |length| hashes + 2 + length + end.len())
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' && (rest[1..].starts_with('\\') || rest[1..].chars().nth(1) == Some('\'')) {
            quoted(rest, '\'')
        } else {
            code.push(first);
            first.len_utf8()
        };
        rest = &rest[skipped..];
    }
    while let Some(start) = code.find("#[cfg(test)]") {
        code.replace_range(start..start + item_length(&code[start..]), "");
    }
    code
}

/// The length of a literal with its quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(index, c)| index + c.len_utf8())
}

/// The length of an item with its attributes: up to its semicolon, or to the brace that closes it.
fn item_length(text: &str) -> usize {
    let mut depth = 0_usize;
    let end = text.char_indices().find(|(_, c)| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && matches!(c, ';' | '}')
    });
    end.map_or(text.len(), |(index, _)| index + 1)
}

/// What a module names of its own crate, from the root.
fn paths(code: &str, from: &Module) -> Vec<Module> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("::") {
        let word = |text: &str| text.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |index| index + 1);
        let first = word(&code[..start]);
        // In the middle of a path the beginning has said it.
        if code[..first].ends_with("::") {
            continue;
        }
        let base = match &code[first..start] {
            "crate" => Vec::new(),
            "self" => from.clone(),
            "super" => from[..from.len().saturating_sub(1)].to_vec(),
            _ => continue,
        };
        follow(&code[start + 2..], base, &mut found);
    }
    found
}

/// Follows one path from `base` on, into all branches of its braces; returns what comes after it.
fn follow<'a>(text: &'a str, mut base: Module, found: &mut Vec<Module>) -> &'a str {
    let mut rest = text.trim_start();
    loop {
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            loop {
                rest = follow(rest, base.clone(), found).trim_start();
                match rest.chars().next() {
                    Some(',') => rest = rest[1..].trim_start(),
                    Some('}') => return &rest[1..],
                    _ => return rest,
                }
            }
        }
        let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        match &rest[..length] {
            "" => return rest,
            "super" => drop(base.pop()),
            "self" => {}
            name => base.push(name.to_owned()),
        }
        rest = &rest[length..];
        match rest.strip_prefix("::") {
            Some(more) => rest = more,
            None => {
                found.push(base);
                let renamed = rest.trim_start().strip_prefix("as ");
                return renamed.map_or(rest, |name| name.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'));
            }
        }
    }
}

#[test]
fn a_circle_is_found_through_groups_and_not_through_tests_or_text() {
    let file = |path: &str, text: &str| (PathBuf::from("x/src").join(path), text.to_owned());
    let lib = "pub mod a; pub mod b; pub mod c;";
    for (why, a, b, found) in [
        ("by groups", "use crate::{c::C, b::{One, Two}};", "pub fn f(_: super::a::A) {}", true),
        ("one direction", "use crate::b::One;", "// crate::a::A\nconst TEXT: &str = \"crate::a\";", false),
        ("for tests only", "use crate::b::One;", "#[cfg(test)]\nmod tests { use crate::a::A; }", false),
    ] {
        let files = [file("lib.rs", lib), file("a.rs", a), file("b/mod.rs", b), file("c_tests.rs", "use crate::a::A;")];
        let expected = if found { vec![("x/src".to_owned(), "a b".to_owned())] } else { Vec::new() };
        assert_eq!(circles("x/src", &files), expected, "{why}");
    }
}

#[test]
fn in_a_folder_files_may_know_each_other_and_folders_may_not() {
    let file = |path: &str, text: &str| (PathBuf::from("x/src").join(path), text.to_owned());
    let (there, back) = ("use super::b::B as Other;", "use crate::room::a::{self, A};");
    let files = [file("room/a.rs", there), file("room/b.rs", back)];
    assert_eq!(circles("x/src", &files), []);
    let files = [file("room/a.rs", there), file("room/b/mod.rs", back), file("room/b/c.rs", "")];
    assert_eq!(circles("x/src", &files), [("x/src/room".to_owned(), "a b".to_owned())]);
}
