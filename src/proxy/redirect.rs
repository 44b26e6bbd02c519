//! Plain HTTP on a second port: every request is sent to https, nothing else is served (RFC 9110
//! §15.4). No HSTS here: RFC 6797 §7.2 has browsers ignore it over plain HTTP.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, LOCATION};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::policy::origin::split_port;

/// Answers redirects until `cancel` is done. `https_port` stands in for the port in `Host`.
pub(crate) async fn serve(
    listener: TcpListener,
    https_port: u16,
    cancel: impl Future<Output = ()>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let accepting = async {
        loop {
            // The bound is kept by not accepting: the kernel's backlog waits.
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            tokio::spawn(async move {
                let answer = service_fn(move |request| async move {
                    Ok::<_, Infallible>(redirect(&request, https_port))
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .max_buf_size(HEAD_BYTES_MAX)
                    .serve_connection(TokioIo::new(stream), answer);
                let _ = timeout(CONNECTION_TIMEOUT, connection).await;
                drop(permit);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = cancel => {}
    }
}

fn redirect(request: &Request<Incoming>, https_port: u16) -> Response<Full<Bytes>> {
    let mut hosts = request.headers().get_all(HOST).into_iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        _ => None,
    };
    let location = host
        .and_then(|host| location(host, request.uri().path_and_query()?.as_str(), https_port))
        .and_then(|location| HeaderValue::try_from(location).ok());
    let mut response = Response::new(Full::default());
    *response.status_mut() = match (&location, request.method()) {
        (None, _) => StatusCode::BAD_REQUEST,
        // 308 keeps the method; 301 is what old clients know for GET.
        (Some(_), &Method::GET | &Method::HEAD) => StatusCode::MOVED_PERMANENTLY,
        (Some(_), _) => StatusCode::PERMANENT_REDIRECT,
    };
    if let Some(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Where `target` on `host` is over https. A Host without a port came in on port 80, so 443 is where
/// https is; one with a port came in on a port of our own, so https is on ours too.
fn location(host: &str, target: &str, https_port: u16) -> Option<String> {
    let (name, port) = split_port(host)?;
    let port = match (port, https_port) {
        (None | Some(80), _) | (_, 443) => String::new(),
        (Some(_), https_port) => format!(":{https_port}"),
    };
    target.starts_with('/').then(|| format!("https://{name}{port}{target}"))
}

const CONNECTIONS_MAX: usize = 256;
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_follows_the_way_in() {
        let cases = [
            ("a.example", 8443, "https://a.example/x?y"),
            ("a.example:80", 8443, "https://a.example/x?y"),
            ("a.example:8080", 8443, "https://a.example:8443/x?y"),
            ("a.example:8080", 443, "https://a.example/x?y"),
            ("[::1]:8080", 8443, "https://[::1]:8443/x?y"),
        ];
        for (host, port, expected) in cases {
            assert_eq!(location(host, "/x?y", port).as_deref(), Some(expected), "{host}");
        }
        assert_eq!(location("a b", "/", 443), None);
        assert_eq!(location("a.example", "*", 443), None);
    }
}
