//! The load generator: obeys one line of standard input at a time and answers it with one line,
//! `ok` and numbers, or `failed` and why. It measures nothing but counts; the CPU time it costs
//! the proxy is read by the process that gives the orders.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::Result;
use crate::client::{Dial, Exchange, Socket};
use crate::frames::{BINARY, BULK_BYTES, masked, pattern};
use crate::{paced, process};

/// Obeys until standard input ends. `roots` is the PEM file of what to trust.
pub(crate) async fn obey(roots: Option<String>) -> Result<()> {
    let roots = std::fs::read(roots.ok_or("no roots given")?)?;
    let mut lines = BufReader::new(process::orders()?).lines();
    let mut load =
        Load { roots, address: None, dials: Vec::new(), busy: Vec::new(), idle: Vec::new() };
    while let Some(line) = lines.next_line().await? {
        match timeout(ORDER_LIMIT, load.order(&line)).await {
            Ok(Ok(numbers)) => {
                let numbers: Vec<_> = numbers.iter().map(u64::to_string).collect();
                println!("ok {}", numbers.join(" "));
            }
            Ok(Err(error)) => println!("failed {}", error.to_string().escape_debug()),
            Err(_) => println!("failed not done after {} s", ORDER_LIMIT.as_secs()),
        }
    }
    Ok(())
}

struct Load {
    roots: Vec<u8>,
    address: Option<SocketAddr>,
    /// One a worker that opens and closes sockets, with the tickets it got.
    dials: Vec<Dial>,
    /// Sockets that echo.
    busy: Vec<(Socket, Exchange)>,
    /// Sockets that only stay.
    idle: Vec<Socket>,
}

impl Load {
    async fn order(&mut self, line: &str) -> Result<Vec<u64>> {
        let words: Vec<&str> = line.split(' ').collect();
        let number =
            |at: usize| -> Result<u64> { Ok(words.get(at).ok_or("a number is missing")?.parse()?) };
        let size = |at: usize| -> Result<usize> { Ok(usize::try_from(number(at)?)?) };
        let millis = |at: usize| -> Result<Duration> { Ok(Duration::from_millis(number(at)?)) };
        match words[0] {
            "target" => {
                self.address = Some(words.get(1).ok_or("no address")?.parse()?);
                self.dials.clear();
                self.ready().await
            }
            "distrust" => self.distrust().await,
            "open" => self.open(size(1)?, size(2)?).await,
            "echo" => self.echo(millis(1)?).await,
            "idle" => self.open_idle(size(1)?).await,
            "upload" => self.upload(number(1)?, number(2)?).await,
            "download" => self.download(number(1)?, number(2)?).await,
            "full" => self.handshakes(false, millis(1)?).await,
            "resumed" => self.handshakes(true, millis(1)?).await,
            "latency" => {
                let rate = u32::try_from(number(1)?)?;
                paced::latency(&mut self.busy, rate, millis(2)?).await
            }
            "close" => self.close().await,
            order => Err(format!("unknown order {order}").into()),
        }
    }

    fn dial(&self, resume: bool) -> Result<Dial> {
        Dial::new(self.address.ok_or("no target")?, &self.roots, resume)
    }

    /// Waits until the proxy serves: only here may a connection fail.
    async fn ready(&self) -> Result<Vec<u64>> {
        let dial = self.dial(false)?;
        let deadline = Instant::now() + READY;
        loop {
            match Socket::open(&dial, "/echo/125").await {
                Ok(mut socket) => {
                    socket.echo(&mut Exchange::of(125)).await?;
                    socket.close().await?;
                    return Ok(Vec::new());
                }
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Proves that altered bytes do not pass: a backend that lies must be caught by the generator,
    /// and a generator that lies by the backend.
    async fn distrust(&self) -> Result<Vec<u64>> {
        let dial = self.dial(false)?;
        let lied = Socket::open(&dial, "/lie/125").await?.echo(&mut Exchange::of(125)).await;
        let drawn = Socket::open(&dial, "/lying-source").await?.draw(4).await;
        for checked in [lied, drawn] {
            if !checked.is_err_and(|error| error.to_string().contains("altered")) {
                return Err("the generator does not notice altered bytes".into());
            }
        }
        let right = masked(BINARY, &pattern(BULK_BYTES));
        let mut wrong = right.clone();
        wrong[BULK_BYTES / 2] ^= 1;
        Socket::open(&dial, "/wary-sink").await?.pour(4, &right).await?;
        match Socket::open(&dial, "/wary-sink").await?.pour(4, &wrong).await {
            Err(_) => Ok(Vec::new()),
            Ok(()) => Err("the backend does not notice altered bytes".into()),
        }
    }

    async fn open(&mut self, sockets: usize, payload: usize) -> Result<Vec<u64>> {
        let dial = self.dial(false)?;
        for _ in 0..sockets {
            let mut socket = Socket::open(&dial, &format!("/echo/{payload}")).await?;
            let mut exchange = Exchange::of(payload);
            socket.echo(&mut exchange).await?;
            self.busy.push((socket, exchange));
        }
        Ok(Vec::new())
    }

    /// Every open socket sends, awaits, sends. Returns how many messages came back.
    async fn echo(&mut self, period: Duration) -> Result<Vec<u64>> {
        let deadline = Instant::now() + period;
        let mut tasks = JoinSet::new();
        for (mut socket, mut exchange) in self.busy.drain(..) {
            tasks.spawn(async move {
                let mut messages = 0;
                while Instant::now() < deadline {
                    socket.echo(&mut exchange).await?;
                    messages += 1;
                }
                Result::Ok((socket, exchange, messages))
            });
        }
        let mut messages = 0;
        while let Some(done) = tasks.join_next().await {
            let (socket, exchange, more) = done??;
            messages += more;
            self.busy.push((socket, exchange));
        }
        Ok(vec![messages])
    }

    /// Sockets that stay after one echo each.
    async fn open_idle(&mut self, sockets: usize) -> Result<Vec<u64>> {
        let dial = self.dial(false)?;
        let mut tasks = JoinSet::new();
        self.idle.reserve(sockets);
        for started in 0..sockets {
            if started >= OPENING {
                self.idle.push(tasks.join_next().await.ok_or("no socket")???);
            }
            let dial = dial.clone();
            tasks.spawn(async move {
                let mut socket = Socket::open(&dial, "/echo/125").await?;
                socket.echo(&mut Exchange::of(125)).await?;
                Result::Ok(socket)
            });
        }
        while let Some(done) = tasks.join_next().await {
            self.idle.push(done??);
        }
        Ok(vec![self.idle.len() as u64])
    }

    async fn upload(&self, sockets: u64, frames: u64) -> Result<Vec<u64>> {
        let bulk: Arc<[u8]> = masked(BINARY, &pattern(BULK_BYTES)).into();
        let wire = sockets * frames * bulk.len() as u64;
        let mut tasks = JoinSet::new();
        for _ in 0..sockets {
            let (dial, bulk) = (self.dial(false)?, Arc::clone(&bulk));
            tasks.spawn(async move {
                let mut socket = Socket::open(&dial, "/sink").await?;
                socket.pour(frames, &bulk).await
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(vec![wire])
    }

    async fn download(&self, sockets: u64, frames: u64) -> Result<Vec<u64>> {
        let mut tasks = JoinSet::new();
        for _ in 0..sockets {
            let dial = self.dial(false)?;
            tasks.spawn(async move { Socket::open(&dial, "/source").await?.draw(frames).await });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(vec![sockets * frames * BULK_BYTES as u64])
    }

    /// Connects, upgrades, echoes once and closes, over and over. Returns how often.
    ///
    /// The first of each worker has no ticket yet; all others must use theirs if `resume`.
    async fn handshakes(&mut self, resume: bool, period: Duration) -> Result<Vec<u64>> {
        let first = self.dials.is_empty();
        while self.dials.len() < HANDSHAKING {
            self.dials.push(self.dial(resume)?);
        }
        let deadline = Instant::now() + period;
        let mut tasks = JoinSet::new();
        for dial in self.dials.clone() {
            tasks.spawn(async move {
                let mut sockets = 0;
                let mut expected = resume && !first;
                while Instant::now() < deadline {
                    let mut socket = Socket::open(&dial, "/echo/125").await?;
                    if socket.resumed() != expected {
                        return Err(format!("a handshake was resumed: {}", !expected).into());
                    }
                    socket.echo(&mut Exchange::of(125)).await?;
                    socket.close().await?;
                    sockets += 1;
                    expected = resume;
                }
                Result::Ok(sockets)
            });
        }
        let mut sockets = 0;
        while let Some(done) = tasks.join_next().await {
            sockets += done??;
        }
        Ok(vec![sockets])
    }

    /// Closes every socket, the idle ones last.
    async fn close(&mut self) -> Result<Vec<u64>> {
        let busy = self.busy.drain(..).map(|(socket, _)| socket);
        let mut tasks = JoinSet::new();
        for socket in busy.chain(self.idle.drain(..)) {
            if tasks.len() >= OPENING {
                tasks.join_next().await.ok_or("no socket")???;
            }
            tasks.spawn(socket.close());
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        self.idle.shrink_to_fit();
        Ok(Vec::new())
    }
}

/// Idle sockets opened or closed at once.
const OPENING: usize = 64;

/// Workers that open and close sockets.
const HANDSHAKING: usize = 4;

/// From a proxy's start to its first socket.
const READY: Duration = Duration::from_secs(10);

/// One order, whatever it is.
const ORDER_LIMIT: Duration = Duration::from_secs(120);
