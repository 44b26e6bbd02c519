//! Latency at a fixed rate. A message is due when the clock says so, whether or not earlier ones
//! have come back, and its latency counts from when it was due: a proxy that stalls is charged for
//! every message that had to wait (no coordinated omission).

use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::try_join;
use tokio_rustls::client::TlsStream;

use crate::Result;
use crate::client::{Exchange, Socket};

/// Sends `rate` messages a second in all over the sockets in turn. Returns the percentiles of
/// [`PERCENTILES`] in nanoseconds.
pub(crate) async fn latency(
    sockets: &mut Vec<(Socket, Exchange)>,
    rate: u32,
    period: Duration,
) -> Result<Vec<u64>> {
    let mut queues = Vec::new();
    let mut tasks = JoinSet::new();
    for (socket, exchange) in sockets.drain(..) {
        let (queue, due) = unbounded_channel();
        queues.push(queue);
        tasks.spawn(async move {
            let (sent, in_flight) = unbounded_channel();
            let (reader, writer) = split(socket.stream);
            let (latencies, reader, writer) = {
                let expecting = exchange.again();
                let writing = write(writer, exchange.again(), due, sent);
                let ((reader, latencies), writer) =
                    try_join!(read(reader, expecting, in_flight), writing)?;
                (latencies, reader, writer)
            };
            Result::Ok((Socket { stream: reader.unsplit(writer) }, exchange, latencies))
        });
    }
    let messages = u32::try_from(u128::from(rate) * period.as_millis() / 1000)?;
    let start = Instant::now() + Duration::from_millis(20);
    // tokio's timers turn once a millisecond, which is coarser than what is measured.
    let pacer = thread::spawn(move || {
        for message in 0..messages {
            let due = start + Duration::from_secs(1) * message / rate;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if queues[message as usize % queues.len()].send(due).is_err() {
                return;
            }
        }
    });
    let mut latencies = Vec::with_capacity(messages as usize);
    while let Some(done) = tasks.join_next().await {
        let (socket, exchange, more) = done??;
        latencies.extend(more);
        sockets.push((socket, exchange));
    }
    pacer.join().map_err(|_| "the pacer panicked")?;
    if latencies.is_empty() || latencies.len() != messages as usize {
        return Err(format!("{} of {messages} messages came back", latencies.len()).into());
    }
    latencies.sort_unstable();
    Ok(PERCENTILES
        .iter()
        .map(|per_mille| latencies[(latencies.len() - 1) * per_mille / 1000])
        .collect())
}

/// Sends a message whenever one is due, and says when it was.
async fn write(
    mut stream: WriteHalf<TlsStream<TcpStream>>,
    mut exchange: Exchange,
    mut due: UnboundedReceiver<Instant>,
    sent: UnboundedSender<Instant>,
) -> Result<WriteHalf<TlsStream<TcpStream>>> {
    while let Some(due) = due.recv().await {
        exchange.next();
        stream.write_all(&exchange.request).await?;
        stream.flush().await?;
        sent.send(due).map_err(|_| "the reader has ended")?;
    }
    Ok(stream)
}

/// Takes and checks as many answers as messages were sent.
async fn read(
    mut stream: ReadHalf<TlsStream<TcpStream>>,
    mut exchange: Exchange,
    mut in_flight: UnboundedReceiver<Instant>,
) -> Result<(ReadHalf<TlsStream<TcpStream>>, Vec<u64>)> {
    let mut latencies = Vec::new();
    let mut answer = vec![0; exchange.expected.len()];
    while let Some(due) = in_flight.recv().await {
        exchange.next();
        stream.read_exact(&mut answer).await?;
        if answer != exchange.expected {
            return Err("an echo came back altered".into());
        }
        latencies.push(u64::try_from(due.elapsed().as_nanos())?);
    }
    Ok((stream, latencies))
}

/// Which percentiles are told, in thousandths.
const PERCENTILES: [usize; 4] = [500, 990, 999, 1000];
