//! Lengths of time, sizes, rates and other small values, as the file spells them.
//!
//! Each is parsed by `FromStr`, whose error is a sentence for a person, so that the file, the flags
//! and the environment accept and say the same. Addresses are in `addresses`, words in `words`.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::error::{did_you_mean, suggest};
use super::spelled::spelled;

/// A length of time: `500ms`, `10s`, `5m`, `1h`, `730d`; at most 100 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(Duration);

impl Period {
    /// `0s`.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// This many seconds.
    #[must_use]
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The length as the runtime takes it.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        period.0
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = number_and_unit(text);
        let is_not =
            format!("`{text}` is not a length of time such as `10s`, `5m`, `1h` or `730d`");
        let Ok(number) = number.parse::<u64>() else { return Err(is_not) };
        let millis = match unit {
            "ms" => 1,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3600 * SECOND,
            "d" => DAY,
            "" => {
                let message = format!("`{text}` has no unit (`ms`, `s`, `m`, `h` or `d`)");
                return Err(did_you_mean(message, format_args!("{number}s")));
            }
            other => {
                let unit = match other.trim().to_ascii_lowercase().as_str() {
                    "millis" | "msec" | "ms" => "ms",
                    "s" | "sec" | "secs" | "second" | "seconds" => "s",
                    "m" | "min" | "mins" | "minute" | "minutes" => "m",
                    "h" | "hr" | "hrs" | "hour" | "hours" => "h",
                    "d" | "day" | "days" => "d",
                    "w" | "week" | "weeks" => {
                        let days = number.saturating_mul(7);
                        return Err(did_you_mean(is_not, format_args!("{days}d")));
                    }
                    "y" | "year" | "years" => {
                        let days = number.saturating_mul(365);
                        return Err(did_you_mean(is_not, format_args!("{days}d")));
                    }
                    _ => return Err(is_not),
                };
                return Err(did_you_mean(is_not, format_args!("{number}{unit}")));
            }
        };
        match number.checked_mul(millis) {
            Some(millis) if millis <= 36_500 * DAY => Ok(Self(Duration::from_millis(millis))),
            _ => Err(format!("`{text}` is longer than `36500d`")),
        }
    }
}

impl fmt::Display for Period {
    /// The largest unit that leaves no rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let units = [("d", DAY), ("h", 3600 * SECOND), ("m", 60 * SECOND), ("s", SECOND)];
        let whole = |(_, unit): &(_, u64)| millis != 0 && millis.is_multiple_of((*unit).into());
        match units.into_iter().find(whole) {
            Some((name, unit)) => write!(f, "{}{name}", millis / u128::from(unit)),
            None if millis == 0 => f.write_str("0s"),
            None => write!(f, "{millis}ms"),
        }
    }
}

spelled!(Period, "a length of time such as `10s`", {
    "type": "string",
    "description": "A length of time: a whole number and `ms`, `s`, `m`, `h` or `d`.",
    "pattern": "^[0-9]+(ms|s|m|h|d)$",
    "examples": ["500ms", "10s", "5m", "1h", "730d"],
});

/// A number of bytes: `512B`, `16KiB`, `1MiB`, `2GiB`; a bare number is bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// This many times 1024 bytes.
    #[must_use]
    pub const fn kib(number: u32) -> Self {
        Self(number as u64 * 1024)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = number_and_unit(text);
        let is_not = format!("`{text}` is not a size such as `512B`, `64KiB` or `1MiB`");
        let Ok(bytes) = number.parse::<u64>() else { return Err(is_not) };
        let shift = match unit {
            "" | "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            other => {
                let unit = match other.trim().to_ascii_lowercase().as_str() {
                    "b" | "byte" | "bytes" => "B",
                    "k" | "kb" | "ki" | "kib" => "KiB",
                    "m" | "mb" | "mi" | "mib" => "MiB",
                    "g" | "gb" | "gi" | "gib" => "GiB",
                    _ => return Err(is_not),
                };
                return Err(did_you_mean(is_not, format_args!("{number}{unit}")));
            }
        };
        match bytes.checked_mul(1 << shift) {
            Some(bytes) => Ok(Self(bytes)),
            None => Err(format!("`{text}` is more bytes than can be counted")),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        let whole = |(_, unit): &(_, u64)| self.0 != 0 && self.0.is_multiple_of(*unit);
        let (name, unit) = units.into_iter().find(whole).unwrap_or(("B", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

spelled!(Size, "a size such as `64KiB`", {
    "description": "A number of bytes, or one with `B`, `KiB`, `MiB` or `GiB`.",
    "anyOf": [
        {"type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)?$"},
        {"type": "integer", "minimum": 0},
    ],
    "examples": ["16KiB", "1MiB", 4096],
});

/// How often something may happen: `5/s`, `300/m`, `1000/h`. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    count: NonZeroU32,
    per: Per,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Per {
    Second,
    Minute,
    Hour,
}

impl Rate {
    /// This many a second.
    #[must_use]
    pub const fn per_second(count: NonZeroU32) -> Self {
        Self { count, per: Per::Second }
    }

    /// How many in one [`Rate::period`].
    #[must_use]
    pub const fn count(self) -> NonZeroU32 {
        self.count
    }

    /// A second, a minute or an hour.
    #[must_use]
    pub const fn period(self) -> Duration {
        match self.per {
            Per::Second => Duration::from_secs(1),
            Per::Minute => Duration::from_secs(60),
            Per::Hour => Duration::from_secs(3600),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_not = format!("`{text}` is not a rate such as `5/s`, `300/m` or `1000/h`");
        let (number, unit) = number_and_unit(text);
        let Ok(count) = number.parse::<u32>() else { return Err(is_not) };
        let per = match unit {
            "/s" => Per::Second,
            "/m" => Per::Minute,
            "/h" => Per::Hour,
            "" => return Err(did_you_mean(is_not, format_args!("{number}/s"))),
            other => {
                let unit = other.trim_start_matches(['/', ' ']).trim_start_matches("per ");
                let unit = match unit.to_ascii_lowercase().as_str() {
                    "s" | "r/s" | "sec" | "second" => "s",
                    "m" | "r/m" | "min" | "minute" => "m",
                    "h" | "r/h" | "hour" => "h",
                    _ => return Err(is_not),
                };
                return Err(did_you_mean(is_not, format_args!("{number}/{unit}")));
            }
        };
        match NonZeroU32::new(count) {
            Some(count) => Ok(Self { count, per }),
            None => Err(format!("`{text}` lets nobody in; `null` in place of the limit lifts it")),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per {
            Per::Second => "s",
            Per::Minute => "m",
            Per::Hour => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

spelled!(Rate, "a rate such as `5/s`", {
    "type": "string",
    "description": "How often something may happen: a whole number above 0 and `/s`, `/m` or `/h`.",
    "pattern": "^0*[1-9][0-9]*/[smh]$",
    "examples": ["5/s", "300/m"],
});

/// How many sockets may be open: a number above 0, or `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MaxConnections {
    /// From the process's limit of open files.
    Auto,
    /// This many.
    Fixed(NonZeroU32),
}

impl FromStr for MaxConnections {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let is_not = format!("`{text}` is not `auto` or a whole number from 1 to {}", u32::MAX);
        match text.parse() {
            Ok(0) => Err("`0` lets nobody in".to_owned()),
            Ok(number) => NonZeroU32::new(number).map(Self::Fixed).ok_or(is_not),
            Err(_) => {
                let digits = text.replace(['_', ',', ' '], "");
                match digits.parse::<NonZeroU32>() {
                    Ok(number) => Err(did_you_mean(is_not, number)),
                    Err(_) => Err(suggest(is_not, text, ["auto"])),
                }
            }
        }
    }
}

impl fmt::Display for MaxConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(number) => number.fmt(f),
        }
    }
}

impl Serialize for MaxConnections {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => to.serialize_str("auto"),
            Self::Fixed(number) => number.serialize(to),
        }
    }
}

spelled!(MaxConnections: Serialize, "`auto` or a whole number", {
    "description": "A number above 0, or `auto`.",
    "anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": u32::MAX}],
});

fn number_and_unit(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// In milliseconds.
const SECOND: u64 = 1000;
const DAY: u64 = 24 * 3600 * SECOND;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn errors<T: FromStr<Err = String> + fmt::Debug>(cases: &[(&str, &str)]) {
        for (text, end) in cases {
            let error = text.parse::<T>().unwrap_err();
            assert!(error.ends_with(end), "{text}: {error}");
        }
    }

    #[test]
    fn periods() {
        let cases = [
            ("500ms", 500, "500ms"),
            ("10s", 10_000, "10s"),
            ("5m", 300_000, "5m"),
            ("60m", 3_600_000, "1h"),
            ("1h", 3_600_000, "1h"),
            ("730d", 63_072_000_000, "730d"),
            ("90s", 90_000, "90s"),
            ("0s", 0, "0s"),
            ("0d", 0, "0s"),
            ("36500d", 3_153_600_000_000, "36500d"),
        ];
        for (text, millis, shown) in cases {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.get(), Duration::from_millis(millis), "{text}");
            assert_eq!(period.to_string(), shown);
        }
        errors::<Period>(&[
            ("10", "did you mean `10s`?"),
            ("0", "did you mean `0s`?"),
            ("10 s", "did you mean `10s`?"),
            ("5min", "did you mean `5m`?"),
            ("2W", "did you mean `14d`?"),
            ("2years", "did you mean `730d`?"),
            ("1h30m", "or `730d`"),
            ("-1s", "or `730d`"),
            ("1.5h", "or `730d`"),
            ("", "or `730d`"),
            ("36501d", "longer than `36500d`"),
            ("99999999999999999999s", "or `730d`"),
            ("18446744073709551615d", "longer than `36500d`"),
        ]);
    }

    #[test]
    fn sizes() {
        let cases = [
            ("0", 0, "0B"),
            ("1000", 1000, "1000B"),
            ("512B", 512, "512B"),
            ("16KiB", 16_384, "16KiB"),
            ("1024KiB", 1 << 20, "1MiB"),
            ("2GiB", 2 << 30, "2GiB"),
        ];
        for (text, bytes, shown) in cases {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, shown), "{text}");
        }
        errors::<Size>(&[
            ("16KB", "did you mean `16KiB`?"),
            ("16k", "did you mean `16KiB`?"),
            ("1 MiB", "did you mean `1MiB`?"),
            ("1Gi", "did you mean `1GiB`?"),
            ("lots", "or `1MiB`"),
            ("99999999999GiB", "than can be counted"),
        ]);
    }

    #[test]
    fn rates() {
        for (text, count, seconds) in [("5/s", 5, 1), ("300/m", 300, 60), ("1000/h", 1000, 3600)] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.count().get(), rate.period().as_secs()), (count, seconds));
            assert_eq!(rate.to_string(), text);
        }
        errors::<Rate>(&[
            ("5", "did you mean `5/s`?"),
            ("5r/s", "did you mean `5/s`?"),
            ("5/sec", "did you mean `5/s`?"),
            ("5 per minute", "did you mean `5/m`?"),
            ("0/s", "lifts it"),
            ("/s", "or `1000/h`"),
        ]);
    }

    #[test]
    fn max_connections() {
        assert_eq!("auto".parse(), Ok(MaxConnections::Auto));
        assert_eq!("7".parse::<MaxConnections>().unwrap().to_string(), "7");
        errors::<MaxConnections>(&[
            ("0", "lets nobody in"),
            ("10_000", "did you mean `10000`?"),
            ("Auto", "did you mean `auto`?"),
            ("many", &format!("from 1 to {}", u32::MAX)),
        ]);
    }

    proptest! {
        #[test]
        fn what_is_shown_parses_to_the_same(millis in 0..36_500 * DAY, bytes: u64, count: u32) {
            let period = Period(Duration::from_millis(millis));
            prop_assert_eq!(period.to_string().parse(), Ok(period));
            prop_assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
            if let Some(count) = NonZeroU32::new(count) {
                let rate = Rate { count, per: Per::Minute };
                prop_assert_eq!(rate.to_string().parse(), Ok(rate));
            }
        }
    }
}
