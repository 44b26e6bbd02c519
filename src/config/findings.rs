//! What reading a tree has found wrong: the one fault that stops serde, and all of them together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{self, Unexpected};

use super::yaml::{Mark, Node, NodeId, Problem};

/// What is known to be wrong with a tree.
#[derive(Debug, Default)]
pub(super) struct Findings {
    problems: BTreeMap<(Mark, String), Problem>,
    broken: BTreeSet<NodeId>,
    /// Fields that an unknown one probably means: the mapping, and the field.
    misspelt: BTreeSet<(NodeId, &'static str)>,
}

impl Findings {
    /// Begins with the nodes that are broken already.
    pub(super) fn new(problems: Vec<Problem>, broken: BTreeSet<NodeId>) -> Self {
        let problems = problems.into_iter().map(|p| ((p.mark, p.message.clone()), p)).collect();
        Self { problems, broken, misspelt: BTreeSet::new() }
    }

    /// Whether the value of this very node is unknown.
    pub(super) fn is_broken(&self, node: &Node) -> bool {
        self.broken.contains(&node.id)
    }

    /// Whether `field` of `mapping` may have been meant by a field with another spelling.
    pub(super) fn is_misspelt(&self, mapping: &Node, field: &str) -> bool {
        self.misspelt.iter().any(|(id, known)| *id == mapping.id && *known == field)
    }

    /// All problems, by place.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.values()
    }

    /// Whether something is known to be wrong at this place.
    pub(super) fn knows(&self, mark: Mark) -> bool {
        self.problems.range((mark, String::new())..).next().is_some_and(|((at, _), _)| *at == mark)
    }

    pub(super) fn note(&mut self, problem: Problem) {
        self.problems.insert((problem.mark, problem.message.clone()), problem);
    }

    /// Marks a node broken; false if it is already.
    pub(super) fn breaks(&mut self, id: NodeId) -> bool {
        self.broken.insert(id)
    }

    /// Remembers which field was probably meant by an unknown one.
    pub(super) fn misspells(&mut self, mapping: &Node, field: &'static str) {
        self.misspelt.insert((mapping.id, field));
    }
}

/// Why a value could not be read.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) at: Option<(NodeId, Mark)>,
    /// The field whose absence is the fault.
    pub(super) missing: Option<&'static str>,
    /// Another problem says it already.
    pub(super) explained: bool,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), at: None, missing: None, explained: false }
    }

    /// Places the fault, unless a node further in has.
    pub(super) fn at(mut self, node: &Node) -> Self {
        self.at.get_or_insert((node.id, node.mark));
        self
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            Unexpected::Bool(value) => format!("`{value}`"),
            Unexpected::Unsigned(value) => format!("`{value}`"),
            Unexpected::Signed(value) => format!("`{value}`"),
            Unexpected::Str(text) => format!("`{text}`"),
            Unexpected::Unit => "null".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "a mapping".to_owned(),
            other => other.to_string(),
        };
        // serde's own types speak of Rust; these are for an operator.
        let expected = match expected.to_string().as_str() {
            "path string" => "the path of a file".to_owned(),
            "a string" => "text".to_owned(),
            "a nonzero u32" => "a whole number above 0".to_owned(),
            other => other.to_owned(),
        };
        Self::new(format!("expected {expected}, found {found}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: Some(field), ..Self::new(format!("missing field `{field}`")) }
    }
}
