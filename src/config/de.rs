//! The tree as serde sees it, so that `file` can be plain structs, with every problem found at once.
//!
//! serde stops at the first error. Here the node at fault is then marked broken, which makes it
//! absent (its field takes the default, a list loses the element), and reading starts over, until
//! it succeeds. Each round breaks one node more, so the rounds end. Unknown fields are noted on
//! the way and skipped.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};

use super::error::{any_of, did_you_mean, nearest, unknown_word};
use super::findings::{Fault, Findings};
use super::yaml::{Entry, Node, Problem, Value};

/// Reads a `T` from `root`. Where something is wrong, it is noted and the default stands.
pub(super) fn read<T: DeserializeOwned + Default>(root: &Node, findings: &mut Findings) -> T {
    for _ in 0..ROUNDS_MAX {
        let shared = RefCell::new(std::mem::take(findings));
        let result = T::deserialize(Reader { node: root, findings: &shared });
        *findings = shared.into_inner();
        let fault = match result {
            Ok(value) => return value,
            Err(fault) => fault,
        };
        let (id, mark) = fault.at.unwrap_or((root.id, root.mark));
        if !fault.explained {
            let problem = Problem { mark, message: fault.message, help: None };
            findings.note(problem);
        }
        if !findings.breaks(id) || id == root.id {
            break;
        }
    }
    T::default()
}

/// One node of the tree as a deserializer.
#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    findings: &'a RefCell<Findings>,
}

impl<'a> Reader<'a> {
    fn to(self, node: &'a Node) -> Self {
        Self { node, ..self }
    }

    fn is_broken(self) -> bool {
        self.findings.borrow().is_broken(self.node)
    }

    fn plain(self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, plain: true } => Some(text),
            _ => None,
        }
    }

    /// What stands here, for a message.
    fn found(self) -> String {
        match &self.node.value {
            _ if self.node.is_null() => "null".to_owned(),
            Value::Scalar { text, plain: true } => format!("`{text}`"),
            Value::Scalar { text, plain: false } => format!("the text \"{text}\""),
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
        }
    }

    fn expected(self, what: impl fmt::Display) -> Fault {
        Fault::new(format!("expected {what}, found {}", self.found())).at(self.node)
    }

    /// Like `expected`, with a spelling that would do.
    fn expected_like(self, what: &str, instead: impl fmt::Display) -> Fault {
        let message = format!("expected {what}, found {}", self.found());
        Fault::new(did_you_mean(message, instead)).at(self.node)
    }

    fn whole_number(self) -> Result<i128, Fault> {
        let what = "a whole number";
        if let Some(number) = self.plain().and_then(whole_number) {
            return Ok(number);
        }
        let Value::Scalar { text, .. } = &self.node.value else { return Err(self.expected(what)) };
        let digits = text.replace(['_', ',', ' '], "");
        match whole_number(&digits) {
            Some(_) => Err(self.expected_like(what, digits)),
            None => Err(self.expected(what)),
        }
    }

    fn sequence<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let nodes = match &self.node.value {
            Value::Sequence(nodes) => nodes,
            _ if self.node.is_null() => return Err(self.expected_like("a list", "[]")),
            Value::Scalar { text, plain: true } => {
                return Err(self.expected_like("a list", format_args!("[{text}]")));
            }
            Value::Scalar { text, plain: false } => {
                return Err(self.expected_like("a list", format_args!("[\"{text}\"]")));
            }
            Value::Mapping(_) => return Err(self.expected("a list")),
        };
        visitor
            .visit_seq(Elements { reader: self, nodes: nodes.iter() })
            .map_err(|fault| fault.at(self.node))
    }

    fn mapping<'de, V: Visitor<'de>>(
        self,
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let entries: &[Entry] = match &self.node.value {
            Value::Mapping(entries) => entries,
            // A section whose fields are all commented out.
            _ if self.node.is_null() => &[],
            _ => return Err(self.expected("a mapping")),
        };
        let known = |entry: &&Entry| fields.is_none_or(|known| known.contains(&entry.key.as_str()));
        let (known, unknown): (Vec<_>, Vec<_>) = entries.iter().partition(known);
        for entry in unknown {
            self.unknown(entry, fields.unwrap_or_default());
        }
        let entries = Entries { reader: self, entries: known.into_iter(), value: None };
        visitor.visit_map(entries).map_err(|mut fault| {
            if let (None, Some(missing)) = (fault.at, fault.missing) {
                fault.explained = entries_explain(self.node, missing, self.findings);
            }
            fault.at(self.node)
        })
    }

    fn unknown(self, entry: &Entry, known: &'static [&'static str]) {
        let mut findings = self.findings.borrow_mut();
        if findings.knows(entry.mark) {
            return;
        }
        let message = format!("unknown field `{}`", entry.key);
        let nearest = nearest(&entry.key, known.iter().copied());
        let meant = known.iter().find(|known| Some(**known) == nearest);
        let (message, help) = match meant {
            Some(meant) => {
                findings.misspells(self.node, meant);
                (did_you_mean(message, meant), None)
            }
            None => {
                let allowed = || format!("the fields here are {}", any_of(known));
                (message, Some(super::place_of(&entry.key).unwrap_or_else(allowed)))
            }
        };
        findings.note(Problem { mark: entry.mark, message, help });
    }
}

/// Whether the absence of `field` follows from a problem that is noted already.
fn entries_explain(mapping: &Node, field: &str, findings: &RefCell<Findings>) -> bool {
    let Value::Mapping(entries) = &mapping.value else { return false };
    findings.borrow().is_misspelt(mapping, field) || entries.iter().any(|entry| entry.key == field)
}

/// YAML 1.2.2 §10.3.2, the core schema: decimal, `0o17`, `0xff`.
fn whole_number(text: &str) -> Option<i128> {
    let digits = |text: &str, radix| match text.starts_with(['+', '-']) {
        true => None,
        false => i128::from_str_radix(text, radix).ok(),
    };
    if let Some(octal) = text.strip_prefix("0o") {
        digits(octal, 8)
    } else if let Some(hexadecimal) = text.strip_prefix("0x") {
        digits(hexadecimal, 16)
    } else {
        text.parse().ok()
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

macro_rules! whole_numbers {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let number = self.whole_number()?;
            let number = <$type>::try_from(number).map_err(|_| {
                let message = match number < 0 {
                    true => format!("`{number}` is below zero"),
                    false => format!("`{number}` is above {}", <$type>::MAX),
                };
                Fault::new(message).at(self.node)
            })?;
            visitor.$visit(number).map_err(|fault: Fault| fault.at(self.node))
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = match &self.node.value {
            Value::Sequence(_) => self.sequence(visitor),
            Value::Mapping(_) => self.mapping(None, visitor),
            Value::Scalar { .. } if self.node.is_null() => visitor.visit_unit(),
            Value::Scalar { text, plain } => {
                let number = whole_number(text).and_then(|number| u64::try_from(number).ok());
                match (truth(text), number) {
                    (Some(truth), _) if *plain => visitor.visit_bool(truth),
                    (_, Some(number)) if *plain => visitor.visit_u64(number),
                    _ => visitor.visit_str(text),
                }
            }
        };
        result.map_err(|fault: Fault| fault.at(self.node))
    }

    /// Text, also where YAML sees a number: `1.3` and `8443` are taken as they are written.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let is_text =
            |text: &str, plain: bool| !plain || (truth(text).is_none() && !self.node.is_null());
        let result = match &self.node.value {
            Value::Scalar { text, plain } if is_text(text, *plain) => visitor.visit_str(text),
            _ => return self.deserialize_any(visitor),
        };
        result.map_err(|fault: Fault| fault.at(self.node))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if let Some(truth) = self.plain().and_then(truth) {
            return visitor.visit_bool(truth);
        }
        let what = "`true` or `false`";
        let Value::Scalar { text, .. } = &self.node.value else { return Err(self.expected(what)) };
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Err(self.expected_like(what, true)),
            "false" | "no" | "off" | "0" => Err(self.expected_like(what, false)),
            _ => Err(self.expected(what)),
        }
    }

    whole_numbers! {
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = match self.node.is_null() {
            true => visitor.visit_none(),
            false => visitor.visit_some(self),
        };
        result.map_err(|fault: Fault| fault.at(self.node))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.sequence(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.mapping(None, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.mapping(Some(fields), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let allowed = any_of(words);
        let word = match &self.node.value {
            Value::Scalar { text, .. } if !self.node.is_null() => text.as_str(),
            _ => return Err(self.expected(allowed)),
        };
        if !words.contains(&word) {
            let message = unknown_word(word, words);
            return Err(Fault::new(message).at(self.node));
        }
        let word: StrDeserializer<'_, Fault> = word.into_deserializer();
        visitor.visit_enum(word).map_err(|fault| fault.at(self.node))
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 f32 f64 unit unit_struct ignored_any
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.sequence(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.sequence(visitor)
    }
}

struct Elements<'a> {
    reader: Reader<'a>,
    nodes: std::slice::Iter<'a, Node>,
}

impl<'de> de::SeqAccess<'de> for Elements<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let reader = self.reader;
        let sound = self.nodes.by_ref().map(|node| reader.to(node)).find(|r| !r.is_broken());
        sound.map(|element| seed.deserialize(element)).transpose()
    }
}

struct Entries<'a> {
    reader: Reader<'a>,
    entries: std::vec::IntoIter<&'a Entry>,
    value: Option<&'a Node>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let reader = self.reader;
        let Some(entry) = self.entries.find(|entry| !reader.to(&entry.value).is_broken()) else {
            return Ok(None);
        };
        self.value = Some(&entry.value);
        let key: StrDeserializer<'_, Fault> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        match self.value.take() {
            Some(node) => seed.deserialize(self.reader.to(node)),
            None => Err(Fault::new("a value was asked for before its key")),
        }
    }
}

/// One round a mistake; who makes more is told of these first.
const ROUNDS_MAX: usize = 500;
