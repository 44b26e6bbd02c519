//! A text and its tree, kept so that a later check can say where a value was written.

use super::de;
use super::error::{ConfigError, Place, Spot};
use super::file::File;
use super::findings::Findings;
use super::interpolate::Env;
use super::yaml::{self, Mark, Node, Problem, Value};

/// Where a [`File`] was written: in a file, or nowhere, and the flags laid over it.
#[derive(Debug, Default)]
pub struct Source {
    text: Option<Text>,
    root: Option<Node>,
    findings: Findings,
    overridden: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Text {
    file: String,
    text: String,
}

impl Source {
    /// Reads `text`. What is wrong is kept, and what could not be read has its default.
    pub(super) fn read(file: &str, text: &str, env: Env<'_>) -> (File, Self) {
        let tree = yaml::parse(text, env);
        let mut findings = Findings::new(tree.problems, tree.broken);
        let read = |root| de::read(root, &mut findings);
        let value = tree.root.as_ref().map(read).unwrap_or_default();
        let text = Text { file: file.to_owned(), text: text.to_owned() };
        (value, Self { text: Some(text), root: tree.root, findings, overridden: Vec::new() })
    }

    /// No file: what is wrong is named by its key.
    #[must_use]
    pub fn nowhere() -> Self {
        Self::default()
    }

    /// What reading found wrong, in the order of the text.
    pub(super) fn problems(&self) -> impl Iterator<Item = ConfigError> {
        self.findings.problems().map(|problem| self.place("", problem))
    }

    /// From now on what is wrong with the value of `path` is the fault of `setting`, a flag or a
    /// variable that has taken its place.
    pub fn overridden(&mut self, path: &'static str, setting: String) {
        self.overridden.push((path, setting));
    }

    /// The flag or variable that has taken the place of `path`.
    fn setting(&self, path: &str) -> Option<&str> {
        let within = |over: &str| {
            let rest = path.strip_prefix(over);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let over = self.overridden.iter().find(|(over, _)| within(over));
        over.map(|(_, setting)| setting.as_str())
    }

    /// Whether a flag or variable has taken the place of `path`.
    pub(super) fn is_overridden(&self, path: &str) -> bool {
        self.setting(path).is_some()
    }

    /// An error at the value of `path`, such as `upstreams.servers` or `tls.certificates.0.key`;
    /// where that was not written, at the nearest section around it that was. At the flag that has
    /// taken its place, where one has.
    #[must_use]
    pub fn error(&self, path: &str, message: impl Into<String>) -> ConfigError {
        if let Some(setting) = self.setting(path) {
            return ConfigError::setting(setting, message);
        }
        let mark = self.walk(path).mark;
        self.place(path, &Problem { mark, message: message.into(), help: None })
    }

    /// Whether the file gives a value for `path`.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.walk(path).node.is_some()
    }

    /// Whether the value of `path` is what was meant: a flag's, or read whole. A check of a value that could not be
    /// read would judge the default that stands in for it.
    pub(super) fn is_sound(&self, path: &str) -> bool {
        self.is_overridden(path) || self.walk(path).sound
    }

    /// Whether nothing is missing from the list at `path`, because all of it could be read.
    pub(super) fn is_whole(&self, path: &str) -> bool {
        if self.is_overridden(path) {
            return true;
        }
        let walk = self.walk(path);
        let elements = match walk.node.map(|node| &node.value) {
            Some(Value::Sequence(nodes)) => nodes.as_slice(),
            _ => &[],
        };
        walk.sound && !elements.iter().any(|node| self.findings.is_broken(node))
    }

    fn walk(&self, path: &str) -> Walk<'_> {
        // A text without a root is an empty one, or one that is no YAML.
        let sound = self.findings.problems().next().is_none();
        let mut walk = Walk { mark: Mark::START, node: None, sound };
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

    fn place(&self, path: &str, problem: &Problem) -> ConfigError {
        let place = match &self.text {
            None => Place::Setting(path.to_owned()),
            Some(Text { file, text }) => {
                let Mark { line, col, width } = problem.mark;
                let text = text.strip_prefix('\u{feff}').unwrap_or(text);
                let snippet = text.lines().nth(line - 1).unwrap_or_default().to_owned();
                Place::File(Spot { file: file.clone(), line, col, width, snippet })
            }
        };
        let error = ConfigError::new(place, problem.message.clone());
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
