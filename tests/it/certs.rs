//! Certificates change under open sockets: nobody is dropped, nothing is lost, and what is served
//! next is always a pair that fits.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::backend::Backend;
use crate::support::gate::Gate;
use crate::support::{eventually, soon};

/// How a pair of files is replaced.
#[derive(Clone, Copy, Debug)]
enum Change {
    InPlace,
    Rename,
    /// As the kubelet does it: `tls.crt → ..data/tls.crt`, and `..data` is swapped.
    DataSwap,
    HalfWritten,
    MismatchedKey,
}

const CHANGES: [Change; 5] =
    [Change::InPlace, Change::Rename, Change::DataSwap, Change::HalfWritten, Change::MismatchedKey];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_busy_sockets_outlive_twenty_certificate_changes() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    let (beat, beats) = watch::channel(0_u64);
    let echoed: Arc<Vec<AtomicU64>> = Arc::new((0..SOCKETS).map(|_| AtomicU64::new(0)).collect());
    let mut sockets = JoinSet::new();
    for number in 0..SOCKETS {
        let mut socket = gate.websocket("/ws").await;
        let (mut beats, echoed) = (beats.clone(), Arc::clone(&echoed));
        sockets.spawn(async move {
            while beats.changed().await.is_ok() {
                let message = format!("{number:08}:{:08}", *beats.borrow_and_update());
                socket.send(message.as_bytes()).await;
                assert_eq!(socket.read(message.len()).await, message.as_bytes());
                echoed[number].fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    // Each look sends a message on every socket that is done with its last one.
    let everybody_talks = || async {
        let before: Vec<u64> = echoed.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        eventually("an echo on every socket", || {
            beat.send_modify(|number| *number += 1);
            let mut now = echoed.iter().map(|count| count.load(Ordering::Relaxed)).zip(&before);
            std::future::ready(now.all(|(now, before)| now > *before).then_some(()))
        })
        .await;
    };

    everybody_talks().await;
    for round in 0..20 {
        let change = CHANGES[round % CHANGES.len()];
        let (chain, key) = gate.ca.issue(&["localhost", &format!("round-{round}.test")]);
        let served = served(&gate).await;
        match change {
            Change::InPlace => {
                fs::write(gate.dir.path().join("tls.crt"), &chain).unwrap();
                fs::write(gate.dir.path().join("tls.key"), &key).unwrap();
            }
            Change::Rename => {
                replace(&gate.dir.path().join("tls.crt"), &chain);
                replace(&gate.dir.path().join("tls.key"), &key);
            }
            Change::DataSwap => data_swap(gate.dir.path(), round, &chain, &key),
            Change::HalfWritten => {
                refused_after(&gate, "tls.crt", &chain[..chain.len() / 2]).await;
                assert_eq!(served, self::served(&gate).await, "{change:?}: the old pair stays");
                everybody_talks().await;
                fs::write(gate.dir.path().join("tls.key"), &key).unwrap();
                fs::write(gate.dir.path().join("tls.crt"), &chain).unwrap();
            }
            Change::MismatchedKey => {
                let (_, other) = gate.ca.issue(&["localhost"]);
                refused_after(&gate, "tls.key", &other).await;
                assert_eq!(served, self::served(&gate).await, "{change:?}: the old pair stays");
                everybody_talks().await;
                fs::write(gate.dir.path().join("tls.crt"), &chain).unwrap();
                fs::write(gate.dir.path().join("tls.key"), &key).unwrap();
            }
        }
        let new = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
        eventually(&format!("round {round}, {change:?}: the new certificate"), || async {
            beat.send_modify(|number| *number += 1);
            (self::served(&gate).await == new).then_some(())
        })
        .await;
        everybody_talks().await;
    }
    assert_eq!(gate.sum("wsgate_websockets_active").await, SOCKETS as f64);
    assert!(gate.metric("wsgate_tls_certificate_reloads_total{result=\"ok\"}").await >= 20.0);

    drop(beat);
    soon("the sockets' end", async {
        while let Some(ended) = sockets.join_next().await {
            ended.unwrap();
        }
    })
    .await;
    assert_eq!(backend.connections(), SOCKETS, "nobody came twice");
    gate.metric_becomes(&active(&backend), 0.0).await;
}

#[tokio::test]
async fn a_hang_up_reloads_without_waiting_for_the_poll() {
    let backend = Backend::echo().await;
    let tls = "tls: {certificates: [{cert: CERT, key: KEY}], reload_interval: 1h}";
    let gate = Gate::with(&[backend.address], tls).await;
    // A refusal is said once for the same content, and again for whoever asks.
    fs::write(gate.dir.path().join("tls.crt"), "no certificate").unwrap();
    gate.event("tls.cert.reload_failed", |_| true).await;
    let said = gate.events("tls.cert.reload_failed").len();
    gate.signal("HUP").await;
    eventually("the same refusal again", || {
        let now = gate.events("tls.cert.reload_failed").len();
        std::future::ready((now > said).then_some(()))
    })
    .await;

    let (chain, key) = gate.ca.issue(&["localhost", "hup.test"]);
    fs::write(gate.dir.path().join("tls.key"), &key).unwrap();
    fs::write(gate.dir.path().join("tls.crt"), &chain).unwrap();
    gate.signal("HUP").await;
    let reloaded = gate.event("tls.cert.reloaded", |_| true).await;
    assert_eq!(reloaded["tls.certificate.names"], "localhost,hup.test");
    let new = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
    assert_eq!(served(&gate).await, new);
}

#[tokio::test]
async fn validity_is_a_metric() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    gate.event("tls.cert.loaded", |line| line["tls.certificate.names"] == "localhost,127.0.0.1")
        .await;
    let sample = |edge| format!("wsgate_tls_certificate_{edge}_timestamp_seconds");
    eventually("the validity gauges", || async {
        let not_before = gate.metric(&(sample("not_before") + "{name=\"localhost\"}")).await;
        let not_after = gate.metric(&(sample("not_after") + "{name=\"localhost\"}")).await;
        (not_before > 0.0 && not_after > not_before).then_some(())
    })
    .await;
}

/// The certificate that a new handshake gets.
async fn served(gate: &Gate) -> CertificateDer<'static> {
    let client = gate.connect().await;
    let (_, session) = client.stream.get_ref();
    session.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Writes what must not be served and waits until the gate has said so.
async fn refused_after(gate: &Gate, name: &str, content: &str) {
    let sample = "wsgate_tls_certificate_reloads_total{result=\"error\"}";
    let said = gate.events("tls.cert.reload_failed").len();
    let counted = gate.metric(sample).await;
    fs::write(gate.dir.path().join(name), content).unwrap();
    eventually("tls.cert.reload_failed, logged and counted", || async {
        let logged = gate.events("tls.cert.reload_failed").len() > said;
        (logged && gate.metric(sample).await > counted).then_some(())
    })
    .await;
}

fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, path).unwrap();
}

fn data_swap(dir: &Path, round: usize, chain: &str, key: &str) {
    let version = format!("..v{round}");
    fs::create_dir(dir.join(&version)).unwrap();
    fs::write(dir.join(&version).join("tls.crt"), chain).unwrap();
    fs::write(dir.join(&version).join("tls.key"), key).unwrap();
    symlink(&version, dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        if !dir.join(name).is_symlink() {
            symlink(format!("..data/{name}"), dir.join("link")).unwrap();
            fs::rename(dir.join("link"), dir.join(name)).unwrap();
        }
    }
}

fn active(backend: &Backend) -> String {
    format!("wsgate_websockets_active{{backend=\"{}\"}}", backend.address)
}

const SOCKETS: usize = 200;
