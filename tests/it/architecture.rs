//! Imports point one way. Where this fails, fix the design, not the test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up: a room imports from the floors below its own, and from `EVERYWHERE`.
const FLOORS: [&[&str]; 9] = [
    &["policy"],
    &["tls"],
    &["backends", "certs", "tunnel"],
    &["proxy", "status"],
    &["runtime"],
    &["config"],
    &["demo"],
    &["commands"],
    &["main", "cli"],
];

/// Used by all but `policy`, and using none.
const EVERYWHERE: [&str; 2] = ["drain", "telemetry"];

#[test]
fn imports_point_one_way() {
    let mut wrong = BTreeSet::new();
    let mut imports = 0;
    for (room, file, text) in sources() {
        for imported in imported(&text) {
            imports += 1;
            if !may_import(&room, &imported) {
                wrong.insert(format!("{}: `{room}` imports `{imported}`", file.display()));
            }
        }
    }
    assert!(imports > 50, "only {imports} imports found: the parser is wrong");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_room_has_its_floor() {
    let rooms: BTreeSet<String> = sources().map(|(room, ..)| room).collect();
    let placed: Vec<&str> = FLOORS.concat().into_iter().chain(EVERYWHERE).collect();
    let homeless: Vec<&String> =
        rooms.iter().filter(|room| !placed.contains(&room.as_str())).collect();
    assert!(homeless.is_empty(), "{homeless:?}: say in FLOORS where they belong");
}

#[test]
fn the_parser_finds_every_way_to_import() {
    let text = "//! [`crate::runtime`]\n\
                use crate::policy::origin::Rule;\n\
                use crate::{\n    backends::{hash, set},\n    drain::Drain,\n};\n\
                pub(in crate::proxy) fn f() -> crate::tunnel::Side { crate :: never() }\n\
                #[cfg(test)]\nmod tests;\n\
                use crate::certs;\n\
                #[cfg(test)]\nmod more {\n    use crate::config;\n}\n";
    let found: Vec<String> = imported(text).into_iter().collect();
    assert_eq!(found, ["backends", "certs", "drain", "policy", "proxy", "tunnel"]);
    assert!(may_import("proxy", "policy") && !may_import("policy", "proxy"));
    assert!(may_import("certs", "telemetry") && !may_import("telemetry", "certs"));
    assert!(!may_import("policy", "telemetry") && !may_import("proxy", "status"));
    assert!(may_import("cli", "commands") && !may_import("commands", "cli"));
    assert!(!may_import("cli", "config"));
}

fn may_import(room: &str, imported: &str) -> bool {
    let floor = |room| FLOORS.iter().position(|floor| floor.contains(&room));
    if room == imported {
        return true;
    }
    match (floor(room), floor(imported)) {
        // The front door leads to the commands and to nothing behind them.
        (Some(top), _) if top == FLOORS.len() - 1 => imported == "commands",
        (Some(room), Some(imported)) => imported < room,
        (Some(room), None) => room > 0 && EVERYWHERE.contains(&imported),
        (None, _) => false,
    }
}

/// The rooms that a source file names by `crate::`, test modules and comments left out.
fn imported(text: &str) -> BTreeSet<String> {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" {
            match lines.peek() {
                // A module in a file of its own; one in this file is its end.
                Some(next) if next.ends_with(';') => drop(lines.next()),
                _ => break,
            }
        } else if !line.trim_start().starts_with("//") {
            code.push_str(line);
            code.push('\n');
        }
    }
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let path = &code[at + "crate::".len()..];
        match path.strip_prefix('{') {
            Some(list) => rooms.extend(first_names(list)),
            None => rooms.extend(name(path)),
        }
    }
    rooms
}

/// The first name of each path in `{a::b, c::{d, e}}`, its opening brace taken already.
fn first_names(list: &str) -> Vec<String> {
    let (mut depth, mut names, mut due) = (1, Vec::new(), true);
    for (at, char) in list.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' => due = depth == 1,
            _ if due && !char.is_whitespace() => {
                names.extend(name(&list[at..]));
                due = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn name(path: &str) -> Option<String> {
    let name: String =
        path.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// Each source file with its room, `lib.rs` and files of tests left out.
fn sources() -> impl Iterator<Item = (String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &mut found);
    found.into_iter().filter_map(move |file| {
        let below = file.strip_prefix(&root).unwrap();
        let room = below.components().next().unwrap().as_os_str().to_str().unwrap();
        let room = room.trim_end_matches(".rs").to_owned();
        let of_tests = ["tests.rs", "testing.rs"].iter().any(|name| below.ends_with(name));
        (room != "lib" && !of_tests).then(|| {
            let text = fs::read_to_string(&file).unwrap();
            (room, below.to_owned(), text)
        })
    })
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}
