//! What is printed: medians and ratios, the goals, and how far the rounds lay apart.

use std::collections::BTreeMap;
use std::fmt;

use crate::options::Options;
use crate::targets::Target;

/// A line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Line {
    Idle,
    Echo,
    Echo16k,
    Upload,
    Download,
    Full,
    Resumed,
    Rsa,
    Start,
    AfterClosing,
    BesideIdle,
    P50,
    P99,
    P999,
    Slowest,
    Paced,
}

/// All figures of a run.
pub(crate) struct Report {
    rounds: u32,
    idle_sockets: usize,
    after_closing_secs: u64,
    rate: u32,
    targets: Vec<Target>,
    notes: Vec<String>,
    figures: BTreeMap<(Line, Target), Vec<f64>>,
}

impl Report {
    pub(crate) fn new(options: &Options, targets: &[Target]) -> Self {
        Self {
            rounds: options.rounds,
            idle_sockets: options.idle_sockets(),
            after_closing_secs: options.after_closing_secs(),
            rate: options.rate,
            targets: targets.to_vec(),
            notes: Vec::new(),
            figures: BTreeMap::new(),
        }
    }

    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(crate) fn add(&mut self, line: Line, target: Target, value: f64) {
        self.figures.entry((line, target)).or_default().push(value);
    }

    fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<_> = self.figures.keys().map(|(line, _)| *line).collect();
        lines.dedup();
        lines
    }

    fn sorted(&self, line: Line, target: Target) -> Option<Vec<f64>> {
        let mut values = self.figures.get(&(line, target))?.clone();
        values.sort_by(f64::total_cmp);
        Some(values)
    }

    fn median(&self, line: Line, target: Target) -> Option<f64> {
        let values = self.sorted(line, target)?;
        let middle = values.len() / 2;
        match values.len() % 2 {
            0 => Some((values[middle - 1] + values[middle]) / 2.0),
            _ => Some(values[middle]),
        }
    }

    /// wsgate over the best of `others`.
    fn ratio(&self, line: Line, others: &[Target]) -> Option<f64> {
        let best = others.iter().filter_map(|other| self.median(line, *other)).reduce(f64::min)?;
        Some(self.median(line, Target::Wsgate)? / best)
    }

    fn title(&self, line: Line) -> String {
        let (idle, rate) = (self.idle_sockets, self.rate);
        match line {
            Line::Idle => format!("idle socket, KiB (PSS, after one echo, {idle} sockets)"),
            Line::Echo => "echo 125 B, µs a message".to_owned(),
            Line::Echo16k => "echo 16 KiB, µs a message".to_owned(),
            Line::Upload => "bulk to the backend, ns a byte".to_owned(),
            Line::Download => "bulk to the client, ns a byte".to_owned(),
            Line::Full => "full handshake + upgrade + echo + close, µs".to_owned(),
            Line::Resumed => "the same resumed, µs".to_owned(),
            Line::Rsa => "the same full with RSA 2048, µs".to_owned(),
            Line::Start => "memory at start, MiB RSS".to_owned(),
            Line::AfterClosing => {
                let secs = self.after_closing_secs;
                format!("memory {secs} s after closing {idle} sockets, % of the peak (PSS)")
            }
            Line::BesideIdle => format!("echo 125 B beside {idle} idle sockets, × beside none"),
            Line::P50 => format!("latency at {rate} messages/s, µs: median"),
            Line::P99 => "… 99 %".to_owned(),
            Line::P999 => "… 99.9 %".to_owned(),
            Line::Slowest => "… slowest".to_owned(),
            Line::Paced => format!("echo 125 B at {rate} messages/s, µs of CPU a message"),
        }
    }

    fn header(&self, f: &mut fmt::Formatter<'_>, first: &str, more: &[&str]) -> fmt::Result {
        write!(f, "| {first} |")?;
        for column in self.targets.iter().map(|target| target.title()).chain(more.iter().copied()) {
            write!(f, " {column} |")?;
        }
        writeln!(f, "\n|---|{}", "---|".repeat(self.targets.len() + more.len()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "- {note}")?;
        }
        writeln!(f)?;
        let first = format!("CPU of the proxy's processes, medians of {}", self.rounds);
        self.header(f, &first, &["÷ nginx", "÷ HAProxy", "÷ the better 64 KiB one"])?;
        for line in self.lines() {
            write!(f, "| {} |", self.title(line))?;
            for target in &self.targets {
                write!(f, " {} |", number(self.median(line, *target)))?;
            }
            for others in [&[Target::Nginx][..], &[Target::Haproxy], &LARGE] {
                let ratio = self.ratio(line, others);
                write!(f, " {} |", ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}")))?;
            }
            writeln!(f)?;
        }
        writeln!(f, "\n| goal | at most | measured | met |\n|---|---|---|---|")?;
        for goal in GOALS {
            let reached = match goal.against {
                [] => self.median(goal.line, Target::Wsgate),
                others => self.ratio(goal.line, others),
            };
            // Less than everybody it is held against is no verdict.
            let all = goal.against.iter().all(|one| self.median(goal.line, *one).is_some());
            let Some(reached) = reached.filter(|_| all) else { continue };
            let met = if reached <= goal.most { "yes" } else { "**no**" };
            let against = match goal.against {
                [] => "",
                [Target::Nginx] => " × nginx",
                [Target::Haproxy] => " × HAProxy",
                _ => " × the better 64 KiB one",
            };
            let title = self.title(goal.line);
            writeln!(f, "| {title} | {}{against} | {reached:.2} | {met} |", goal.most)?;
        }
        writeln!(f)?;
        self.header(f, "least – most of the rounds", &[])?;
        for line in self.lines() {
            write!(f, "| {} |", self.title(line))?;
            for target in &self.targets {
                match self.sorted(line, *target).as_deref() {
                    Some([least, .., most]) => {
                        write!(f, " {} – {} |", number(Some(*least)), number(Some(*most)))?;
                    }
                    Some([only]) => write!(f, " {} |", number(Some(*only)))?,
                    Some([]) | None => write!(f, " – |")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value < 10.0 => format!("{value:.2}"),
        Some(value) if value < 100.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

/// What wsgate is to reach: so much of the best of those it is held against, or so much at all.
struct Goal {
    line: Line,
    against: &'static [Target],
    most: f64,
}

const LARGE: [Target; 2] = [Target::Nginx64, Target::Haproxy64];

const GOALS: [Goal; 12] = [
    Goal { line: Line::Idle, against: &[Target::Nginx], most: 0.12 },
    Goal { line: Line::Idle, against: &[Target::Haproxy], most: 0.3 },
    Goal { line: Line::Echo, against: &[Target::Nginx], most: 0.93 },
    Goal { line: Line::Echo16k, against: &[Target::Haproxy], most: 0.45 },
    Goal { line: Line::Echo16k, against: &LARGE, most: 0.55 },
    Goal { line: Line::Upload, against: &LARGE, most: 0.5 },
    Goal { line: Line::Download, against: &LARGE, most: 0.5 },
    Goal { line: Line::Full, against: &[Target::Nginx], most: 0.52 },
    Goal { line: Line::Resumed, against: &[Target::Nginx], most: 0.58 },
    Goal { line: Line::Start, against: &[], most: 8.0 },
    Goal { line: Line::AfterClosing, against: &[], most: 40.0 },
    Goal { line: Line::BesideIdle, against: &[], most: 1.1 },
];
