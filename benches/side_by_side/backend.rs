//! The backend: takes upgrades, then echoes, swallows or pours, and checks every byte it gets.
//!
//! The path says what: `/echo/BYTES` answers masked frames of that payload with plain ones,
//! `/sink` takes a count and so many bulk frames, `/source` takes a count and sends them. `/lie/…`,
//! `/lying-source` and `/wary-sink` are there to prove that altered bytes are noticed.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::frames::{
    ACCEPT, BINARY, BULK_BYTES, CLOSE, KEY, Repeats, mask, masked, pattern, plain,
};
use crate::{Result, process};

/// Serves until standard input ends. The first line of output is the address.
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let mut input = process::orders()?;
    let mut byte = [0];
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                tokio::spawn(async move {
                    // The generator sees the connection end and fails the run.
                    if let Err(error) = converse(stream).await
                        && error.kind() == io::ErrorKind::InvalidData
                    {
                        eprintln!("backend: {error}");
                    }
                });
            }
            _ = input.read(&mut byte) => return Ok(()),
        }
    }
}

async fn converse(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(path) = upgrade(&mut stream).await? else { return Ok(()) };
    match path.split('/').collect::<Vec<_>>()[..] {
        ["", "echo", bytes] => echo(stream, payload(bytes)?, 0).await,
        ["", "lie", bytes] => echo(stream, payload(bytes)?, 1).await,
        ["", "sink"] => sink(stream).await,
        // Here a wrong byte is what is hoped for: the end of the connection says that it was seen.
        ["", "wary-sink"] => sink(stream).await.or(Ok(())),
        ["", "source"] => source(stream, 0).await,
        ["", "lying-source"] => source(stream, 1).await,
        _ => Err(wrong("path", path.as_bytes())),
    }
}

/// Reads a request head and answers 101. `None` is a probe that sent nothing.
async fn upgrade(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::with_capacity(1024);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD_BYTES {
            return Err(wrong("head", &head));
        }
        if stream.read_buf(&mut head).await? == 0 {
            return if head.is_empty() { Ok(None) } else { Err(wrong("head", &head)) };
        }
    }
    let text = String::from_utf8_lossy(&head);
    let path = text.strip_prefix("GET ").and_then(|rest| rest.split_once(" HTTP/1.1\r\n"));
    let Some((path, _)) = path.filter(|_| text.contains(KEY)) else {
        return Err(wrong("head", &head));
    };
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(Some(path.to_owned()))
}

/// Answers each frame of `bytes` payload with the same, `flip` put into its last byte, until Close.
async fn echo(mut stream: TcpStream, bytes: usize, flip: u8) -> io::Result<()> {
    let empty = masked(BINARY, &vec![0; bytes]);
    let head = &empty[..empty.len() - bytes];
    let answer_head = plain(BINARY, &vec![0; bytes]);
    let answer_head = &answer_head[..answer_head.len() - bytes];
    // The answer is written from where the request was read: its head is the shorter by the key.
    let skip = head.len() - answer_head.len();
    let close = masked(CLOSE, &crate::frames::NORMAL_CLOSURE);
    let mut buffer = vec![0; empty.len()];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        filled += read;
        if buffer[..filled] == close {
            stream.write_all(&plain(CLOSE, &crate::frames::NORMAL_CLOSURE)).await?;
            return stream.shutdown().await;
        }
        if read == 0 {
            return if filled == 0 { Ok(()) } else { Err(wrong("end", &buffer[..filled])) };
        }
        if filled < buffer.len() {
            continue;
        }
        if !buffer.starts_with(head) {
            return Err(wrong("frame", &buffer[..head.len()]));
        }
        mask(&mut buffer[head.len()..]);
        buffer[skip..head.len()].copy_from_slice(answer_head);
        if let Some(last) = buffer.last_mut() {
            *last ^= flip;
        }
        stream.write_all(&buffer[skip..]).await?;
        filled = 0;
    }
}

/// Takes a count and so many bulk frames, and answers with the count once all were right.
async fn sink(mut stream: TcpStream) -> io::Result<()> {
    let mut expected = Repeats::of(masked(BINARY, &pattern(BULK_BYTES)));
    let mut buffer = vec![0; READ_BYTES];
    while let Some(count) = count(&mut stream).await? {
        let mut left = count * expected.period() as u64;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let read = stream.read(&mut buffer[..most]).await?;
            if read == 0 || !expected.follow(&buffer[..read]) {
                return Err(wrong("bulk", &buffer[..read.min(16)]));
            }
            left -= read as u64;
        }
        stream.write_all(&plain(BINARY, &count.to_be_bytes())).await?;
    }
    Ok(())
}

/// Takes a count and sends so many bulk frames, `flip` put into the last byte of each.
async fn source(mut stream: TcpStream, flip: u8) -> io::Result<()> {
    let mut frame = plain(BINARY, &pattern(BULK_BYTES));
    if let Some(last) = frame.last_mut() {
        *last ^= flip;
    }
    while let Some(count) = count(&mut stream).await? {
        for _ in 0..count {
            stream.write_all(&frame).await?;
        }
    }
    Ok(())
}

/// A masked frame with a number; `None` at the end of the stream.
async fn count(stream: &mut TcpStream) -> io::Result<Option<u64>> {
    let mut wire = masked(BINARY, &[0; 8]);
    let head = wire.len() - 8;
    let expected = wire[..head].to_vec();
    match stream.read_exact(&mut wire).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    };
    if wire[..head] != expected {
        return Err(wrong("count", &wire));
    }
    mask(&mut wire[head..]);
    let number = wire[head..].try_into().map_err(|_| wrong("count", &wire))?;
    Ok(Some(u64::from_be_bytes(number)))
}

fn payload(text: &str) -> io::Result<usize> {
    text.parse().map_err(|_| wrong("path", text.as_bytes()))
}

fn wrong(what: &str, bytes: &[u8]) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("wrong {what}: {}", bytes.escape_ascii()))
}

/// Of a request head.
const HEAD_BYTES: usize = 16 * 1024;

/// Of one read of bulk.
const READ_BYTES: usize = 256 * 1024;
