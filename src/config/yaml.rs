//! YAML text into a tree in which everything knows its place. What the tree means is `de`'s.
//!
//! A deliberate part of YAML 1.2: one document, no anchors, aliases, tags or keys that are not
//! words. Whatever is refused is collected, and reading goes on; only a syntax error ends it.

use std::collections::BTreeSet;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::interpolate::{Env, interpolate};

/// Names a node of a tree: a number that no other node has.
pub(super) type NodeId = usize;

/// A place in the text: line and column from 1, and how many characters are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) line: usize,
    pub(super) col: usize,
    pub(super) width: usize,
}

/// A value and its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) mark: Mark,
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Debug)]
pub(super) enum Value {
    /// `plain`: written without quotes, or filled in from the environment. Only such text can mean
    /// a number, `true`, `false` or `null`.
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A key of a mapping and its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) mark: Mark,
    pub(super) value: Node,
}

/// Something wrong at a place; the name of the file and the line come later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) mark: Mark,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// A text as a tree, and what was wrong with it.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// `None` for an empty text, and after a syntax error, which is then in `problems`.
    pub(super) root: Option<Node>,
    pub(super) problems: Vec<Problem>,
    /// Nodes whose value is unknown; they have their problem already.
    pub(super) broken: BTreeSet<NodeId>,
}

impl Mark {
    /// The very beginning of a text.
    pub(super) const START: Self = Self { line: 1, col: 1, width: 1 };
}

impl Node {
    /// What an absent or commented-out value is.
    pub(super) fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar { text, plain: true } => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }
}

/// Reads one document, filling in variables from `env`.
pub(super) fn parse(text: &str, env: Env<'_>) -> Tree {
    let mut tree = Tree::default();
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("a configuration is at most {TEXT_BYTES_MAX} bytes");
        tree.problems.push(Problem { mark: Mark::START, message, help: None });
        return tree;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().collect();
    let parser = Parser::new_from_str(text);
    let mut reader = Reader { parser, lines, env, tree: &mut tree, nodes: 0 };
    let root = reader.document();
    match root {
        Ok(root) => tree.root = root,
        Err(problem) => tree.problems.push(problem),
    }
    tree
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    lines: Vec<&'t str>,
    env: Env<'t>,
    tree: &'t mut Tree,
    nodes: usize,
}

impl<'t> Reader<'t> {
    fn document(&mut self) -> Result<Option<Node>, Problem> {
        let mut root = None;
        let mut documents = 0;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        let message = "a configuration is one document, and here begins another";
                        return Err(self.problem(span, message));
                    }
                }
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                event => root = Some(self.node(event, span, 0)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Problem> {
        if depth > DEPTH_MAX {
            return Err(self.problem(span, format!("nested more than {DEPTH_MAX} deep")));
        }
        let (anchor, tag) = match &event {
            Event::Scalar(_, _, anchor, tag) => (*anchor, tag.is_some()),
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) => {
                (*anchor, tag.is_some())
            }
            Event::Alias(anchor) => (*anchor, false),
            _ => (0, false),
        };
        // An alias can stand for much more than it takes to write it.
        if anchor != 0 {
            self.report(span, "anchors (`&`) and aliases (`*`) are not read; write the value out");
        }
        if tag {
            self.report(span, "tags (`!`) are not read");
        }
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(self.problem(span, format!("more than {NODES_MAX} values")));
        }
        let id = self.nodes;
        let mut mark = self.mark(span);
        let value = match event {
            Event::Scalar(text, style, ..) => self.scalar(&text, style, span, id),
            Event::SequenceStart(..) => {
                mark.width = 1;
                self.sequence(depth)?
            }
            Event::MappingStart(..) => {
                mark.width = 1;
                self.mapping(depth)?
            }
            _ => {
                self.tree.broken.insert(id);
                Value::Scalar { text: String::new(), plain: true }
            }
        };
        Ok(Node { id, mark, value })
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, span: Span, id: NodeId) -> Value {
        let filled = interpolate(text, self.env);
        if !filled.faults.is_empty() {
            self.tree.broken.insert(id);
        }
        for fault in filled.faults {
            let mut mark = self.mark(span);
            // Behind escapes and line breaks the count is off: then the scalar's place must do.
            let col = mark.col + usize::from(style != ScalarStyle::Plain) + fault.offset;
            let line = self.lines.get(mark.line - 1).copied().unwrap_or_default();
            if line.chars().skip(col - 1).take(2).eq("${".chars()) {
                mark = Mark { line: mark.line, col, width: fault.width };
            }
            let help = Some(fault.help);
            self.tree.problems.push(Problem { mark, message: fault.message, help });
        }
        Value::Scalar { text: filled.text, plain: filled.touched || style == ScalarStyle::Plain }
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut nodes = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::Sequence(nodes)),
                (event, span) => nodes.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let mark = self.mark(span);
            let key = match event {
                Event::MappingEnd => return Ok(Value::Mapping(entries)),
                Event::Scalar(text, _, 0, None) => Some(text.into_owned()),
                event => {
                    self.report(span, "a key is a plain word");
                    self.node(event, span, depth + 1)?;
                    None
                }
            };
            let (event, span) = self.next()?;
            let mut value = self.node(event, span, depth + 1)?;
            let Some(key) = key else { continue };
            if matches!(&value.value, Value::Scalar { text, plain: true } if text.is_empty()) {
                // Nothing was written, so the key is the place to look at.
                value.mark = mark;
            }
            match entries.iter().find(|entry| entry.key == key) {
                Some(first) => {
                    let Mark { line, col, .. } = first.mark;
                    let message = format!("`{key}` is given twice");
                    let help = Some(format!("it is first given at {line}:{col}"));
                    self.tree.problems.push(Problem { mark, message, help });
                }
                None => entries.push(Entry { key, mark, value }),
            }
        }
    }

    fn mark(&self, span: Span) -> Mark {
        let (line, col) = (span.start.line().max(1), span.start.col() + 1);
        let width = if span.end.line() == span.start.line() {
            span.end.col().saturating_sub(span.start.col())
        } else {
            let line = self.lines.get(line - 1).copied().unwrap_or_default();
            (line.trim_end().chars().count() + 1).saturating_sub(col)
        };
        Mark { line, col, width: width.max(1) }
    }

    fn problem(&self, span: Span, message: impl Into<String>) -> Problem {
        Problem { mark: self.mark(span), message: message.into(), help: None }
    }

    fn report(&mut self, span: Span, message: &str) {
        let problem = self.problem(span, message);
        self.tree.problems.push(problem);
    }

    /// A syntax error, with advice where YAML is known to surprise.
    fn syntax(&self, error: &ScanError) -> Problem {
        let marker = error.marker();
        // The end of the text may be counted as a line of its own.
        let line = marker.line().clamp(1, self.lines.len().max(1));
        let shown = self.lines.get(line - 1).copied().unwrap_or_default();
        let end = shown.chars().count() + 1;
        let col = if marker.line() > line { end } else { (marker.col() + 1).min(end) };
        let bare = |what: &str| {
            shown.match_indices(what).any(|(at, _)| !shown[..at].ends_with(['"', '\'']))
        };
        let help = if bare("${") && shown.contains(['[', '{']) {
            Some("inside `[ ]` and `{ }`, quote it: `\"${VAR}\"`")
        } else if bare("[::") || bare("[fe80:") || bare("[fd") {
            Some("an address that begins with `[` needs quotes: `\"[::]:8443\"`")
        } else if bare("*") {
            Some("a star needs quotes: `\"*\"`")
        } else if shown.starts_with('\t') || shown.trim_start_matches(' ').starts_with('\t') {
            Some("indent with blanks, not with tabs")
        } else {
            None
        };
        let message = format!("not YAML: {}", error.info());
        Problem { mark: Mark { line, col, width: 1 }, message, help: help.map(str::to_owned) }
    }
}

/// Far above any configuration; a wrong file named by mistake is not read for minutes.
const TEXT_BYTES_MAX: usize = 1 << 20;
const NODES_MAX: usize = 20_000;
const DEPTH_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        (name == "MAX").then(|| "10".to_owned())
    }

    fn problems(text: &str) -> Vec<(usize, usize, String)> {
        let tree = parse(text, &env);
        tree.problems.into_iter().map(|p| (p.mark.line, p.mark.col, p.message)).collect()
    }

    #[test]
    fn nodes_and_keys_know_their_places() {
        let tree = parse("a:\n  b: [1, 'zwei']\nc:\n", &env);
        let Some(Node { value: Value::Mapping(entries), .. }) = tree.root else { panic!() };
        let at = |mark: Mark| (mark.line, mark.col, mark.width);
        assert_eq!(at(entries[0].mark), (1, 1, 1));
        let Value::Mapping(inner) = &entries[0].value.value else { panic!() };
        assert_eq!(at(inner[0].mark), (2, 3, 1));
        let Value::Sequence(list) = &inner[0].value.value else { panic!() };
        assert_eq!(at(list[0].mark), (2, 7, 1));
        assert_eq!(at(list[1].mark), (2, 10, 6));
        assert!(entries[1].value.is_null());
        assert_eq!(at(entries[1].value.mark), (3, 1, 1), "nothing written: the key's place");
    }

    #[test]
    fn what_is_not_read_is_refused_with_its_place() {
        let cases = [
            ("a: 1\nb: 2\na: 3\n", 3, 1, "`a` is given twice"),
            ("a: &x 1\n", 1, 4, "anchors"),
            ("a: &x 1\nb: *x\n", 2, 4, "anchors"),
            ("a: !!str 1\n", 1, 4, "tags"),
            ("[a]: 1\n", 1, 1, "a key is a plain word"),
            ("a: 1\n---\nb: 2\n", 2, 1, "one document"),
            ("a: [1, 2\n", 1, 9, "not YAML"),
            ("a: *\n", 1, 4, "not YAML"),
            ("a: ${NO}\n", 1, 4, "`NO` is not set"),
            ("a: \"x ${NO}\"\n", 1, 7, "`NO` is not set"),
            ("a: \"\\t${NO}\"\n", 1, 4, "`NO` is not set"),
        ];
        for (text, line, col, message) in cases {
            let found = problems(text);
            assert!(
                found.iter().any(|p| (p.0, p.1) == (line, col) && p.2.contains(message)),
                "{text:?}: {found:?}"
            );
        }
    }

    #[test]
    fn a_variable_fills_a_value_and_never_makes_structure() {
        let tree = parse("a: \"${MAX}\"\nb: \"${X:-{c: d}}\"\n", &env);
        assert!(tree.problems.is_empty(), "{:?}", tree.problems);
        let Some(Node { value: Value::Mapping(entries), .. }) = tree.root else { panic!() };
        let scalar = |node: &Node| match &node.value {
            Value::Scalar { text, plain } => (text.clone(), *plain),
            other => panic!("{other:?}"),
        };
        assert_eq!(scalar(&entries[0].value), ("10".into(), true));
        assert_eq!(scalar(&entries[1].value), ("{c: d}".into(), true));
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = "[".repeat(200);
        assert!(!problems(&deep).is_empty());
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        assert!(problems(&deep)[0].2.contains("nested more than"));
        let many = "- 1\n".repeat(NODES_MAX);
        assert!(problems(&many)[0].2.contains("more than 20000 values"));
        let long = "# x\n".repeat(TEXT_BYTES_MAX / 4 + 1);
        assert!(problems(&long)[0].2.contains("at most"));
    }
}
