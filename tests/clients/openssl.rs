//! What an operator sees with `openssl s_client`.

use crate::gate::{Gate, Settings};
use crate::process::Finished;
use crate::tools::{Backend, run};

const TLS_1_2: Settings = Settings { tls: "min_version: \"1.2\"", ..Settings::DEFAULT };

#[test]
fn tls_1_3_with_the_first_suite_and_alpn() {
    let backend = Backend::start("ws_backend.mjs", &[]);
    let gate = Gate::start(&[&backend], "");
    let answer = s_client(&gate, &["-alpn", "h2,http/1.1"]);
    assert_negotiated(&answer, "New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384");
    assert_negotiated(&answer, "ALPN protocol: http/1.1");
    assert_negotiated(&answer, "Verify return code: 0 (ok)");
}

#[test]
fn the_order_of_suites_is_the_gates() {
    let backend = Backend::start("ws_backend.mjs", &[]);
    let gate = Gate::start(&[&backend], "");
    let offer = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384";
    let answer = s_client(&gate, &["-ciphersuites", offer]);
    assert_negotiated(&answer, "New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384");

    let offer = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";
    let answer = s_client(&gate, &["-ciphersuites", offer]);
    assert_negotiated(&answer, "New, TLSv1.3, Cipher is TLS_CHACHA20_POLY1305_SHA256");

    // Not in the default list.
    let answer = s_client(&gate, &["-ciphersuites", "TLS_AES_128_GCM_SHA256"]);
    assert_refused(&answer, "alert handshake failure");
}

#[test]
fn older_versions_are_refused_by_default() {
    let backend = Backend::start("ws_backend.mjs", &[]);
    let gate = Gate::start(&[&backend], "");
    assert_refused(&s_client(&gate, &["-tls1_2"]), "alert protocol version");
    assert_refused(&s_client(&gate, &TLS_1_1), "alert handshake failure");
    assert_refused(&s_client(&gate, &TLS_1_0), "alert handshake failure");
}

#[test]
fn tls_1_2_by_setting_has_ecdhe_aead_suites_only() {
    let backend = Backend::start("ws_backend.mjs", &[]);
    let gate = TLS_1_2.start(&[&backend], "");
    let answer = s_client(&gate, &["-tls1_2", "-alpn", "http/1.1"]);
    assert_negotiated(&answer, "New, TLSv1.2, Cipher is ECDHE-ECDSA-AES256-GCM-SHA384");
    assert_negotiated(&answer, "ALPN protocol: http/1.1");

    // 1.3 is still preferred, and what 1.2 had besides these suites is not there.
    let answer = s_client(&gate, &[]);
    assert_negotiated(&answer, "New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384");
    for weak in ["ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-SHA", "AES256-GCM-SHA384"] {
        let answer = s_client(&gate, &["-tls1_2", "-cipher", weak]);
        assert_refused(&answer, "alert handshake failure");
    }
    assert_refused(&s_client(&gate, &TLS_1_1), "alert handshake failure");
    assert_refused(&s_client(&gate, &TLS_1_0), "alert handshake failure");
}

/// OpenSSL 3 speaks them at security level 0 only. Such a client lacks an extension of 1.2, which
/// the gate misses before it looks at the version: hence the general alert.
const TLS_1_1: [&str; 3] = ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"];
const TLS_1_0: [&str; 3] = ["-tls1", "-cipher", "DEFAULT@SECLEVEL=0"];

fn s_client(gate: &Gate, arguments: &[&str]) -> Finished {
    let (address, authority) = (gate.https.to_string(), gate.authority().display().to_string());
    let mut all = vec!["s_client", "-connect", &address, "-servername", "localhost"];
    all.extend(["-CAfile", &authority, "-verify_return_error"]);
    all.extend(arguments);
    run("openssl", &all)
}

fn assert_negotiated(answer: &Finished, line: &str) {
    assert!(answer.status.success(), "{answer}");
    assert!(answer.stdout.lines().any(|own| own.trim() == line), "no {line:?}: {answer}");
}

/// The refusal must be the gate's: an alert from it, not a client that could not offer.
fn assert_refused(answer: &Finished, alert: &str) {
    assert!(!answer.status.success(), "{answer}");
    assert!(answer.stderr.contains(alert), "no {alert:?}: {answer}");
}
