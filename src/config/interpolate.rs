//! `${VAR}` and `${VAR:-x}` in one scalar.

/// Gives the value of a variable of the environment, if it is set.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A scalar with its variables filled in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) text: String,
    /// A variable was named: quotes around it no longer make the text a string.
    pub(super) touched: bool,
    pub(super) faults: Vec<Fault>,
}

/// What is wrong with one `${…}`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Where the `$` stands and how long it is, in characters of the text.
    pub(super) offset: usize,
    pub(super) width: usize,
    pub(super) message: String,
    pub(super) help: String,
}

/// Fills in every variable of `text`. `$${` stands for a literal `${`; a `$` alone is itself.
/// As in a shell, `:-` gives the value of a variable that is unset or empty.
pub(super) fn interpolate(text: &str, env: Env<'_>) -> Filled {
    let mut filled = Filled::default();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if let Some(before) = rest[..start].strip_suffix('$') {
            filled.text.push_str(before);
            filled.text.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        filled.text.push_str(&rest[..start]);
        filled.touched = true;
        let from = &rest[start..];
        let inside = from.find('}').map(|end| &from[2..end]);
        let whole = inside.map_or(from, |inside| &from[..inside.len() + 3]);
        match value(inside, env) {
            Ok(value) => filled.text.push_str(&value),
            Err((message, help)) => filled.faults.push(Fault {
                offset: text[..text.len() - from.len()].chars().count(),
                width: whole.chars().count(),
                message,
                help,
            }),
        }
        rest = &from[whole.len()..];
    }
    filled.text.push_str(rest);
    filled
}

/// What stands between the braces, evaluated; `None` if they are not closed.
fn value(inside: Option<&str>, env: Env<'_>) -> Result<String, (String, String)> {
    let literal = "write `$${` for a literal `${`";
    let Some(inside) = inside else {
        return Err(("`${` is not closed by `}`".into(), literal.into()));
    };
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_name {
        return Err((format!("`{name}` is not the name of a variable"), literal.into()));
    }
    match (env(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err((
            format!("the variable `{name}` is not set"),
            format!("set it, or give a default: `${{{name}:-…}}`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("10.0.0.1".into()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${HOST}".into()),
            _ => None,
        }
    }

    #[test]
    fn variables_defaults_and_escapes() {
        let cases = [
            ("plain", "plain", false),
            ("$HOST $ $$", "$HOST $ $$", false),
            ("${HOST}:80", "10.0.0.1:80", true),
            ("${HOST}${HOST}", "10.0.0.110.0.0.1", true),
            ("${UNSET:-a b}", "a b", true),
            ("${UNSET:-}", "", true),
            ("${UNSET:-a:-b}", "a:-b", true),
            ("${EMPTY}", "", true),
            ("${EMPTY:-x}", "x", true),
            ("${HOST:-x}", "10.0.0.1", true),
            ("$${HOST}", "${HOST}", false),
            ("$${HOST} ${HOST}", "${HOST} 10.0.0.1", true),
            ("${TRICK}", "${HOST}", true),
        ];
        for (text, expected, touched) in cases {
            let filled = interpolate(text, &env);
            assert_eq!((filled.text.as_str(), filled.touched), (expected, touched), "{text}");
            assert!(filled.faults.is_empty(), "{text}");
        }
    }

    #[test]
    fn every_fault_has_its_place() {
        let filled = interpolate("ä${A} ${HOST} ${1B} ${C", &env);
        let faults: Vec<_> =
            filled.faults.iter().map(|f| (f.offset, f.width, f.message.as_str())).collect();
        assert_eq!(
            faults,
            [
                (1, 4, "the variable `A` is not set"),
                (14, 5, "`1B` is not the name of a variable"),
                (20, 3, "`${` is not closed by `}`"),
            ]
        );
    }
}
