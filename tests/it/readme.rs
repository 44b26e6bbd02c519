//! README.md names flags, variables, keys and files that exist, and defaults that hold.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../../README.md");

/// What `wsgate` prints on standard output, with nothing from the environment or a file.
fn wsgate(arguments: &[&str]) -> String {
    let elsewhere = tempfile::TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsgate"));
    let ended = command.args(arguments).current_dir(elsewhere.path()).env_clear().output().unwrap();
    assert!(ended.status.success(), "wsgate {arguments:?}: {ended:?}");
    String::from_utf8(ended.stdout).unwrap()
}

/// Every key in force by default, with its value; a section has an empty one.
fn defaults() -> BTreeMap<String, String> {
    let mut sections: Vec<&str> = Vec::new();
    let shown = wsgate(&["config", "show"]);
    let keys = shown.lines().map(|line| {
        let (key, value) = line.trim_start().split_once(':').unwrap();
        sections.truncate((line.len() - line.trim_start().len()) / 2);
        let path = sections.iter().chain([&key]).copied().collect::<Vec<_>>().join(".");
        sections.push(&line.trim_start()[..key.len()]);
        (path, value.trim().to_owned())
    });
    keys.collect()
}

/// What stands between backticks.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The words of `text` that look like flags.
fn flags(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| c.is_whitespace() || "`[]()|,.;:".contains(c));
    words.filter(|word| word.starts_with("--") && word.len() > 2)
}

fn settings() -> Vec<[&'static str; 5]> {
    let (_, after) = README.split_once("\n## Settings\n").unwrap();
    let (section, _) = after.split_once("\n## ").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let cells = |row: &'static str| row.trim_matches('|').split('|').map(str::trim);
    rows.map(|row| cells(row).collect::<Vec<_>>().try_into().unwrap()).collect()
}

#[test]
fn settings_exist_and_have_these_defaults() {
    let (help, defaults) = (wsgate(&["run", "--help"]), defaults());
    let mut checked = 0;
    for [what, flag, variable, key, default] in settings() {
        for flag in code(flag) {
            assert!(flags(&help).any(|known| known == flag), "{what}: {flag}");
        }
        for variable in code(variable) {
            assert!(help.contains(&format!("{variable}=")), "{what}: {variable}");
        }
        let keys: Vec<&str> = code(key).collect();
        for key in &keys {
            assert!(defaults.contains_key(*key), "{what}: no key {key}");
        }
        // Where the default is in words, or of several keys, it is a person's to check.
        let written = default.strip_prefix('`').and_then(|rest| rest.split_once('`'));
        if let (&[key], Some((written, _))) = (&keys[..], written) {
            let stands_for_null = key == "listen.https" && defaults[key] == "null";
            assert!(stands_for_null || defaults[key] == written, "{what}: {}", defaults[key]);
            checked += 1;
        }
    }
    assert!(checked > 5, "{checked} defaults were compared");
}

#[test]
fn commands_have_the_flags_that_are_shown() {
    let commands =
        [&["--help"][..], &["demo", "--help"], &["cert", "dev", "--help"], &["drain", "--help"]];
    let known: String = commands.into_iter().map(wsgate).collect();
    let whole_lines = README.replace("\\\n", " ");
    let mut seen = 0;
    for line in whole_lines.lines() {
        // Behind the program's name, or behind what Cargo passes on; the table is tested above.
        let starts = ["wsgate ", "-- demo"].iter().filter_map(|start| line.find(start)).min();
        let Some(start) = starts.filter(|_| !line.starts_with('|')) else { continue };
        for flag in flags(&line[start..]) {
            assert!(flags(&known).any(|one| one == flag), "{flag} in: {line}");
            seen += 1;
        }
    }
    assert!(seen > 5, "found {seen}");
}

#[test]
fn links_lead_to_files() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let links = README.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for link in links.filter(|link| !link.starts_with('#') && !link.contains("://")) {
        assert!(fs::exists(top.join(link)).unwrap(), "{link}");
    }
}
