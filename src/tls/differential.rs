//! The session against rustls' own buffered one: the same byte script through both, cut in other
//! places, must bring the same plaintext, the same ends and the same refusals.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::session::{Sealed, Session};

/// What both do.
trait Server {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), rustls::Error>;
    fn send(&mut self, bytes: &[u8]);
    fn close(&mut self);
    fn to_client(&mut self) -> Vec<u8>;
    fn plain(&mut self) -> Vec<u8>;
    fn peer_closed(&self) -> bool;
}

struct Ours {
    session: Session,
    sealed: Vec<u8>,
    plain: Vec<u8>,
}

impl Server for Ours {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), rustls::Error> {
        let mut buffer = Vec::new();
        self.session.put_partial(&mut buffer);
        buffer.extend_from_slice(bytes);
        let plain = &mut self.plain;
        let mut sealed = Sealed::new(&mut self.sealed);
        self.session.ingest(&mut buffer, |bytes| plain.extend_from_slice(bytes), &mut sealed)
    }

    fn send(&mut self, bytes: &[u8]) {
        self.session.seal(bytes, &mut Sealed::new(&mut self.sealed)).unwrap();
    }

    fn close(&mut self) {
        self.session.close_notify(&mut Sealed::new(&mut self.sealed)).unwrap();
    }

    fn to_client(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sealed)
    }

    fn plain(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.plain)
    }

    fn peer_closed(&self) -> bool {
        self.session.peer_closed()
    }
}

struct Theirs {
    connection: ServerConnection,
    plain: Vec<u8>,
    closed: bool,
}

impl Server for Theirs {
    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), rustls::Error> {
        while !bytes.is_empty() {
            self.connection.read_tls(&mut bytes).unwrap();
            let state = self.connection.process_new_packets()?;
            self.closed |= state.peer_has_closed();
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            self.connection.reader().read_exact(&mut plain).unwrap();
            self.plain.append(&mut plain);
            if self.closed {
                break;
            }
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) {
        self.connection.writer().write_all(bytes).unwrap();
    }

    fn close(&mut self) {
        self.connection.send_close_notify();
    }

    fn to_client(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn plain(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.plain)
    }

    fn peer_closed(&self) -> bool {
        self.closed
    }
}

#[derive(Clone, Debug)]
enum Step {
    ClientSends(usize),
    ServerSends(usize),
    ClientUpdatesKeys,
    ClientCloses,
    ServerCloses,
    /// A bit of what the client sends next is flipped.
    Tamper(usize),
    /// Bytes that are no record at all.
    Garbage(Vec<u8>),
}

/// All that can be seen from outside.
#[derive(Debug, Default, PartialEq, Eq)]
struct Transcript {
    at_server: Vec<u8>,
    at_client: Vec<u8>,
    server_saw_end: bool,
    client_saw_end: bool,
    server_error: Option<String>,
    client_error: Option<String>,
}

fn run(
    server: &mut dyn Server,
    client: ClientConfig,
    steps: &[Step],
    cuts: &[usize],
) -> Transcript {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut seen = Transcript::default();
    let mut cuts = cuts.iter().copied().cycle();
    let mut tampered = None;
    for step in [None].into_iter().chain(steps.iter().map(Some)) {
        let mut wire = Vec::new();
        match step {
            None => {}
            Some(Step::ClientSends(length)) => {
                // What rustls does not take into its buffer is not sent.
                let _ = client.writer().write(&pattern(*length));
            }
            Some(Step::ServerSends(length)) if !client.is_handshaking() => {
                server.send(&pattern(*length));
            }
            Some(Step::ServerSends(_)) => {}
            Some(Step::ClientUpdatesKeys) => drop(client.refresh_traffic_keys()),
            Some(Step::ClientCloses) => client.send_close_notify(),
            Some(Step::ServerCloses) => server.close(),
            Some(Step::Tamper(at)) => tampered = Some(*at),
            Some(Step::Garbage(bytes)) => wire.extend_from_slice(bytes),
        }
        // Until neither has anything to say.
        loop {
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            if let (Some(at), false) = (tampered, wire.is_empty()) {
                let at = at % wire.len();
                wire[at] ^= 1;
                tampered = None;
            }
            let mut rest = wire.as_slice();
            while !rest.is_empty() && seen.server_error.is_none() {
                let cut = cuts.next().unwrap_or(rest.len()).clamp(1, rest.len());
                if let Err(error) = server.feed(&rest[..cut]) {
                    seen.server_error = Some(format!("{error:?}"));
                }
                rest = &rest[cut..];
            }
            wire.clear();
            seen.at_server.extend(server.plain());
            seen.server_saw_end = server.peer_closed();
            let answer = server.to_client();
            let mut answer = answer.as_slice();
            while !answer.is_empty() && seen.client_error.is_none() && !seen.client_saw_end {
                client.read_tls(&mut answer).unwrap();
                match client.process_new_packets() {
                    Err(error) => seen.client_error = Some(format!("{error:?}")),
                    Ok(state) => {
                        let mut plain = vec![0; state.plaintext_bytes_to_read()];
                        client.reader().read_exact(&mut plain).unwrap();
                        seen.at_client.append(&mut plain);
                        seen.client_saw_end = state.peer_has_closed();
                    }
                }
            }
            if !client.wants_write() || seen.client_error.is_some() {
                break;
            }
        }
        if seen.server_error.is_some() || seen.client_error.is_some() {
            break;
        }
    }
    seen
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn configs(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> (Arc<ServerConfig>, ClientConfig) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(chain[0].clone()).unwrap();
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), client)
}

fn both(
    versions: &[&'static rustls::SupportedProtocolVersion],
    steps: &[Step],
    cuts: &[usize],
) -> (Transcript, Transcript) {
    let (server, client) = configs(versions);
    let session = Session::new(Arc::clone(&server)).unwrap();
    let mut ours = Ours { session, sealed: Vec::new(), plain: Vec::new() };
    let connection = ServerConnection::new(server).unwrap();
    let mut theirs = Theirs { connection, plain: Vec::new(), closed: false };
    (run(&mut ours, client.clone(), steps, cuts), run(&mut theirs, client, steps, &[usize::MAX]))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..50_000).prop_map(Step::ClientSends),
        4 => (0usize..50_000).prop_map(Step::ServerSends),
        1 => Just(Step::ClientUpdatesKeys),
        1 => (0usize..10_000).prop_map(Step::Tamper),
    ]
}

fn last_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::ClientCloses),
        Just(Step::ServerCloses),
        proptest::collection::vec(0u8.., 1..50).prop_map(Step::Garbage),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn both_sessions_see_and_say_the_same(
        steps in proptest::collection::vec(step(), 0..6),
        last in last_step(),
        cuts in proptest::collection::vec(1usize..20_000, 1..8),
        tls12 in any::<bool>(),
    ) {
        let versions: &[&rustls::SupportedProtocolVersion] =
            if tls12 { &[&rustls::version::TLS12] } else { &[&rustls::version::TLS13] };
        let steps: Vec<Step> = steps
            .into_iter()
            // TLS 1.2 has no key updates.
            .filter(|step| !tls12 || !matches!(step, Step::ClientUpdatesKeys))
            .chain([last])
            .collect();
        let (ours, theirs) = both(versions, &steps, &cuts);
        prop_assert_eq!(ours, theirs);
    }
}

#[test]
fn single_bytes_make_whole_sessions() {
    let steps = [
        Step::ClientSends(20_000),
        Step::ServerSends(40_000),
        Step::ClientUpdatesKeys,
        Step::ClientSends(1),
        Step::ServerSends(1),
        Step::ClientCloses,
        Step::ServerSends(100),
        Step::ServerCloses,
    ];
    let (ours, theirs) = both(&[&rustls::version::TLS13], &steps, &[1]);
    assert_eq!(ours, theirs);
    assert_eq!((ours.at_server.len(), ours.at_client.len()), (20_001, 40_101));
    assert!(ours.server_saw_end && ours.client_saw_end);
}

#[test]
fn a_refused_client_is_told_why() {
    let (server, _) = configs(&[&rustls::version::TLS13]);
    let (_, client) = configs(&[&rustls::version::TLS12]);
    let session = Session::new(server).unwrap();
    let mut ours = Ours { session, sealed: Vec::new(), plain: Vec::new() };
    let seen = run(&mut ours, client, &[], &[100]);
    assert!(seen.server_error.unwrap().contains("PeerIncompatible"));
    assert_eq!(seen.client_error.unwrap(), "AlertReceived(ProtocolVersion)");
}
