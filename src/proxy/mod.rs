//! Making it happen: the stages of one client connection, in order. `serve` is the table of
//! contents; each stage is a file.

pub mod accept;
mod body;
mod chunked;
mod deadline;
mod gate;
mod http;
mod pool;
pub mod redirect;
mod session;
mod upgrade;
mod upstream;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

pub use crate::proxy::gate::{AccessLog, ClientIpLog, Gate, GateSettings, UpstreamTimes};

use crate::proxy::accept::Permit;
use crate::proxy::gate::Connection;
use crate::proxy::pool::Pool;

/// Carries one client connection from its first byte to its last.
///
/// # Cancel safety
/// Dropping the future closes both sides without a word.
pub(crate) async fn serve(
    tcp: TcpStream,
    peer: SocketAddr,
    gate: Arc<Gate>,
    pool: Pool,
    permit: Permit,
) {
    // Each stage is boxed, so that what it needs is gone when the next one begins.
    let Some((stream, tls)) = Box::pin(gate.shake_hands(tcp, peer)).await else { return };
    let connection = Arc::new(Connection::new(gate, peer, tls, permit.admission()));
    let serving = Box::pin(http::serve(stream, Arc::clone(&connection), pool));
    if let Some(upgraded) = serving.await {
        let gate = Arc::clone(&connection.gate);
        drop(connection);
        upgraded.run(gate).await;
    }
    drop(permit);
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use tokio::net::TcpStream;

    use super::accept::Permit;
    use super::gate::Gate;
    use super::pool::Pool;
    use super::serve;

    /// Every idle socket holds one of these.
    #[test]
    fn the_task_of_a_socket_is_small() {
        fn size<F>(_: impl Fn(TcpStream, SocketAddr, Arc<Gate>, Pool, Permit) -> F) -> usize {
            std::mem::size_of::<F>()
        }
        let bytes = size(serve);
        assert!(bytes <= 1024, "{bytes} bytes");
    }
}
