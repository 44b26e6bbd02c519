//! A text and its tree, kept so that a later check can say where a value was written.

use super::de;
use super::error::{ConfigError, Place, Spot};
use super::file::File;
use super::findings::Findings;
use super::interpolate::Env;
use super::yaml::{self, Mark, Node, Problem, Value};

/// The file that a [`File`] was read from.
#[derive(Debug)]
pub struct Source {
    file: String,
    text: String,
    root: Option<Node>,
    findings: Findings,
    overridden: Vec<(&'static str, &'static str)>,
}

impl Source {
    /// Reads `text`. What is wrong is kept, and what could not be read has its default.
    pub(super) fn read(file: &str, text: &str, env: Env<'_>) -> (File, Self) {
        let tree = yaml::parse(text, env);
        let mut findings = Findings::new(tree.problems, tree.broken);
        let read = |root| de::read(root, &mut findings);
        let value = tree.root.as_ref().map(read).unwrap_or_default();
        let (file, text) = (file.to_owned(), text.to_owned());
        (value, Self { file, text, root: tree.root, findings, overridden: Vec::new() })
    }

    /// What reading found wrong, in the order of the text.
    pub(super) fn problems(&self) -> impl Iterator<Item = ConfigError> {
        self.findings.problems().map(|problem| self.place(problem))
    }

    /// From now on what is wrong with the value of `path` is the fault of `setting`, a flag that has
    /// taken its place.
    pub fn overridden(&mut self, path: &'static str, setting: &'static str) {
        self.overridden.push((path, setting));
    }

    /// An error at the value of `path`, such as `upstreams.servers` or `tls.certificates.0.key`;
    /// where that was not written, at the nearest section around it that was. At the flag that has
    /// taken its place, where one has.
    #[must_use]
    pub fn error(&self, path: &str, message: impl Into<String>) -> ConfigError {
        let below = |(over, _): &&(&str, _)| path.starts_with(over);
        if let Some((_, setting)) = self.overridden.iter().find(below) {
            return ConfigError::setting(*setting, message);
        }
        let mark = self.walk(path).mark;
        self.place(&Problem { mark, message: message.into(), help: None })
    }

    /// Whether the file gives a value for `path`.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.walk(path).node.is_some()
    }

    /// Whether `path` was written and could be read whole. A check of a value that could not be
    /// read would judge the default that stands in for it.
    pub(super) fn is_sound(&self, path: &str) -> bool {
        self.walk(path).sound
    }

    /// Whether nothing is missing from the list at `path`, because all of it could be read.
    pub(super) fn is_whole(&self, path: &str) -> bool {
        let walk = self.walk(path);
        let elements = match walk.node.map(|node| &node.value) {
            Some(Value::Sequence(nodes)) => nodes.as_slice(),
            _ => &[],
        };
        walk.sound && !elements.iter().any(|node| self.findings.is_broken(node))
    }

    fn walk(&self, path: &str) -> Walk<'_> {
        let mut walk = Walk { mark: Mark::START, node: None, sound: true };
        let Some(mut node) = self.root.as_ref() else { return walk };
        walk.sound = !self.findings.is_broken(node);
        for name in path.split('.') {
            walk.sound &= !self.findings.is_misspelt(node, name);
            let step = match &node.value {
                Value::Mapping(entries) => {
                    let entry = entries.iter().find(|entry| entry.key == name);
                    entry.map(|entry| (&entry.value, entry.mark))
                }
                // Elements that could not be read are not in the value that was.
                Value::Sequence(nodes) => name.parse().ok().and_then(|index| {
                    let mut sound = nodes.iter().filter(|node| !self.findings.is_broken(node));
                    sound.nth(index).map(|node| (node, node.mark))
                }),
                Value::Scalar { .. } => None,
            };
            let Some((next, mark)) = step else { return walk };
            node = next;
            walk.sound &= !self.findings.is_broken(node);
            walk.mark = mark;
        }
        if !matches!(node.value, Value::Mapping(_)) {
            walk.mark = node.mark;
        }
        walk.node = Some(node);
        walk
    }

    fn place(&self, problem: &Problem) -> ConfigError {
        let Mark { line, col, width } = problem.mark;
        let text = self.text.strip_prefix('\u{feff}').unwrap_or(&self.text);
        let snippet = text.lines().nth(line - 1).unwrap_or_default().to_owned();
        let spot = Spot { file: self.file.clone(), line, col, width, snippet };
        let error = ConfigError::new(Place::File(spot), problem.message.clone());
        ConfigError { help: problem.help.clone(), ..error }
    }
}

struct Walk<'a> {
    /// Of the value, or of what is nearest around it.
    mark: Mark,
    /// `None` if the path was not written.
    node: Option<&'a Node>,
    sound: bool,
}
