//! The processes of a run: started on their CPU, told to stop by number, never left behind.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::Result;
use crate::machine::Processes;
use crate::options::Options;
use crate::targets::{Key, Place, Target};

/// First arguments that make this program one of its helpers.
pub(crate) const BACKEND: &str = "role-backend";
pub(crate) const LOAD: &str = "role-load";

/// A proxy that serves. Told to stop when dropped.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) listen: SocketAddr,
    pub(crate) processes: Processes,
    log: PathBuf,
}

/// What a proxy is started with, whoever it is.
pub(crate) struct Ground<'a> {
    pub(crate) options: &'a Options,
    /// Holds the certificates, and a directory for each proxy.
    pub(crate) dir: &'a Path,
    pub(crate) backend: SocketAddr,
    pub(crate) cpu: u32,
    pub(crate) files: u64,
}

impl Proxy {
    /// Starts one and finds its processes; it may not serve yet.
    pub(crate) async fn start(ground: &Ground<'_>, target: Target, key: Key) -> Result<Self> {
        let dir = ground.dir.join(format!("{target:?}"));
        std::fs::create_dir_all(&dir)?;
        // Free now; nobody else on the machine is expected to take it.
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let (backend, files) = (ground.backend, ground.files);
        let place = Place { dir: &dir, listen, backend, key, files };
        let arguments = target.configure(&place)?;
        let log = dir.join("log");
        let mut command = pinned(ground.cpu, &target.program(ground.options));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(File::create(&log)?).spawn()?;
        let root = child.id().ok_or("a proxy ended at once")?;
        let mut proxy = Self { child, listen, processes: Processes::below(root)?, log };
        let deadline = Instant::now() + STARTING;
        while proxy.processes.count() != 1 + target.children() {
            if let Some(status) = proxy.child.try_wait()? {
                return Err(format!("{} ended: {status}\n{}", target.title(), proxy.said()).into());
            }
            if Instant::now() > deadline {
                return Err(format!("{} did not start\n{}", target.title(), proxy.said()).into());
            }
            sleep(Duration::from_millis(5)).await;
            proxy.processes = Processes::below(root)?;
        }
        Ok(proxy)
    }

    /// What it wrote to standard error.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Stops it; by force where it does not follow.
    pub(crate) async fn stop(mut self) -> Result<()> {
        for _ in 0..STOPPING {
            self.tell(Signal::TERM);
            if timeout(Duration::from_secs(2), self.child.wait()).await.is_ok() {
                return Ok(());
            }
        }
        self.child.kill().await?;
        Ok(())
    }

    fn tell(&self, signal: Signal) {
        let number = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(number) = number {
            // It may have ended.
            let _ = kill_process(number, signal);
        }
    }
}

impl Drop for Proxy {
    /// Not by KILL: nginx's master has to end its worker.
    fn drop(&mut self) {
        self.tell(Signal::TERM);
    }
}

/// One of this program's helpers. Ends with the pipe to it.
pub(crate) struct Helper {
    name: &'static str,
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Helper {
    pub(crate) fn start(name: &'static str, cpu: u32, arguments: &[&Path]) -> Result<Self> {
        let mut command = pinned(cpu, &std::env::current_exe()?);
        command.arg(name).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let input = child.stdin.take().ok_or("no pipe")?;
        let output = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        Ok(Self { name, _child: child, input, output })
    }

    /// The next line it writes.
    pub(crate) async fn line(&mut self) -> Result<String> {
        let line = timeout(ANSWER, self.output.next_line()).await;
        let line = line.map_err(|_| format!("{} does not answer", self.name))??;
        Ok(line.ok_or_else(|| format!("{} ended", self.name))?)
    }

    /// Gives an order and returns the numbers of the answer.
    pub(crate) async fn order(&mut self, order: &str) -> Result<Vec<u64>> {
        self.input.write_all(format!("{order}\n").as_bytes()).await?;
        self.input.flush().await?;
        let answer = self.line().await?;
        match answer.split_once(' ') {
            Some(("ok", "")) => Ok(Vec::new()),
            Some(("ok", numbers)) => {
                Ok(numbers.split(' ').map(str::parse).collect::<std::result::Result<_, _>>()?)
            }
            _ => Err(format!("`{order}`: {answer}").into()),
        }
    }
}

/// Where a helper gets its orders.
pub(crate) fn orders() -> Result<pipe::Receiver> {
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    Ok(pipe::Receiver::from_owned_fd(input)?)
}

/// A program on one CPU, which ends when this process does, however that ends.
fn pinned(cpu: u32, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--", "taskset", "-c", &cpu.to_string()]).arg(program);
    command
}

/// From start to all processes running.
const STARTING: Duration = Duration::from_secs(10);

/// How often a proxy is asked to stop. wsgate drains first, and stops at once at the second time.
const STOPPING: usize = 3;

/// Longer than any order takes.
const ANSWER: Duration = Duration::from_secs(150);
