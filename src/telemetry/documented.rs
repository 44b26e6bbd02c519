//! Keeps `docs/observability.md` in step with the metric families and the events in the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::metrics::{Family, Metrics};

const DOCS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/observability.md"));

/// The rows of the metrics tables: `` | `name` | type | `label`, `label` | … ``.
fn documented_families() -> Vec<Family> {
    let names = |cell: &str| -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    DOCS.lines()
        .filter(|line| line.starts_with("| `wsgate_") || line.starts_with("| `process_"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, name, kind, labels, ..] = cells[..] else { panic!("a short row: {line}") };
            let name = name.trim_matches('`').to_owned();
            Family { name, kind: kind.to_owned(), labels: names(labels) }
        })
        .collect()
}

#[test]
fn every_metric_family_is_documented_with_its_type_and_labels() {
    let sorted = |mut families: Vec<Family>| {
        families.sort_by(|a, b| a.name.cmp(&b.name));
        families.iter().map(|family| format!("{family:?}")).collect::<Vec<_>>()
    };
    let registered = sorted(Metrics::new().families().to_vec());
    let documented = sorted(documented_families());
    let missing: Vec<_> = registered.iter().filter(|one| !documented.contains(one)).collect();
    let stale: Vec<_> = documented.iter().filter(|one| !registered.contains(one)).collect();
    assert!(missing.is_empty() && stale.is_empty(), "missing {missing:#?}\nstale {stale:#?}");
    assert_eq!(registered.len(), documented.len(), "a family is documented twice");
}

#[test]
fn queries_in_the_docs_use_families_that_exist() {
    let known: BTreeSet<String> =
        Metrics::new().families().iter().map(|family| family.name.clone()).collect();
    let used = DOCS
        .split(|ch: char| !ch.is_ascii_alphanumeric() && ch != '_')
        .filter(|word| word.starts_with("wsgate_"));
    for word in used {
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
        let exists = known.contains(word) || stem.is_some_and(|stem| known.contains(stem));
        assert!(exists, "docs/observability.md names {word}, which is no metric");
    }
}

#[test]
fn what_is_rendered_is_a_registered_family() {
    let metrics = Metrics::new();
    let text = String::from_utf8(metrics.render()).unwrap();
    let mut rendered = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let known = metrics.families().iter().any(|one| one.name == name && one.kind == kind);
        assert!(known, "{line}");
        rendered += 1;
    }
    assert!(rendered > 10, "{text}");
}

/// Event names in the sources, tests left out: `event = "…"`.
fn events_in(folder: &Path, found: &mut BTreeSet<(String, PathBuf)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            events_in(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let code = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                // Split, so that this line is not an event of its own.
                for rest in line.split(concat!("event", " = \"")).skip(1) {
                    let name = rest.split('"').next().unwrap_or_default();
                    found.insert((name.to_owned(), path.clone()));
                }
            }
        }
    }
}

#[test]
fn every_log_event_is_documented() {
    let mut found = BTreeSet::new();
    events_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    for (name, path) in found {
        let example = format!("\"event\":\"{name}\"");
        let heading = format!("`{name}`");
        let documented = DOCS.contains(&example) && DOCS.contains(&heading);
        assert!(documented, "docs/observability.md lacks {name}, logged in {}", path.display());
    }
}

#[test]
fn example_lines_are_what_the_log_writes() {
    let examples: Vec<&str> = DOCS.lines().filter(|line| line.starts_with("{\"ts\"")).collect();
    assert!(!examples.is_empty());
    for line in examples {
        let read: serde_json::Value = serde_json::from_str(line).unwrap();
        let keys: Vec<&str> = read.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys[..4], ["ts", "level", "event", "msg"], "{line}");
        assert!(read["ts"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{line}");
    }
}
