//! Child processes with deadlines: services that tell events as JSON lines, and commands that end.

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

/// Longest wait for a line that a service has to say.
const EVENT_WAIT_MAX: Duration = Duration::from_secs(30);

/// A server that runs for a test's length and tells what happens to it, one JSON line an event.
///
/// Dropped, it is killed; if the test is failing, everything it said is printed first.
pub(crate) struct Service {
    name: String,
    child: Child,
    lines: Receiver<String>,
    said: RefCell<Vec<String>>,
    events: RefCell<Vec<Value>>,
}

impl Service {
    /// Starts `command`; both its output streams are read for events.
    pub(crate) fn start(name: &str, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(&mut command);
        let (sender, lines) = channel();
        read_lines(child.stdout.take().unwrap(), sender.clone());
        read_lines(child.stderr.take().unwrap(), sender);
        Self {
            name: name.to_owned(),
            child,
            lines,
            said: RefCell::default(),
            events: RefCell::default(),
        }
    }

    /// The first event, past or to come, for which `wanted` is true.
    pub(crate) fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + EVENT_WAIT_MAX;
        let mut judged = 0;
        loop {
            if let Some(event) = self.events.borrow()[judged..].iter().find(|event| wanted(event)) {
                return event.clone();
            }
            judged = self.events.borrow().len();
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.note(line),
                Err(RecvTimeoutError::Timeout) => panic!("{}: no {what} in time", self.name),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("{} ended without {what}", self.name)
                }
            }
        }
    }

    /// The event of this name, as `wait_for` finds it.
    pub(crate) fn wait_for_event(&self, name: &str) -> Value {
        self.wait_for(name, |event| event["event"] == name)
    }

    /// Returns once the event of this name was told so often.
    pub(crate) fn wait_for_several(&self, name: &str, times: usize) {
        let seen = Cell::new(0);
        self.wait_for(&format!("{times} × {name}"), |event| {
            seen.set(seen.get() + usize::from(event["event"] == name));
            seen.get() == times
        });
    }

    /// What was told so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        while let Ok(line) = self.lines.try_recv() {
            self.note(line);
        }
        self.events.borrow().clone()
    }

    /// Sends a signal by its name, `TERM` or `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// The code that it exits with, once its output has ended.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + EVENT_WAIT_MAX;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.note(line),
                Err(RecvTimeoutError::Timeout) => panic!("{}: no end in time", self.name),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap().code(),
            }
        }
    }

    fn note(&self, line: String) {
        if let Ok(event) = serde_json::from_str(&line) {
            self.events.borrow_mut().push(event);
        }
        self.said.borrow_mut().push(line);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            self.events();
            println!("--- {} said:\n{}", self.name, self.said.borrow().join("\n"));
        }
    }
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// The last line of standard output, which must be JSON, of a command that must have exited 0.
    pub(crate) fn findings(&self) -> Value {
        assert!(self.status.success(), "the client failed: {self}");
        let line = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in findings: {self}"))
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, stdout, stderr } = self;
        write!(f, "{status}\n--- stdout:\n{stdout}\n--- stderr:\n{stderr}")
    }
}

/// Runs `command` with `input` to its end.
///
/// # Panics
/// If it has not closed its output after `limit`; it is killed then.
pub(crate) fn run(mut command: Command, input: &str, limit: Duration) -> Finished {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(&mut command);
    // Fails if the command does not read its input, which is the command's to judge.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let deadline = Instant::now() + limit;
    let outputs = [read_all(child.stdout.take().unwrap()), read_all(child.stderr.take().unwrap())];
    let [stdout, stderr] = outputs.map(|output| {
        let left = deadline.saturating_duration_since(Instant::now());
        output.recv_timeout(left).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("{command:?} did not end within {limit:?}")
        })
    });
    Finished { status: child.wait().unwrap(), stdout, stderr }
}

fn spawn(command: &mut Command) -> Child {
    command.spawn().unwrap_or_else(|error| {
        panic!("{}: {error}; tests/run installs it", command.get_program().display())
    })
}

fn read_lines(stream: impl Read + Send + 'static, sender: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
}

fn read_all(mut stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}
