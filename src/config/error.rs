//! What is wrong with the configuration, where, and what to write instead.
//!
//! The text is for a person: it looks like a compiler's, because those are read every day.

use std::fmt;

/// Joins a message and the spelling it suggests; [`ConfigError`] takes them apart again.
const DID_YOU_MEAN: &str = ", did you mean `";

/// One problem in the configuration. `Display` prints it as `wsgate check` does, without a final
/// line break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the value was written.
    pub place: Place,
    /// What is wrong, without the suggestion.
    pub message: String,
    /// What to write instead, if one spelling is likely.
    pub suggestion: Option<String>,
    /// A sentence of advice.
    pub help: Option<String>,
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File(Spot),
    /// As a flag or in the environment: `--listen`, `WSGATE_LISTEN`.
    Setting(String),
}

/// A place in a file, with the line it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The name of the file as it was given.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub col: usize,
    /// How many characters are at fault; at least 1.
    pub width: usize,
    /// The whole line, without its line break.
    pub snippet: String,
}

impl ConfigError {
    /// A problem at `place`. A `message` that ends in ``, did you mean `x`?`` is split into message
    /// and suggestion, so that a value's parse error, which is plain text, can carry both.
    #[must_use]
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        let message = message.into();
        let split = message
            .strip_suffix("`?")
            .and_then(|text| text.rsplit_once(DID_YOU_MEAN))
            .map(|(message, suggestion)| (message.to_owned(), suggestion.to_owned()));
        match split {
            Some((message, suggestion)) => {
                Self { place, message, suggestion: Some(suggestion), help: None }
            }
            None => Self { place, message, suggestion: None, help: None },
        }
    }

    /// A problem with a flag or a variable of the environment.
    #[must_use]
    pub fn setting(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Place::Setting(name.into()), message)
    }

    /// The same with a sentence of advice.
    #[must_use]
    pub fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Line and column, from 1; `(0, 0)` for a setting, so that those come first when sorted.
    #[must_use]
    pub fn line_col(&self) -> (usize, usize) {
        match &self.place {
            Place::File(spot) => (spot.line, spot.col),
            Place::Setting(_) => (0, 0),
        }
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, "{DID_YOU_MEAN}{suggestion}`?")?;
        }
        let gutter = match &self.place {
            Place::File(spot) => spot.fmt_snippet(f)?,
            Place::Setting(name) => {
                write!(f, "\n  --> {name}")?;
                3
            }
        };
        if let Some(help) = &self.help {
            write!(f, "\n{:gutter$}= help: {help}", "")?;
        }
        Ok(())
    }
}

impl Spot {
    /// Writes the arrow, the line and the caret; returns the width of the gutter.
    fn fmt_snippet(&self, f: &mut fmt::Formatter<'_>) -> Result<usize, fmt::Error> {
        let number = self.line.to_string();
        let gutter = number.len() + 2;
        let (file, line, col) = (&self.file, self.line, self.col);
        write!(f, "\n{:1$}--> {file}:{line}:{col}", "", gutter - 1)?;
        // A control character would move the cursor, and the caret away from what it points at.
        let shown: String =
            self.snippet.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let length = shown.chars().count();
        let carets = self.width.min((length + 1).saturating_sub(self.col)).max(1);
        write!(f, "\n{:gutter$}|\n {number} | {}", "", shown.trim_end())?;
        write!(f, "\n{:gutter$}| {:2$}{3}", "", "", self.col - 1, "^".repeat(carets))?;
        Ok(gutter)
    }
}

/// A message that suggests `instead`.
pub(crate) fn did_you_mean(message: impl fmt::Display, instead: impl fmt::Display) -> String {
    format!("{message}{DID_YOU_MEAN}{instead}`?")
}

/// A message that suggests what is nearest to `word` among `known`, if anything is near.
pub(crate) fn suggest<'a>(
    message: impl fmt::Display,
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> String {
    match nearest(word, known) {
        Some(known) => did_you_mean(message, known),
        None => message.to_string(),
    }
}

/// The message for a word that is not one of `words`.
pub(crate) fn unknown_word(word: &str, words: &[&str]) -> String {
    let message = match nearest(word, words.iter().copied()) {
        Some(_) if words.len() > 5 => format!("`{word}` is not known here"),
        _ => format!("`{word}` is not {}", any_of(words)),
    };
    suggest(message, word, words.iter().copied())
}

/// The nearest of `known`: at most a third of the letters differ, or one begins with the other.
/// Case, dashes and blanks do not count, nor what only IANA writes in the name of a cipher suite:
/// `maxAge` and `ECDHE-RSA-AES128-GCM-SHA256` are near what they mean.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters = |text: &str| {
        let text = text.to_ascii_lowercase().replace("_with_", "_");
        let text = text.strip_prefix("tls_").unwrap_or(&text);
        text.chars().filter(char::is_ascii_alphanumeric).collect::<String>()
    };
    let wanted = letters(word);
    let bound = (wanted.len() / 3).max(1);
    let distance = |known: &str| {
        let known = letters(known);
        let (short, long) = match known.len() < wanted.len() {
            true => (&known, &wanted),
            false => (&wanted, &known),
        };
        match strsim::osa_distance(&wanted, &known) {
            distance if distance <= bound && distance < known.len() => Some(distance),
            _ if short.len() >= 4 && long.starts_with(short.as_str()) => Some(long.len()),
            _ => None,
        }
    };
    known
        .into_iter()
        .filter_map(|known| distance(known).map(|distance| (distance, known)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// `` `a`, `b` or `c` ``.
pub(crate) fn any_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [many @ .., last] => {
            let many: Vec<_> = many.iter().map(|word| format!("`{word}`")).collect();
            format!("{} or `{last}`", many.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(line: usize, col: usize, width: usize, snippet: &str) -> Place {
        let (file, snippet) = ("/etc/wsgate/wsgate.yaml".to_owned(), snippet.to_owned());
        Place::File(Spot { file, line, col, width, snippet })
    }

    #[test]
    fn it_prints_as_a_compiler_does() {
        let message = "unknown field `max_conections`, did you mean `max_connections`?";
        let error = ConfigError::new(spot(3, 3, 14, "  max_conections: 10"), message);
        assert_eq!(error.suggestion.as_deref(), Some("max_connections"));
        assert_eq!(
            error.to_string(),
            "error: unknown field `max_conections`, did you mean `max_connections`?\n  \
             --> /etc/wsgate/wsgate.yaml:3:3\n   |\n 3 |   max_conections: 10\n   |   ^^^^^^^^^^^^^^"
        );
    }

    #[test]
    fn a_longer_line_number_widens_the_gutter_and_help_follows() {
        let error = ConfigError::new(spot(120, 1, 40, "a: b"), "no").with_help("write it");
        assert_eq!(
            error.to_string(),
            "error: no\n    --> /etc/wsgate/wsgate.yaml:120:1\n     |\n 120 | a: b\n     | ^^^^\n     \
             = help: write it"
        );
    }

    #[test]
    fn a_setting_has_a_name_instead_of_a_place() {
        let error =
            ConfigError::setting("WSGATE_LISTEN", did_you_mean("`8443` is no address", ":8443"));
        assert_eq!(
            error.to_string(),
            "error: `8443` is no address, did you mean `:8443`?\n  --> WSGATE_LISTEN"
        );
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let known = ["https", "http_redirect", "max_connections", "TLS_AES_256_GCM_SHA384"];
        let cases = [
            ("htps", Some("https")),
            ("httpRedirect", Some("http_redirect")),
            ("max_conns", None),
            ("http_redirect_to", Some("http_redirect")),
            ("tls-aes-256-gcm-sha384", Some("TLS_AES_256_GCM_SHA384")),
            ("AES256-GCM-SHA384", Some("TLS_AES_256_GCM_SHA384")),
            ("x", None),
            ("", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
