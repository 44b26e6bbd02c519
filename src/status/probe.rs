//! Asks a running gate whether it is ready: `wsgate healthcheck`, for a container without a shell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Whether the gate whose status listener is at `addr` answers 200 at `/readyz`, within `limit` in
/// all. An unspecified address (`0.0.0.0`, `[::]`) is asked on loopback.
///
/// # Errors
/// Says, in a line or a few, why it does not: no connection, no answer in time, or the checks that
/// fail.
pub async fn healthcheck(addr: SocketAddr, limit: Duration) -> Result<(), String> {
    let asked = timeout(limit, ask(addr)).await;
    let answer = asked.map_err(|_| format!("{addr}: no answer within {limit:?}"))??;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    match status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.split(' ').next()) {
        Some("200") => Ok(()),
        Some(_) => Err(format!("{addr}: {status}\n{body}").trim_end().to_owned()),
        None => Err(format!("{addr}: not an HTTP answer")),
    }
}

async fn ask(addr: SocketAddr) -> Result<String, String> {
    let failed = |what: &str, error| format!("{addr}: {what}: {error}");
    let targets = reachable(addr);
    let mut tcp =
        TcpStream::connect(&*targets).await.map_err(|error| failed("cannot connect", error))?;
    let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    tcp.write_all(request.as_bytes()).await.map_err(|error| failed("cannot ask", error))?;
    let mut answer = Vec::new();
    let read = tcp.take(ANSWER_BYTES).read_to_end(&mut answer).await;
    read.map_err(|error| failed("cannot read the answer", error))?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Where a listener on `addr` is reached from the same machine. `[::]` takes IPv4 too, and is all
/// there is in a container without an IPv6 loopback.
pub(super) fn reachable(addr: SocketAddr) -> Vec<SocketAddr> {
    let at = |ip: IpAddr| SocketAddr::new(ip, addr.port());
    let (v4, v6) = (at(Ipv4Addr::LOCALHOST.into()), at(Ipv6Addr::LOCALHOST.into()));
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![v4],
        IpAddr::V6(ip) if ip.is_unspecified() => vec![v6, v4],
        _ => vec![addr],
    }
}

/// Far more than the checks take.
const ANSWER_BYTES: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:9180", &["127.0.0.1:9180"][..]),
            ("[::]:9180", &["[::1]:9180", "127.0.0.1:9180"]),
            ("127.0.0.1:1", &["127.0.0.1:1"]),
            ("10.0.0.1:9180", &["10.0.0.1:9180"]),
        ] {
            let asked: Vec<SocketAddr> = asked.iter().map(|addr| addr.parse().unwrap()).collect();
            assert_eq!(reachable(listen.parse().unwrap()), asked, "{listen}");
        }
    }
}
