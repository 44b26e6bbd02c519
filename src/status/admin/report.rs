//! What `GET /api/v1/status` says, and how a person reads it. Fields are only ever added.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::drain::Phase;

/// What runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) version: String,
    pub(crate) uptime_s: u64,
    pub(crate) phase: Phase,
    /// Whether no connection is left and none can come.
    pub(crate) drained: bool,
    /// What tells two configurations apart.
    pub(crate) config_hash: String,
    pub(crate) connections: Connections,
    pub(crate) websockets: WebSockets,
    pub(crate) backends: Vec<Backend>,
    /// The default first.
    pub(crate) certificates: Vec<Certificate>,
}

/// Client connections, HTTP ones included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connections {
    pub(crate) active: u64,
    pub(crate) limit: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WebSockets {
    pub(crate) active: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backend {
    pub(crate) name: String,
    pub(crate) up: bool,
    /// WebSockets open to it.
    pub(crate) active: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Certificate {
    pub(crate) names: Vec<String>,
    /// RFC 3339.
    pub(crate) not_after: String,
    /// Of the DER form, `AB:CD:…`.
    pub(crate) sha256: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            Phase::Serving => "serving",
            Phase::Announced => "draining: not ready, still accepting",
            Phase::Draining => "draining: no newcomers",
            Phase::Cutting => "draining: cutting what is left",
        };
        let Connections { active, limit } = self.connections;
        writeln!(f, "wsgate {}  configuration {}", self.version, self.config_hash)?;
        writeln!(f, "  {:<12} {phase}, up {}", "phase", Uptime(self.uptime_s))?;
        writeln!(f, "  {:<12} {active} of {limit}", "connections")?;
        writeln!(f, "  {:<12} {}", "websockets", self.websockets.active)?;
        let width = self.backends.iter().map(|backend| backend.name.len()).max().unwrap_or(0);
        for (n, Backend { name, up, active }) in self.backends.iter().enumerate() {
            let title = if n == 0 { "backends" } else { "" };
            let up = if *up { "up" } else { "down" };
            writeln!(f, "  {title:<12} {name:<width$}  {up:<4}  {active}")?;
        }
        for (n, Certificate { names, not_after, sha256 }) in self.certificates.iter().enumerate() {
            let title = if n == 0 { "certificates" } else { "" };
            writeln!(f, "  {title:<12} {}, until {not_after}", names.join(", "))?;
            writeln!(f, "  {:<12} {sha256}", "")?;
        }
        Ok(())
    }
}

struct Uptime(u64);

impl fmt::Display for Uptime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (minutes, hours, days) = (self.0 / 60, self.0 / 3600, self.0 / 86_400);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{} s", self.0),
            (0, 0, _) => write!(f, "{minutes} min {} s", self.0 % 60),
            (0, ..) => write!(f, "{hours} h {} min", minutes % 60),
            _ => write!(f, "{days} d {} h", hours % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_sees_everything() {
        let backend = |name: &str, up, active| Backend { name: name.into(), up, active };
        let report = Report {
            version: "1.2.3".into(),
            uptime_s: 3_723,
            phase: Phase::Announced,
            drained: false,
            config_hash: "0123456789ab".into(),
            connections: Connections { active: 12, limit: 9_900 },
            websockets: WebSockets { active: 10 },
            backends: vec![backend("10.0.0.1:8080", true, 10), backend("app:80", false, 0)],
            certificates: vec![Certificate {
                names: vec!["a.example".into(), "b.example".into()],
                not_after: "2026-05-30T11:02:09Z".into(),
                sha256: "5F:2C".into(),
            }],
        };
        let expected = "\
wsgate 1.2.3  configuration 0123456789ab
  phase        draining: not ready, still accepting, up 1 h 2 min
  connections  12 of 9900
  websockets   10
  backends     10.0.0.1:8080  up    10
               app:80         down  0
  certificates a.example, b.example, until 2026-05-30T11:02:09Z
               5F:2C
";
        assert_eq!(report.to_string(), expected);
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains("\"phase\":\"announced\""), "{json}");
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
