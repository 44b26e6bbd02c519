//! Where the tools are, and the scripts of this directory run with them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::gate::Gate;
use crate::process::{self, Finished, Service};

/// Debian's Chromium.
pub(crate) const CHROMIUM: &str = "/usr/bin/chromium";

/// Longer than the scripts' own limit, so that they can say at which step they hung.
const SCRIPT_TIME_MAX: Duration = Duration::from_secs(60);

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// The command that runs `script` by what its name ends with: Node or Python.
fn interpreter(script: &str) -> Command {
    let (program, needs) = if script.ends_with(".py") {
        let python = scripts().join("../.env/clients/bin/python");
        (python.clone().into_os_string(), python)
    } else {
        ("node".into(), scripts().join("node_modules/ws"))
    };
    assert!(needs.exists(), "{} is missing: tests/run installs it", needs.display());
    let mut command = Command::new(program);
    command.arg(script).current_dir(scripts());
    command
}

/// Runs a client script that trusts the gate's authority, and returns its findings.
pub(crate) fn client(gate: &Gate, script: &str, arguments: &[&str]) -> Value {
    let mut command = interpreter(script);
    command.args(arguments);
    command.env("NODE_EXTRA_CA_CERTS", gate.authority()).env("SSL_CERT_FILE", gate.authority());
    process::run(command, "", SCRIPT_TIME_MAX).findings()
}

/// Starts a client script that trusts the gate's authority and tells events while it runs.
pub(crate) fn start_client(gate: &Gate, script: &str, arguments: &[&str]) -> Service {
    let mut command = interpreter(script);
    command.args(arguments);
    command.env("NODE_EXTRA_CA_CERTS", gate.authority()).env("SSL_CERT_FILE", gate.authority());
    Service::start(script, command)
}

/// Runs a program that reads nothing.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Finished {
    let mut command = Command::new(program);
    command.args(arguments);
    process::run(command, "", SCRIPT_TIME_MAX)
}

/// A server behind the gate.
pub(crate) struct Backend {
    pub(crate) service: Service,
    pub(crate) address: SocketAddr,
}

impl Backend {
    /// Starts a server script and waits until it listens.
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Self {
        let mut command = interpreter(script);
        command.args(arguments);
        let service = Service::start(script, command);
        let port = service.wait_for_event("listening")["port"].as_u64().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port.try_into().unwrap()));
        Self { service, address }
    }

    /// The event `name` of the socket that was opened on `path`.
    pub(crate) fn event(&self, name: &str, path: &str) -> Value {
        self.service.wait_for(&format!("{name} of {path}"), |event| {
            event["event"] == name && event["path"] == path
        })
    }

    /// How often `name` was told before and with the first event `last` of `path`.
    pub(crate) fn count_until(&self, name: &str, last: (&str, &str)) -> usize {
        self.event(last.0, last.1);
        let events = self.service.events();
        let end = events
            .iter()
            .position(|event| event["event"] == last.0 && event["path"] == last.1)
            .unwrap();
        events[..=end].iter().filter(|event| event["event"] == name).count()
    }
}
