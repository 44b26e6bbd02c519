use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

use super::*;
use crate::certs::Problem;
use crate::certs::testing::{Dir, chain, ecdsa, ecdsa_at, key_lines, rename_over, rsa};
use crate::telemetry::clock::wall;

fn problems(files: &PairFiles) -> Vec<Problem> {
    let errors = CertStore::load(vec![files.clone()]).err().unwrap_or_default();
    errors.into_iter().map(|error| error.problem).collect()
}

fn refused(outcomes: &[ReloadOutcome]) -> (Vec<Problem>, bool) {
    match outcomes {
        [ReloadOutcome::Refused { problems, seen_before, .. }] => {
            (problems.iter().map(|error| error.problem.clone()).collect(), *seen_before)
        }
        other => panic!("one refusal, not {other:?}"),
    }
}

fn fingerprint(store: &CertStore) -> String {
    store.summaries()[0].sha256.clone()
}

#[test]
fn every_fault_has_its_name() {
    let dir = Dir::new();
    let (cert, key) = ecdsa(&["a.test"]);
    let (_, other_key) = ecdsa(&["a.test"]);
    let half = |text: &str| text[..text.len() / 2].to_owned();
    let garbled = cert.replacen("MII", "!!!", 1);
    let not_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let not_a_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let legacy = format!("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{key}");
    let big = "#".repeat(1024 * 1024 + 1);
    let der = String::from_utf8_lossy(&[0x30, 3, 2, 1, 1]).into_owned();
    let mismatch = Problem::KeyMismatch(dir.path().join("pair.crt"));
    let cases: [(&str, &str, &[Problem]); 20] = [
        (&cert, &key, &[]),
        (&format!("{cert}{key}"), &format!("{cert}{key}"), &[]),
        (&format!("# a comment\r\n{}", cert.replace('\n', "\r\n")), &key, &[]),
        ("", &key, &[Problem::Empty]),
        (&cert, "", &[Problem::Empty]),
        ("", "", &[Problem::Empty, Problem::Empty]),
        (&half(&cert), &key, &[Problem::Truncated]),
        (&cert, &half(&key), &[Problem::Truncated]),
        (&half(&cert), &half(&key), &[Problem::Truncated, Problem::Truncated]),
        (&format!("{cert}{}", half(&cert)), &key, &[Problem::Truncated]),
        (&garbled, &key, &[Problem::BadPem]),
        ("garbage", &key, &[Problem::NoCertificate]),
        (&cert, "garbage", &[Problem::NoKey]),
        (&key, &cert, &[Problem::KeyInPlaceOfCertificate, Problem::CertificateInPlaceOfKey]),
        (&format!("{cert}{not_x509}"), &key, &[Problem::BadCertificate(2)]),
        (&cert, not_a_key, &[Problem::BadKey]),
        (&cert, &encrypted, &[Problem::EncryptedKey]),
        (&cert, &legacy, &[Problem::EncryptedKey]),
        (&big, &der, &[Problem::TooLarge, Problem::Der]),
        (&cert, &other_key, &[mismatch]),
    ];
    for (n, (cert, key, want)) in cases.into_iter().enumerate() {
        let files = dir.write("pair", &(cert.to_owned(), key.to_owned()));
        assert_eq!(problems(&files), want, "case {n}");
    }
}

#[test]
fn what_is_not_a_readable_file_is_told_apart() {
    let dir = Dir::new();
    let good = dir.write("good", &ecdsa(&["a.test"]));
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("directory")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    symlink(at("loop"), at("loop")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
    assert!(made.success());
    for (name, want) in [
        ("directory", Problem::NotAFile),
        ("pipe", Problem::NotAFile),
        ("missing", Problem::Missing),
        ("dangling", Problem::Missing),
    ] {
        let cert = PairFiles { cert: at(name), ..good.clone() };
        let key = PairFiles { key: at(name), ..good.clone() };
        let found = [problems(&cert), problems(&key)].concat();
        assert_eq!(found, [want.clone(), want], "{name}");
    }
    let looping = PairFiles { cert: at("loop"), ..good };
    assert!(matches!(problems(&looping)[..], [Problem::Unreadable(_)]));
}

#[test]
fn a_load_tells_the_faults_of_all_pairs_with_their_files() {
    let dir = Dir::new();
    let good = dir.write("good", &ecdsa(&["a.test"]));
    let empty = dir.write("empty", &(String::new(), ecdsa(&["a.test"]).1));
    let gone = PairFiles { cert: dir.path().join("gone.crt"), key: dir.path().join("gone.key") };
    let errors = CertStore::load(vec![good, empty.clone(), gone.clone()]).unwrap_err();
    let files: Vec<_> = errors.iter().map(|error| &error.file).collect();
    assert_eq!(files, [&empty.cert, &gone.cert, &gone.key]);
    assert!(
        errors[0].to_string().ends_with("empty.crt: the file is empty; write the PEM text into it")
    );
}

#[test]
fn a_chain_is_kept_whole_and_its_order_is_checked() {
    let dir = Dir::new();
    let (leaf, intermediate, key) = chain("leaf.test");
    let whole = dir.write("whole", &(format!("{leaf}{intermediate}"), key.clone()));
    let store = CertStore::load(vec![whole]).unwrap();
    assert_eq!(store.served.load().pairs()[0].certified.cert.len(), 2);
    assert_eq!(store.summaries()[0].names, ["leaf.test"]);
    assert!(!store.summaries()[0].self_signed);
    let turned = dir.write("turned", &(format!("{intermediate}{leaf}"), key));
    assert_eq!(problems(&turned), [Problem::ChainOrder(2)]);
}

#[test]
fn keys_of_the_openssl_kinds_are_taken() {
    let dir = Dir::new();
    let kinds: [(&[&str], &str); 6] = [
        (&["-newkey", "rsa:2048"], "RSA 2048"),
        (&["-newkey", "rsa:3072"], "RSA 3072"),
        (&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "ECDSA P-256"),
        (&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"], "ECDSA P-384"),
        (&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"], "ECDSA P-521"),
        (&["-newkey", "ed25519"], "Ed25519"),
    ];
    for (kind, want) in kinds {
        let files = PairFiles { cert: dir.path().join("tls.crt"), key: dir.path().join("tls.key") };
        openssl(&files, kind);
        let store = CertStore::load(vec![files]).unwrap();
        assert_eq!(store.summaries()[0].key_type, want);
        assert_eq!(store.summaries()[0].name(), "a.test");
    }
    let weak = PairFiles { cert: dir.path().join("weak.crt"), key: dir.path().join("weak.key") };
    openssl(&weak, &["-newkey", "rsa:1024"]);
    assert_eq!(problems(&weak), [Problem::BadKey]);
}

fn openssl(files: &PairFiles, kind: &[&str]) {
    let output = std::process::Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=a.test"])
        .args(["-addext", "subjectAltName=DNS:a.test,IP:127.0.0.1"])
        .args(kind)
        .arg("-out")
        .arg(&files.cert)
        .arg("-keyout")
        .arg(&files.key)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_summary_says_what_openssl_says() {
    let dir = Dir::new();
    let now = wall();
    let files = dir.write("pair", &ecdsa_at(&["A.test", "*.b.test", "::1"], now));
    let summary = CertStore::load(vec![files.clone()]).unwrap().summaries().remove(0);
    let output = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(&files.cert)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.trim().ends_with(&summary.sha256), "{said} {}", summary.sha256);
    assert_eq!(summary.names, ["a.test", "*.b.test", "::1"]);
    assert_eq!(summary.days_left(now), 90);
    assert!(summary.self_signed && !summary.is_ca);
    assert_eq!(summary.file.as_deref(), Some(files.cert.as_path()));
}

#[test]
fn a_reload_serves_the_new_pair_only_once_it_is_sound() {
    let dir = Dir::new();
    let (old, new) = (ecdsa(&["a.test"]), ecdsa(&["a.test"]));
    let files = dir.write("pair", &old);
    let store = CertStore::load(vec![files.clone()]).unwrap();
    let first = fingerprint(&store);
    assert_eq!(store.reload(wall()), [ReloadOutcome::Unchanged]);

    fs::write(&files.cert, &new.0).unwrap();
    let mismatch = vec![Problem::KeyMismatch(files.cert.clone())];
    assert_eq!(refused(&store.reload(wall())), (mismatch.clone(), false));
    assert_eq!(refused(&store.reload(wall())), (mismatch.clone(), true));
    fs::remove_file(&files.key).unwrap();
    assert_eq!(refused(&store.reload(wall())), (vec![Problem::Missing], false));
    assert_eq!(fingerprint(&store), first);

    // What is served came back: nothing to do, and the next fault is a new one.
    rename_over(&files.cert, &old.0);
    rename_over(&files.key, &old.1);
    assert_eq!(store.reload(wall()), [ReloadOutcome::Unchanged]);
    fs::write(&files.cert, &new.0).unwrap();
    assert_eq!(refused(&store.reload(wall())), (mismatch, false));

    fs::write(&files.key, &new.1).unwrap();
    let outcomes = store.reload(wall());
    assert!(matches!(&outcomes[..], [ReloadOutcome::Reloaded(_)]), "{outcomes:?}");
    assert_ne!(fingerprint(&store), first);
    assert_eq!(store.reload(wall()), [ReloadOutcome::Unchanged]);
}

#[test]
fn one_bad_pair_does_not_hold_up_another() {
    let dir = Dir::new();
    let files = vec![dir.write("a", &ecdsa(&["a.test"])), dir.write("b", &ecdsa(&["b.test"]))];
    let store = CertStore::load(files).unwrap();
    let before = store.summaries();
    dir.write("a", &(String::new(), String::new()));
    dir.write("b", &ecdsa(&["c.test"]));
    let outcomes = store.reload(wall());
    assert!(matches!(outcomes[0], ReloadOutcome::Refused { .. }), "{outcomes:?}");
    assert!(matches!(outcomes[1], ReloadOutcome::Reloaded(_)), "{outcomes:?}");
    assert_eq!(store.summaries()[0], before[0]);
    assert_eq!(store.summaries()[1].names, ["c.test"]);
}

#[test]
fn an_expired_pair_is_served_at_a_start_and_refused_on_a_reload() {
    let dir = Dir::new();
    let long_ago = wall() - Duration::from_secs(100 * 86_400);
    let hour_ahead = wall() + Duration::from_secs(2 * 3600);
    let files = dir.write("pair", &ecdsa_at(&["old.test"], long_ago));
    let store = CertStore::load(vec![files]).unwrap();
    assert!(!store.default_is_valid(wall()) && store.default_is_valid(long_ago));
    assert!(store.warnings(wall())[0].contains("old.test expired"), "{:?}", store.warnings(wall()));

    dir.write("pair", &ecdsa(&["new.test"]));
    assert!(matches!(store.reload(wall())[..], [ReloadOutcome::Reloaded(_)]));
    assert!(store.default_is_valid(wall()) && store.warnings(wall()).is_empty());

    dir.write("pair", &ecdsa_at(&["old.test"], long_ago));
    assert!(matches!(refused(&store.reload(wall())).0[..], [Problem::Expired(_)]));
    // One that begins later is kept out until then, and taken when its time has come.
    dir.write("pair", &ecdsa_at(&["next.test"], hour_ahead));
    assert!(matches!(refused(&store.reload(wall())).0[..], [Problem::NotYetValid(_)]));
    assert_eq!(store.summaries()[0].names, ["new.test"]);
    assert!(matches!(store.reload(hour_ahead)[..], [ReloadOutcome::Reloaded(_)]));
    assert_eq!(store.summaries()[0].names, ["next.test"]);
}

#[test]
fn a_pair_in_memory_is_renewed_and_files_are_not() {
    let metrics = Metrics::new();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let store = CertStore::self_signed(&names, wall()).unwrap();
    assert!(store.is_self_signed_in_memory() && store.default_is_valid(wall()));
    assert_eq!(store.summaries()[0].names, names);
    assert_eq!(store.summaries()[0].file, None);
    assert_eq!(store.reload(wall()), []);
    let first = fingerprint(&store);
    let renewed = store.renew_self_signed(wall(), &metrics).unwrap();
    assert_ne!(renewed.sha256, first);
    assert_eq!(fingerprint(&store), renewed.sha256);
    assert_eq!(metrics.certificate_reloads.with_label_values(&["ok"]).get(), 1);

    let dir = Dir::new();
    let files = CertStore::load(vec![dir.write("pair", &ecdsa(&["a.test"]))]).unwrap();
    assert!(!files.is_self_signed_in_memory());
    assert!(matches!(files.renew_self_signed(wall(), &metrics), Err(DevError::NotInMemory)));
}

#[test]
fn nothing_printed_holds_key_material() {
    let dir = Dir::new();
    let (cert, key) = ecdsa(&["a.test"]);
    let store = CertStore::load(vec![dir.write("pair", &(cert.clone(), key.clone()))]).unwrap();
    let mut said = vec![format!("{store:?}"), format!("{:?}", store.summaries())];
    let glued = key.replace("-----BEGIN PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY----- ");
    let cut = key.replace("-----END", "");
    let illegal = key.replacen("MIG", "*IG", 1);
    for bad in [glued, cut, illegal, format!("x{key}"), ecdsa(&["b.test"]).1] {
        dir.write("pair", &(cert.clone(), bad));
        said.push(format!("{:?}", store.reload(wall())));
        let outcomes = store.reload(wall());
        let ReloadOutcome::Refused { problems, .. } = &outcomes[0] else {
            panic!("refused: {outcomes:?}")
        };
        said.extend(problems.iter().map(ToString::to_string));
    }
    for text in said {
        for line in key_lines(&key) {
            assert!(!text.contains(&line[line.len() / 2..]), "{text}");
        }
    }
}

/// Joins a client that trusts `roots` with a server that resolves by `store`; the chain it got.
fn shake(store: &Arc<CertStore>, roots: &Path, name: &str) -> Vec<CertificateDer<'static>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut trusted = RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(roots).unwrap() {
        trusted.add(cert.unwrap()).unwrap();
    }
    let client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(store) as Arc<dyn ResolvesServerCert>);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = rustls::ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets().unwrap();
    }
    client.peer_certificates().unwrap().to_vec()
}

#[test]
fn a_handshake_gets_the_pair_of_its_name_and_the_new_one_after_a_reload() {
    let dir = Dir::new();
    let first = dir.write("first", &ecdsa(&["first.test"]));
    let wild = dir.write("wild", &rsa(&["*.wild.test"]));
    let store = CertStore::load(vec![first.clone(), wild.clone()]).unwrap();
    let before = shake(&store, &first.cert, "first.test");
    shake(&store, &wild.cert, "FOO.wild.test");
    dir.write("first", &ecdsa(&["first.test"]));
    assert!(matches!(store.reload(wall())[0], ReloadOutcome::Reloaded(_)));
    let after = shake(&store, &first.cert, "first.test");
    assert_ne!(before, after);
}
