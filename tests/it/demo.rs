//! `wsgate demo --self-test` as a person runs it.

use std::net::TcpListener;
use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::soon;

async fn self_test(arguments: &[&str]) -> Output {
    let running = Command::new(env!("CARGO_BIN_EXE_wsgate"))
        .args(["demo", "--self-test"])
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    soon("the self-test's end", running).await.unwrap()
}

#[tokio::test]
async fn the_self_test_says_what_it_saw_and_exits_0() {
    let output = self_test(&["--listen", "127.0.0.1:0"]).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let (checks, verdict) = said.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(verdict, "all good");
    assert!(checks.lines().count() >= 10, "{said}");
    assert!(checks.lines().all(|line| line.starts_with("ok  ")), "{said}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[tokio::test]
async fn one_backend_is_enough() {
    let output = self_test(&["--listen", "127.0.0.1:0", "--backends", "1"]).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
}

#[tokio::test]
async fn a_person_is_told_where_to_go_and_how_to_stop() {
    let mut running = Command::new(env!("CARGO_BIN_EXE_wsgate"))
        .args(["demo", "--listen", "127.0.0.1:0"])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
    let mut said = String::new();
    while !said.contains("Ctrl-C") {
        said += &soon("the invitation", lines.next_line()).await.unwrap().expect("more to say");
        said += "\n";
    }
    let open = said.lines().find_map(|line| line.trim().strip_prefix("Open")).unwrap();
    let address = open.trim().strip_prefix("https://").unwrap().trim_end_matches('/');
    TcpStream::connect(address).await.unwrap();
    let curl = said.lines().find(|line| line.starts_with("curl ")).unwrap();
    assert!(curl.ends_with(&format!("https://{address}/ws")), "{curl}");

    let pid = running.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &pid]).status().await.unwrap().success());
    assert_eq!(soon("the demo's end", running.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn an_address_in_use_is_named_with_a_way_out_and_exits_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = self_test(&["--listen", &address]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&address) && said.contains("--listen"), "{said}");
    assert!(output.stdout.is_empty());
}
