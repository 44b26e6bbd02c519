//! The command line: what it prints, what it ends with, and which of four places has the last word.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::backend::Backend;
use crate::support::gate::Gate;
use crate::support::pki::Ca;

/// `wsgate` in a directory of its own, with nothing from the environment but what a test sets.
struct Shell {
    dir: TempDir,
    env: Vec<(String, String)>,
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Shell {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), env: Vec::new() }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.dir.path().join(name), text).unwrap();
        self
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_wsgate"))
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: status.code().expect("no signal"), out: text(stdout), err: text(stderr) }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

#[test]
fn a_mistake_on_the_command_line_is_exit_code_2() {
    let cases: [&[&str]; 7] = [
        &["--bogus"],
        &["frobnicate"],
        &["--upstreams", "no-port"],
        &["--upstreams", "a:1", "--tls-cert", "alone.crt"],
        &["--trust", "10.0.0.0/33"],
        &["--origin", "example.com"],
        &["--hash", "cookie"],
    ];
    for arguments in cases {
        let ended = Shell::new().run(arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
        assert!(ended.err.starts_with("error: "), "{ended:?}");
        assert!(ended.out.is_empty(), "{ended:?}");
    }
}

#[test]
fn a_port_in_use_is_exit_code_1_and_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for key in ["https", "http_redirect"] {
        let other = if key == "https" { "" } else { "https: \"127.0.0.1:0\", " };
        let shell = Shell::new().file(
            "wsgate.yaml",
            &format!(
                "listen: {{{other}{key}: \"{address}\"}}\nstatus: {{listen: null}}\n\
                 upstreams: {{servers: [\"127.0.0.1:1\"]}}\n"
            ),
        );
        let ended = shell.run(&[]);
        assert_eq!(ended.code, 1, "{ended:?}");
        let said = format!("cannot listen on {address}: ");
        assert!(ended.err.contains(&said), "{ended:?}");
        assert!(ended.err.contains("another process listens there"), "{ended:?}");
    }
}

#[test]
fn a_configuration_that_is_wrong_is_exit_code_78_for_every_command_that_reads_it() {
    let shell = Shell::new().file("wsgate.yaml", "upstreams: {servers: []}\nfoo: 1\n");
    let commands: [&[&str]; 5] =
        [&[], &["run"], &["check"], &["config", "show"], &["cert", "show"]];
    for arguments in commands {
        let ended = shell.run(arguments);
        assert_eq!(ended.code, 78, "{arguments:?}: {ended:?}");
        assert!(ended.err.contains("--> wsgate.yaml:2:1\n"), "{ended:?}");
    }
    let ended = Shell::new().run(&["check"]);
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(ended.err.contains("there are no backends"), "{ended:?}");
    assert!(ended.err.contains("--upstreams 10.0.0.1:8080"), "{ended:?}");
    let ended = Shell::new().run(&["-c", "nowhere.yaml"]);
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(ended.err.contains("there is no file `nowhere.yaml`"), "{ended:?}");
}

#[test]
fn commands_that_ask_a_gate_find_it_in_the_configuration() {
    // Bound and given back: nobody is there.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let at = |listen: &str, more: &str| {
        let yaml = format!("admin: {{listen: {listen}{more}}}\n");
        Shell::new().file("wsgate.yaml", &yaml).file("token", "too short")
    };
    let token = ", token_file: token";
    for command in [&["status"][..], &["reload"], &["drain"], &["drain", "--wait"]] {
        for (shell, code, says) in [
            (at(&format!("\"{gone}\""), ""), 1, format!("cannot reach the gate at {gone}")),
            (at("unix:/nowhere/a.sock", ""), 1, "at unix:/nowhere/a.sock: No such file".into()),
            (at("null", ""), 1, "admin.listen is null".into()),
            (at("127.0.0.1:0", ""), 1, "say where it is with --admin".into()),
            (at("10.0.0.1:1", ""), 78, "so it needs a token\n  --> wsgate.yaml:1:17".into()),
            (at("10.0.0.1:1", token), 78, "a token has from 16 to 4096 characters".into()),
            (at("127.0.0.1:1", ", token_file: none"), 78, "the token in `none`".into()),
        ] {
            let ended = shell.run(command);
            assert_eq!(ended.code, code, "{command:?}: {ended:?}");
            assert!(ended.err.starts_with("error: ") && ended.err.contains(&says), "{ended:?}");
        }
    }
    let check = at("127.0.0.1:1", token).run(&["check", "--upstreams", "127.0.0.1:1"]);
    assert_eq!(check.code, 78, "{check:?}");
    assert!(check.err.contains("`token`: a token has from 16"), "{check:?}");
    assert!(check.err.contains("--> wsgate.yaml:1:"), "{check:?}");
}

#[test]
fn five_mistakes_in_a_file_are_five_places_and_five_ways_out() {
    let shell = Shell::new().file(
        "wsgate.yaml",
        "version: 1\n\
         listen:\n  max_conections: 100\n\
         security:\n  origins: [example.com]\n  missing_origin: alow\n\
         limits:\n  idle_timeout: 1hour\n\
         upstreams:\n  servers: [\"10.0.0.1\"]\n",
    );
    let ended = shell.run(&["check"]);
    assert_eq!(ended.code, 78);
    for (place, reason, instead) in [
        ("3:3", "unknown field `max_conections`", "did you mean `max_connections`?"),
        ("5:13", "`example.com` has no scheme", "write `https://example.com`"),
        ("6:19", "`alow` is not", "did you mean `allow`?"),
        ("8:17", "`1hour` is not a length of time", "did you mean `1h`?"),
        ("10:13", "`10.0.0.1` names no port", "did you mean `10.0.0.1:8080`?"),
    ] {
        let mut errors = ended.err.split("error: ");
        let error = errors.find(|error| error.contains(&format!("--> wsgate.yaml:{place}\n")));
        let error = error.unwrap_or_else(|| panic!("nothing at {place}:\n{}", ended.err));
        assert!(error.starts_with(reason) && error.contains(instead), "{error}");
        assert!(error.contains('^'), "the line is shown, with a caret: {error}");
    }
    assert!(ended.err.ends_with("error: 5 errors in the configuration\n"), "{}", ended.err);
}

#[test]
fn mistakes_missing_backends_and_certificates_are_found_together_by_place() {
    let shell = Shell::new().file(
        "wsgate.yaml",
        "foo: 1\n\
         tls:\n  certificates:\n  - cert: tls.crt\n    key: tls.key\n  - cert: \"\"\n    key: b.key\n\
         limits: {ipv6_prefix: 0}\n\
         upstreams: {servers: []}\n\
         log: {level: loud}\n",
    );
    for arguments in [&["check"][..], &["run"], &[]] {
        let ended = shell.run(arguments);
        assert_eq!(ended.code, 78);
        let places: Vec<&str> = ended
            .err
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("--> wsgate.yaml:"))
            .collect();
        let found = ["1:1", "4:11", "5:10", "6:11", "7:10", "8:23", "9:22", "10:14"];
        assert_eq!(places, found, "{}", ended.err);
        for reason in ["tls.crt: no such file", "b.key: no such file", "there are no backends"] {
            assert!(ended.err.contains(reason), "{reason}: {}", ended.err);
        }
    }
}

#[test]
fn what_could_not_be_read_is_not_said_to_be_missing() {
    for text in [
        "upstreams: {servers: [a]}\n",
        "upstreams: {server: [\"a:1\"]}\n",
        "upstreams: {servers: [\"${UNSET}\"]}\n",
        "upstream:\n  servers: [\"a:1\"]\n",
        "upstreams: {servers: [\"a:1\"]\n",
    ] {
        let ended = Shell::new().file("wsgate.yaml", text).run(&["check"]);
        assert_eq!(ended.code, 78, "{text}{ended:?}");
        assert!(!ended.err.contains("there are no backends"), "{text}{}", ended.err);
        assert_eq!(ended.err.matches("error: ").count(), 1, "{text}{}", ended.err);
    }
}

#[test]
fn flags_contradict_each_other_as_the_file_would_and_are_named() {
    let shell = Shell::new().file(
        "wsgate.yaml",
        "upstreams: {servers: [\"a:1\"]}\nstatus: {listen: \"127.0.0.1:7\"}\n",
    );
    let cases: [(&[&str], &str, &str); 4] = [
        (&["--origin", "*", "--origin", "https://a.test"], "`*` allows every", "--origin"),
        (&["--upstreams", "a:1,a:1"], "`a:1` is in the list twice", "--upstreams"),
        (&["--listen", "127.0.0.1:1,127.0.0.1:1"], "is in the list twice", "--listen"),
        (&["--listen", "127.0.0.1:7"], "is taken by `status.listen`", "--listen"),
    ];
    for (flags, reason, name) in cases {
        for command in ["check", "run"] {
            let ended = shell.run(&[&[command][..], flags].concat());
            assert_eq!(ended.code, 78, "{flags:?}: {ended:?}");
            let said = ended.err.contains(reason)
                && ended.err.contains(&format!("\n  --> {name}\n"))
                && !ended.err.contains("wsgate.yaml");
            assert!(said, "{flags:?}: {}", ended.err);
        }
    }
    let shell = Shell::new().env("WSGATE_UPSTREAMS", "a:1,a:1");
    let ended = shell.run(&["config", "show"]);
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(ended.err.contains("\n  --> WSGATE_UPSTREAMS\n"), "{ended:?}");
    // The flag takes the place of what the file says, mistakes between values included.
    let twice = "upstreams: {servers: [\"a:1\", \"a:1\"]}\n";
    let shell = Shell::new().file("wsgate.yaml", twice);
    assert_eq!(shell.run(&["check"]).code, 78);
    assert_eq!(shell.run(&["check", "--upstreams", "a:1"]).code, 0);
}

#[test]
fn check_reads_certificates_and_compares_them_with_their_keys() {
    let shell = Shell::new().file(
        "wsgate.yaml",
        "tls:\n  certificates:\n  - cert: tls.crt\n    key: tls.key\n\
         upstreams: {servers: [\"127.0.0.1:1\"]}\n",
    );
    let missing = shell.run(&["check"]);
    assert_eq!(missing.code, 78);
    for (name, place) in [("tls.crt", "3:11"), ("tls.key", "4:10")] {
        assert!(missing.err.contains(&format!("{name}: no such file")), "{missing:?}");
        assert!(missing.err.contains(&format!("--> wsgate.yaml:{place}\n")), "{missing:?}");
    }
    let ca = Ca::new();
    ca.write(shell.path(), &["localhost"]);
    assert_eq!(shell.run(&["check"]).code, 0);
    let (_, other) = ca.issue(&["localhost"]);
    fs::write(shell.path().join("tls.key"), &other).unwrap();
    let mismatched = shell.run(&["check"]);
    assert_eq!(mismatched.code, 78);
    assert!(
        mismatched.err.contains("does not belong to the certificate in tls.crt"),
        "{mismatched:?}"
    );
    let shown = shell.run(&["cert", "show"]);
    assert_eq!(shown.code, 1);
    assert!(shown.out.contains("does not belong"), "{shown:?}");
}

#[test]
fn a_certificate_named_by_a_flag_is_not_blamed_on_the_file() {
    let shell = Shell::new().file("wsgate.yaml", "upstreams: {servers: [\"127.0.0.1:1\"]}\n");
    let ended = shell.run(&["check", "--tls-cert", "a.crt", "--tls-key", "a.key"]);
    assert_eq!(ended.code, 78);
    for (name, flag) in [("a.crt", "--tls-cert"), ("a.key", "--tls-key")] {
        let mut errors = ended.err.split("error: ");
        let error = errors.find(|error| error.starts_with(&format!("{name}: no such file")));
        assert!(error.unwrap().ends_with(&format!("\n  --> {flag}\n")), "{ended:?}");
    }
    assert!(!ended.err.contains("wsgate.yaml"), "{ended:?}");
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_defaults() {
    let ca = Ca::new();
    let pairs: Vec<TempDir> = (0..3).map(|_| TempDir::new().unwrap()).collect();
    let files = |at: usize| {
        let (cert, key) = ca.write(pairs[at].path(), &["localhost"]);
        (cert.display().to_string(), key.display().to_string())
    };
    let [file, env, flag] = [files(0), files(1), files(2)];
    let certificates = |(cert, key): &(String, String)| {
        format!("tls: {{certificates: [{{cert: \"{cert}\", key: \"{key}\"}}]}}")
    };
    let shown_pair = |(cert, key): &(String, String)| vec![cert.clone(), key.clone()];
    struct Setting {
        yaml: String,
        env: Vec<(&'static str, String)>,
        flags: Vec<(&'static str, String)>,
        /// What `config show` says of it, by who has the last word: flag, env, file, default.
        shown: [Vec<String>; 4],
    }
    let simple =
        |yaml: &str, name: (&'static str, &'static str), values: [&str; 2], shown: [&str; 4]| {
            Setting {
                yaml: yaml.to_owned(),
                env: vec![(name.0, values[0].to_owned())],
                flags: vec![(name.1, values[1].to_owned())],
                shown: shown.map(|text| vec![text.to_owned()]),
            }
        };
    let settings = [
        simple(
            "upstreams: {servers: [\"file:1\"]}",
            ("WSGATE_UPSTREAMS", "--upstreams"),
            ["env-a:1,env-b:1", "flag:1"],
            ["[\"flag:1\"]", "[\"env-a:1\", \"env-b:1\"]", "[\"file:1\"]", "servers: []"],
        ),
        simple(
            "listen: {https: \"127.0.0.1:1001\"}",
            ("WSGATE_LISTEN", "--listen"),
            ["127.0.0.1:1002", "127.0.0.1:1003"],
            ["127.0.0.1:1003", "127.0.0.1:1002", "127.0.0.1:1001", "https: null"],
        ),
        simple(
            "security: {origins: [\"https://file.test\"]}",
            ("WSGATE_ORIGIN", "--origin"),
            ["https://env.test", "https://flag.test"],
            ["https://flag.test", "https://env.test", "https://file.test", "[same-origin]"],
        ),
        simple(
            "security: {trusted_proxies: [10.1.0.0/16]}",
            ("WSGATE_TRUST", "--trust"),
            ["10.2.0.0/16", "10.3.0.0/16"],
            ["10.3.0.0/16", "10.2.0.0/16", "10.1.0.0/16", "trusted_proxies: []"],
        ),
        simple(
            "upstreams: {hash: \"cookie:file\"}",
            ("WSGATE_HASH", "--hash"),
            ["cookie:env", "cookie:flag"],
            ["cookie:flag", "cookie:env", "cookie:file", "hash: client_ip"],
        ),
        simple(
            "log: {format: text}",
            ("WSGATE_LOG_FORMAT", "--log-format"),
            ["json", "auto"],
            ["format: auto", "format: json", "format: text", "format: auto"],
        ),
        simple(
            "log: {level: error}",
            ("WSGATE_LOG_LEVEL", "--log-level"),
            ["warn", "debug"],
            ["level: debug", "level: warn", "level: error", "level: info"],
        ),
        Setting {
            yaml: certificates(&file),
            env: vec![("WSGATE_TLS_CERT", env.0.clone()), ("WSGATE_TLS_KEY", env.1.clone())],
            flags: vec![("--tls-cert", flag.0.clone()), ("--tls-key", flag.1.clone())],
            shown: [
                shown_pair(&flag),
                shown_pair(&env),
                shown_pair(&file),
                vec!["certificates: []".to_owned()],
            ],
        },
    ];
    for Setting { yaml, env, flags, shown } in settings {
        // Each round takes the strongest of what is left away.
        for (round, expected) in shown.iter().enumerate() {
            let mut shell = Shell::new();
            if round < 3 {
                shell = shell.file("wsgate.yaml", &yaml);
            }
            if round < 2 {
                shell.env.extend(env.iter().map(|(name, value)| ((*name).into(), value.clone())));
            }
            let mut arguments = vec!["config", "show"];
            if round < 1 {
                arguments.extend(flags.iter().flat_map(|(flag, value)| [*flag, value.as_str()]));
            }
            let ended = shell.run(&arguments);
            assert_eq!(ended.code, 0, "{yaml}, round {round}: {ended:?}");
            for text in expected {
                assert!(
                    ended.out.contains(text),
                    "{yaml}, round {round}: no {text}\n{}",
                    ended.out
                );
            }
        }
    }
}

#[test]
fn the_file_is_found_by_flag_then_environment_then_in_place() {
    let named = |name: &str| format!("upstreams: {{servers: [\"{name}:1\"]}}\n");
    let shell = Shell::new()
        .env("WSGATE_CONFIG", "env.yaml")
        .file("env.yaml", &named("env"))
        .file("flag.yaml", &named("flag"))
        .file("wsgate.yaml", &named("here"));
    assert!(shell.run(&["config", "show", "-c", "flag.yaml"]).out.contains("[\"flag:1\"]"));
    assert!(shell.run(&["config", "show"]).out.contains("[\"env:1\"]"));
    let shell = Shell::new().file("wsgate.yaml", &named("here"));
    assert!(shell.run(&["config", "show"]).out.contains("[\"here:1\"]"));
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    let help = Shell::new().run(&["--help"]).out;
    let names: Vec<&str> = help
        .split("[env:")
        .skip(1)
        .map(|rest| rest.trim_start().split_once('=').unwrap().0)
        .collect();
    assert!(names.len() >= 10, "{names:?}");
    let text = "upstreams: {servers: [\"file:1\"]}\nlog: {level: warn}\n";
    let empty = names.iter().fold(Shell::new().file("wsgate.yaml", text), |shell, name| {
        assert!(name.starts_with("WSGATE_"), "{name}");
        shell.env(name, "")
    });
    let unset = Shell::new().file("wsgate.yaml", text);
    for arguments in [&["config", "show"][..], &["check"]] {
        let (empty, unset) = (empty.run(arguments), unset.run(arguments));
        assert_eq!(empty.code, 0, "{empty:?}");
        assert_eq!((empty.out, empty.err), (unset.out, unset.err), "{arguments:?}");
    }
    let flag = empty.run(&["config", "show", "--upstreams", "flag:1"]);
    assert!(flag.out.contains("[\"flag:1\"]"), "{flag:?}");
}

#[test]
fn variables_are_filled_in_and_a_missing_one_has_its_place() {
    let text = "upstreams:\n  servers: [\"${HOST}:${PORT:-8080}\"]\n";
    let ended = Shell::new().env("HOST", "app").file("wsgate.yaml", text).run(&["config", "show"]);
    assert!(ended.out.contains("[\"app:8080\"]"), "{ended:?}");
    let ended = Shell::new().file("wsgate.yaml", text).run(&["check"]);
    assert_eq!(ended.code, 78);
    assert!(ended.err.contains("the variable `HOST` is not set"), "{ended:?}");
    assert!(ended.err.contains("--> wsgate.yaml:2:14\n"), "{ended:?}");
}

#[test]
fn what_config_shows_can_be_read_again() {
    let shell = Shell::new().file(
        "wsgate.yaml",
        "listen: {https: [\"127.0.0.1:1\", \"[::1]:2\"], http_redirect: \"127.0.0.1:3\"}\n\
         security: {origins: [\"https://*.example.com\"], trusted_proxies: [\"fd00::/8\"]}\n\
         limits: {upgrades_per_client: null, idle_timeout: null, max_age: 90m}\n\
         upstreams: {servers: [\"a:1\", \"[fd00::1]:2\"], hash: \"header:X-Room\", health: null}\n",
    );
    let first = shell.run(&["config", "show"]);
    assert_eq!(first.code, 0, "{first:?}");
    fs::write(shell.path().join("again.yaml"), &first.out).unwrap();
    let again = shell.run(&["config", "show", "-c", "again.yaml"]);
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(first.out, again.out);
}

#[test]
fn the_schema_is_json_and_the_default_file_is_good() {
    let shell = Shell::new();
    let schema = shell.run(&["config", "schema"]);
    let schema: serde_json::Value = serde_json::from_str(&schema.out).unwrap();
    assert!(
        schema["properties"]["upstreams"].is_object()
            || schema["properties"]["upstreams"]["$ref"].is_string()
    );
    assert_eq!(schema["additionalProperties"], false, "unknown keys are errors for editors too");
    let default = shell.run(&["config", "default"]);
    fs::write(shell.path().join("wsgate.yaml"), &default.out).unwrap();
    let checked = shell.run(&["check", "--upstreams", "127.0.0.1:9001"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    // What the file spells out is what is in force without it.
    let with_file = shell.run(&["config", "show", "--upstreams", "127.0.0.1:9001"]);
    let without = Shell::new().run(&["config", "show", "--upstreams", "127.0.0.1:9001"]);
    assert_eq!(with_file.out, without.out);
}

#[test]
fn a_development_pair_is_written_once_kept_secret_and_shown() {
    let shell = Shell::new();
    let written = shell.run(&["cert", "dev", "app.test"]);
    assert_eq!(written.code, 0, "{written:?}");
    let again = shell.run(&["cert", "dev", "app.test"]);
    assert_eq!(again.code, 1, "nothing is overwritten unasked: {again:?}");
    let forced = shell.run(&["cert", "dev", "app.test", "--force"]);
    assert_eq!(forced.code, 0, "{forced:?}");
    let shown = shell.run(&["cert", "show", "tls.crt", "--key", "tls.key"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(shown.out.contains("app.test") && shown.out.contains("tls.key matches"), "{shown:?}");
    let checked = shell.run(&[
        "check",
        "--upstreams",
        "a:1",
        "--tls-cert",
        "tls.crt",
        "--tls-key",
        "tls.key",
    ]);
    assert_eq!(checked.code, 0, "{checked:?}");
    let in_force = shell.run(&[
        "config",
        "show",
        "--upstreams",
        "a:1",
        "--tls-cert",
        "tls.crt",
        "--tls-key",
        "tls.key",
    ]);

    use std::os::unix::fs::PermissionsExt as _;
    let key = shell.path().join("tls.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o077, 0);
    let key = fs::read_to_string(key).unwrap();
    let secret = key.lines().nth(1).unwrap();
    for ended in [&written, &forced, &shown, &checked, &in_force] {
        assert!(!ended.out.contains(secret) && !ended.err.contains(secret), "{ended:?}");
    }
}

#[tokio::test]
async fn healthcheck_says_what_readyz_says() {
    let backend = Backend::echo().await;
    let gate = Gate::with(
        &[backend.address],
        "upstreams: {servers: [SERVERS], health: {interval: 50ms, timeout: 5s, rise: 1, fall: 1}}",
    )
    .await;
    gate.event("gate.ready", |_| true).await;
    let status = gate.status.to_string();
    assert_eq!(Shell::new().run(&["healthcheck", "--status", &status]).code, 0);
    let yaml = format!("status: {{listen: \"{status}\"}}\n");
    let shell = Shell::new().file("wsgate.yaml", &yaml);
    assert_eq!(shell.run(&["healthcheck"]).code, 0, "the configuration names the listener");
    drop(backend);
    gate.event("backend.down", |_| true).await;
    let failing = Shell::new().run(&["healthcheck", "--status", &status]);
    assert_eq!(failing.code, 1);
    assert!(failing.err.contains("backend"), "it says why: {failing:?}");
    drop(gate);
    let gone = Shell::new().run(&["healthcheck", "--status", &status]);
    assert_eq!(gone.code, 1, "{gone:?}");
}

#[test]
fn help_fits_a_screen_and_shows_three_examples() {
    let help = Shell::new().run(&["-h"]);
    assert_eq!(help.code, 0);
    assert!(help.out.lines().count() <= 24, "{}", help.out);
    let (_, examples) = help.out.split_once("Examples:\n").unwrap();
    assert_eq!(examples.lines().filter(|line| line.starts_with("  wsgate ")).count(), 3);
    let long = Shell::new().run(&["--help"]);
    assert_eq!(long.code, 0);
    for flag in ["--upstreams", "--listen", "--tls-cert", "--origin", "--trust", "--hash"] {
        assert!(long.out.contains(flag), "{flag}");
    }
}

#[test]
fn completions_and_version_go_to_standard_output() {
    let shell = Shell::new();
    let bash = shell.run(&["completions", "bash"]);
    assert_eq!(bash.code, 0);
    assert!(bash.out.contains("_wsgate()") && bash.out.contains("healthcheck"), "{bash:?}");
    let version = shell.run(&["version"]);
    assert_eq!(
        (version.code, version.out.as_str()),
        (0, concat!("wsgate ", env!("CARGO_PKG_VERSION"), "\n"))
    );
}

#[tokio::test]
async fn without_a_certificate_only_this_machine_is_served_and_hsts_is_not_sent() {
    let shown = Shell::new().run(&["check", "--upstreams", "127.0.0.1:1"]);
    assert!(shown.err.contains("self-signed and made in memory"), "{shown:?}");

    let file =
        wsgate::config::parse("wsgate.yaml", "upstreams: {servers: [\"127.0.0.1:1\"]}", &|_| None)
            .unwrap();
    let plan =
        wsgate::config::build(&file, &wsgate::config::Source::nowhere(), std::time::UNIX_EPOCH)
            .unwrap();
    assert!(plan.https.iter().all(|address| address.ip().is_loopback()), "{:?}", plan.https);

    let backend = Backend::echo().await;
    let gate = Gate::with(&[backend.address], "tls: {certificates: []}").await;
    let started = gate.event("gate.started", |_| true).await;
    assert!(started["warnings"].as_str().unwrap().contains("self-signed"), "{started}");
    let mut client = gate.connect_blindly().await;
    let page = format!("GET /page HTTP/1.1\r\nHost: {}\r\n\r\n", gate.host());
    let answer = client.ask(&page).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.all("strict-transport-security"), Vec::<&str>::new());
    assert_eq!(answer.one("x-content-type-options"), Some("nosniff"));
}
