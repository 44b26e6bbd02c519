//! A configuration as YAML, and as JSON Schema.

use std::fmt::Write;

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

use super::file::{Certificate, File, Heartbeat};

/// The configuration as YAML that reads back as the same.
#[must_use]
pub fn show(file: &File) -> String {
    let mut text = String::new();
    section(&mut text, &value(file), 0);
    text
}

/// The JSON Schema (draft 2020-12) of the file, for editors.
#[must_use]
pub fn schema() -> String {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(for_editors));
    let schema = settings.into_generator().into_root_schema_for::<File>();
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// Lets a variable stand where text has a pattern, and takes source's line breaks out of prose.
fn for_editors(schema: &mut Schema) {
    if let Some(Value::String(pattern)) = schema.get_mut("pattern") {
        *pattern = format!(r"({pattern})|\$\{{");
    }
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ");
    }
}

/// The dotted path of every key, in the order of the file; what is in a list is behind `[]`.
pub(super) fn paths() -> Vec<String> {
    let mut file = File::default();
    file.tls.certificates.push(Certificate { cert: "cert".into(), key: "key".into() });
    file.heartbeat = Some(Heartbeat::default());
    let mut paths = Vec::new();
    collect(&value(&file), "", &mut paths);
    paths
}

fn collect(value: &Value, path: &str, paths: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{name}");
                paths.push(path.clone());
                collect(value, &path, paths);
            }
        }
        Value::Array(list) => {
            for value in list.iter().filter(|value| value.is_object()) {
                collect(value, &format!("{path}[]"), paths);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

pub(super) fn value(file: &File) -> Value {
    // Every map has strings for keys, and no number is out of JSON's range.
    serde_json::to_value(file).unwrap_or_default()
}

fn section(text: &mut String, value: &Value, indent: usize) {
    let Value::Object(fields) = value else { return };
    for (name, value) in fields {
        let _ = write!(text, "{:indent$}{name}:", "");
        match value {
            Value::Object(_) => {
                text.push('\n');
                section(text, value, indent + 2);
            }
            Value::Array(list) if list.iter().any(Value::is_object) => {
                text.push('\n');
                for value in list {
                    let _ = writeln!(text, "{:1$}- {2}", "", indent + 2, flow(value));
                }
            }
            value => {
                let _ = writeln!(text, " {}", flow(value));
            }
        }
    }
}

/// A value in one line.
pub(super) fn flow(value: &Value) -> String {
    let join = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| format!("{name}: {}", flow(value));
            format!("{{{}}}", join(fields.iter().map(field).collect()))
        }
        Value::Array(list) => format!("[{}]", join(list.iter().map(flow).collect())),
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// Text without quotes where it cannot be taken for anything else.
fn scalar(text: &str) -> String {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '/';
    let starts_with_number = |text: &str| {
        let after = text.trim_start_matches(|c: char| c.is_ascii_digit());
        after.len() < text.len() && after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
    };
    let is_plain = (text.starts_with(is_letter) || starts_with_number(text))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !text.starts_with("0x")
        && !text.starts_with("0o")
        && !matches!(text.to_ascii_lowercase().as_str(), "true" | "false" | "null" | "yes" | "no")
        && !matches!(text.to_ascii_lowercase().as_str(), "on" | "off" | "y" | "n")
        && text.parse::<f64>().is_err();
    if is_plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.replace("${", "$${").chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            // Printable or not: what YAML allows unescaped is not worth knowing here.
            c if u32::from(c) <= 0xffff => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => {
                let _ = write!(quoted, "\\U{:08x}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
}
