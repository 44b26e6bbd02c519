//! Thousands of sockets at the end of a gate: none is forgotten, and they do not all come back at
//! once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::frames::{CLOSE, code, masked};
use crate::support::gate::Gate;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_closes_thousands_of_sockets_at_an_even_pace() {
    let told = Arc::<AtomicUsize>::default();
    let at_backend = Arc::clone(&told);
    let backend = Backend::start(move |mut talk| {
        let at_backend = Arc::clone(&at_backend);
        async move {
            talk.switch().await;
            let close = talk.frame().await.unwrap();
            assert_eq!((close.code(), close.masked), (Some(1012), true));
            at_backend.fetch_add(1, Ordering::SeqCst);
            talk.send(crate::support::frames::unmasked(CLOSE, &code(1012))).await;
            assert_eq!(talk.frame().await, None);
        }
    })
    .await;
    let drain = format!(
        "drain: {{delay: 0s, timeout: 60s, spread: {SPREAD_SECONDS}s, close_code: 1012}}
log: {{format: json, level: info}}"
    );
    let mut gate = Gate::with(&[backend.address], &drain).await;
    let clients = open(&gate).await;
    gate.signal("TERM").await;
    let begun = second(&gate.event("drain.started", |_| true).await);

    let mut ends = JoinSet::new();
    for mut client in clients {
        ends.spawn(async move {
            let close = client.frame().await;
            assert_eq!((close.code(), close.masked), (Some(1012), false));
            client.push(&masked(CLOSE, &code(1012))).await;
            assert!(client.rest().await.is_empty());
        });
    }
    while let Some(end) = ends.join_next().await {
        end.unwrap();
    }
    assert_eq!(gate.exit_code().await, 0);
    gate.event("drain.finished", |line| line["sockets_cut"] == 0).await;
    assert_eq!(told.load(Ordering::SeqCst), SOCKETS);

    let mut each_second = vec![0_usize; 60];
    for line in gate.events("ws.closed") {
        assert_eq!((&line["close.code"], &line["close.reason"]), (&1012.into(), &"drain".into()));
        let at = (DAY_SECONDS + second(&line) - begun) % DAY_SECONDS;
        each_second[at] += 1;
    }
    assert_eq!(each_second.iter().sum::<usize>(), SOCKETS);
    let most = each_second.iter().max().unwrap();
    assert!(most * 100 <= SOCKETS * 15, "{each_second:?}");
}

/// Opens all of them, some at a time.
async fn open(gate: &Gate) -> Vec<Client> {
    let some = Semaphore::new(64);
    let each = (0..SOCKETS).map(|_| async {
        let _turn = some.acquire().await.unwrap();
        gate.websocket("/ws").await
    });
    let clients = futures_util::future::join_all(each).await;
    eventually("all of them counted", || async {
        (gate.sum("wsgate_websockets_active").await == SOCKETS as f64).then_some(())
    })
    .await;
    clients
}

/// The second of the day a line was written in.
fn second(line: &serde_json::Value) -> usize {
    let time = line["ts"].as_str().and_then(|ts| ts.get(11..19)).unwrap();
    time.split(':').fold(0, |sum, part| sum * 60 + part.parse::<usize>().unwrap())
}

/// Each is two files here and two in the gate.
const SOCKETS: usize = 5000;

const SPREAD_SECONDS: usize = 10;

const DAY_SECONDS: usize = 24 * 3600;
