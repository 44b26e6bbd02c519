//! The demo without a browser: each promise tried once, through the front door.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use http::{Method, Response, StatusCode};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::backend::ASKED_BY_PAGE;
use super::client::{Answer, Client, Handshake, Socket, TLS12, TLS13, said, secured};
use super::{Listening, Stage, page};

/// How one check went: what was seen, or what was wrong.
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) result: Result<String, String>,
}

/// Tries everything, tells `report` of each check as it ends, and returns how many failed.
///
/// The order matters in two places: what opens few sockets comes before the burst that uses the
/// client's tokens up, and the counters are read last.
pub(crate) async fn self_test(
    stage: &Stage,
    listening: Listening,
    report: impl FnMut(&Outcome),
) -> usize {
    let client = Client::new(stage, listening);
    let origin = client.origin();
    let mut checks = Checks { report, failed: 0 };
    checks.check("page over https", page_is_served(&client)).await;
    checks.check("TLS 1.2 alone is refused", old_tls_is_refused(&client)).await;
    let socket = checks.check("messages come back", messages_come_back(&client, &origin)).await;
    checks.check("same user, same backend", users_stick(&client, &origin)).await;
    checks.check("users spread over backends", users_spread(&client, stage)).await;
    checks.check("forged X-Real-IP is dropped", forged_fields_are_dropped(&client, &origin)).await;
    let foreign = is_refused(&client, Some("https://evil.example"));
    checks.check("foreign Origin is refused", foreign).await;
    checks.check("missing Origin is refused", is_refused(&client, None)).await;
    checks.check("certificate changes, sockets stay", renewal(&client, socket)).await;
    checks.check("burst meets the rate limit", burst(&client, &origin)).await;
    checks.check("counters agree", counters_agree(&client)).await;
    checks.failed
}

struct Checks<R> {
    report: R,
    failed: usize,
}

impl<R: FnMut(&Outcome)> Checks<R> {
    /// Runs one check under its own deadline; what it leaves is for later ones.
    async fn check<T>(
        &mut self,
        name: &'static str,
        check: impl Future<Output = Result<(String, T), String>>,
    ) -> Option<T> {
        let result = match timeout(CHECK, check).await {
            Ok(result) => result,
            Err(_) => Err(format!("no end within {} s", CHECK.as_secs())),
        };
        let (result, left) = match result {
            Ok((seen, left)) => (Ok(seen), Some(left)),
            Err(wrong) => (Err(wrong), None),
        };
        self.failed += usize::from(result.is_err());
        (self.report)(&Outcome { name, result });
        left
    }
}

type Checked<T = ()> = Result<(String, T), String>;

async fn page_is_served(client: &Client<'_>) -> Checked {
    let mut bytes = 0;
    for path in ["/", "/app.js", "/style.css"] {
        let response = client.https(Method::GET, path, &[]).await?;
        expect(response.status(), StatusCode::OK)?;
        secured(response.headers())?;
        let policy = response.headers().get("content-security-policy");
        if policy.is_none_or(|policy| policy != page::POLICY) {
            return Err(format!("the content security policy of {path} is {policy:?}"));
        }
        bytes += response.body().len();
    }
    Ok((format!("3 files, {bytes} bytes, nosniff once, no HSTS while self-signed"), ()))
}

async fn old_tls_is_refused(client: &Client<'_>) -> Checked {
    match client.tls(TLS12, client.certificate()?).await {
        Ok(_) => Err("the handshake went through".to_owned()),
        Err(alert) if alert.contains("ProtocolVersion") => {
            Ok(("alert protocol_version".to_owned(), ()))
        }
        Err(other) => Err(format!("refused, but not for its version: {other}")),
    }
}

async fn messages_come_back(client: &Client<'_>, origin: &str) -> Checked<Socket> {
    let mut socket = open(client, "/ws?user=ada", origin).await?;
    socket.echoes(Message::text("grüße")).await?;
    socket.echoes(Message::binary(vec![0xA5; BINARY_BYTES])).await?;
    let seen = format!("from {}, a text and {} KiB binary", socket.backend(), BINARY_BYTES / 1024);
    Ok((seen, socket))
}

async fn users_stick(client: &Client<'_>, origin: &str) -> Checked {
    let first = open(client, "/ws?user=grace", origin).await?;
    let again = open(client, "/ws?user=grace", origin).await?;
    match first.backend() == again.backend() {
        true => Ok((format!("grace twice: {}", first.backend()), ())),
        false => Err(format!("{}, then {}", first.backend(), again.backend())),
    }
}

/// Ordinary requests stick as sockets do, and cost no tokens.
async fn users_spread(client: &Client<'_>, stage: &Stage) -> Checked {
    let mut seen = BTreeSet::new();
    for user in 0..USERS {
        let target = format!("/demo/info?user=user-{user}");
        let response = client.https(Method::GET, &target, &[]).await?;
        expect(response.status(), StatusCode::OK)?;
        let info: serde_json::Value = serde_json::from_slice(response.body()).map_err(said)?;
        seen.insert(info["backend"].as_str().ok_or("a backend without a name")?.to_owned());
    }
    let all = stage.backends.len();
    match seen.len() >= all.min(2) {
        true => Ok((format!("{USERS} users on {} of {all}", seen.len()), ())),
        false => Err(format!("{USERS} users all on {seen:?}")),
    }
}

async fn forged_fields_are_dropped(client: &Client<'_>, origin: &str) -> Checked {
    let handshake = Handshake {
        target: "/ws?user=mallory",
        origin: Some(origin),
        more: &[("X-Real-IP", FORGED), ("X-Forwarded-For", FORGED), ("Forwarded", "for=\"x\"")],
    };
    let Answer::Open(socket) = client.open(handshake).await? else {
        return Err("the handshake was refused".to_owned());
    };
    let told = |name: &str| socket.hello["headers"][name].as_str().unwrap_or("nothing").to_owned();
    let (real, forwarded) = (told("x-real-ip"), told("x-forwarded-for"));
    match real.contains(FORGED) || forwarded.contains(FORGED) || real != forwarded {
        true => Err(format!("the backend was told {real} and {forwarded}")),
        false => Ok((format!("the backend was told {real}"), ())),
    }
}

async fn is_refused(client: &Client<'_>, origin: Option<&str>) -> Checked {
    let handshake = Handshake { target: "/ws", origin, more: &[] };
    match client.open(handshake).await? {
        Answer::Open(socket) => Err(format!("it was let through to {}", socket.backend())),
        Answer::Refused(response) => {
            expect(response.status(), StatusCode::FORBIDDEN)?;
            Ok((reason(&response), ()))
        }
    }
}

/// As the page's button does it, with a socket open all along.
async fn renewal(client: &Client<'_>, socket: Option<Socket>) -> Checked {
    let mut socket = socket.ok_or("there is no open socket")?;
    let pinned = client.certificate()?;
    let before = client.fingerprint().await?;
    let unasked = client.https(Method::POST, "/demo/certificate", &[]).await?;
    expect(unasked.status(), StatusCode::FORBIDDEN)?;
    let renewed = client.https(Method::POST, "/demo/certificate", &[(ASKED_BY_PAGE, "1")]).await?;
    expect(renewed.status(), StatusCode::OK)?;
    let after = client.fingerprint().await?;
    if before == after {
        return Err(format!("new handshakes still see {before}"));
    }
    if client.tls(TLS13, pinned).await.is_ok() {
        return Err("a handshake still shows the old certificate".to_owned());
    }
    socket.echoes(Message::text("still here")).await?;
    let short = |fingerprint: &str| fingerprint.chars().take(11).collect::<String>();
    Ok((format!("{}… → {}…, the open socket echoes", short(&before), short(&after)), ()))
}

async fn burst(client: &Client<'_>, origin: &str) -> Checked {
    let mut open = Vec::new();
    while open.len() < BURST {
        let handshake = Handshake { target: "/ws?user=ada", origin: Some(origin), more: &[] };
        let response = match client.open(handshake).await? {
            Answer::Open(socket) => {
                open.push(socket);
                continue;
            }
            Answer::Refused(response) => response,
        };
        expect(response.status(), StatusCode::TOO_MANY_REQUESTS)?;
        let after = response.headers().get("retry-after").and_then(|after| after.to_str().ok());
        let seconds = after.and_then(|after| after.parse::<u32>().ok()).filter(|after| *after > 0);
        let seconds = seconds.ok_or_else(|| format!("Retry-After is {after:?}"))?;
        return Ok((format!("429 after {} more, Retry-After: {seconds}", open.len()), ()));
    }
    Err(format!("{BURST} at once and none was refused"))
}

/// What the gate counted is what this client saw; it may be a moment behind.
async fn counters_agree(client: &Client<'_>) -> Checked {
    let accepted = client.accepted();
    let sample = format!("wsgate_upgrades_total{{outcome=\"accepted\"}} {accepted}");
    loop {
        let metrics = client.status("/metrics").await?;
        if metrics.lines().any(|line| line == sample) {
            return Ok((sample, ()));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn open(client: &Client<'_>, target: &str, origin: &str) -> Result<Socket, String> {
    match client.open(Handshake { target, origin: Some(origin), more: &[] }).await? {
        Answer::Open(socket) => Ok(*socket),
        Answer::Refused(response) => Err(format!("refused: {}", reason(&response))),
    }
}

/// Status and the first line of the reason.
fn reason(response: &Response<Option<Vec<u8>>>) -> String {
    let body = response.body().as_deref().unwrap_or_default();
    let body = String::from_utf8_lossy(body);
    let line = body.lines().next().unwrap_or_default();
    format!("{} {line}", response.status().as_u16()).trim_end().to_owned()
}

fn expect(found: StatusCode, wanted: StatusCode) -> Result<(), String> {
    match found == wanted {
        true => Ok(()),
        false => Err(format!("{found} instead of {wanted}")),
    }
}

/// For one check. Only a broken gate needs it, and then the first failures are the telling ones.
const CHECK: Duration = Duration::from_secs(5);

/// Between two looks at the counters.
const LOOK: Duration = Duration::from_millis(20);

const BINARY_BYTES: usize = 64 * 1024;
const USERS: u32 = 24;

/// RFC 5737: nobody's address.
const FORGED: &str = "203.0.113.7";

/// More than tokens and refill give, even where each takes a tenth of a second.
const BURST: usize = 40;
