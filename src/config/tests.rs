//! The configuration from text to `File`, and the files that must keep in step with it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;

use super::file::Heartbeat;
use super::*;

fn env(name: &str) -> Option<String> {
    match name {
        "SERVER" => Some("10.0.0.9:80".to_owned()),
        "LIMIT" => Some("7".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn good(text: &str) -> File {
    parse("wsgate.yaml", text, &env).unwrap_or_else(|errors| panic!("{text}\n{}", all(&errors)))
}

fn errors(text: &str) -> Vec<ConfigError> {
    parse("wsgate.yaml", text, &env).expect_err(text)
}

fn all(errors: &[ConfigError]) -> String {
    errors.iter().map(|error| format!("{error}\n")).collect()
}

/// `line:col message`, with the suggestion behind `→`.
fn brief(error: &ConfigError) -> String {
    let (line, col) = error.line_col();
    let suggestion = error.suggestion.iter().map(|text| format!(" → {text}"));
    format!("{line}:{col} {}{}", error.message, suggestion.collect::<String>())
}

#[test]
fn nothing_written_is_all_defaults() {
    for text in ["", "# only this\n", "---\n", "null\n", "\u{feff}", "listen:\nlimits:\n# x\n"] {
        assert_eq!(good(text), File::default(), "{text:?}");
    }
}

#[test]
fn every_mistake_has_its_place_and_what_to_write_instead() {
    let cases = [
        ("lisen: {}", "1:1 unknown field `lisen` → listen"),
        ("listen:\n  max_conections: 10", "2:3 unknown field `max_conections` → max_connections"),
        (
            "listen:\n  max_connections: ten",
            "2:20 `ten` is not `auto` or a whole number from 1 to 4294967295",
        ),
        (
            "listen:\n  max_connections: Auto",
            "2:20 `Auto` is not `auto` or a whole number from 1 to 4294967295 → auto",
        ),
        (
            "listen:\n  https: 8443",
            "2:10 `8443` is not an address such as `[::]:8443` or `127.0.0.1:8443` → :8443",
        ),
        (
            "listen:\n  https: [\":8443\", localhost:80]",
            "2:20 `localhost:80` is not an address such as `[::]:8443` or `127.0.0.1:8443` → 127.0.0.1:80",
        ),
        ("listen:\n  https: []", "2:10 there is no address in the list"),
        ("listen:\n  https: [\":1\", \"[::]:1\"]", "2:17 `[::]:1` is in the list twice"),
        (
            "listen:\n  https: {a: 1}",
            "2:10 expected an address such as `[::]:8443`, or a list of them, found a mapping",
        ),
        (
            "listen: {https: \":1\", http_redirect: \":1\"}",
            "1:38 `[::]:1` is taken by another listener",
        ),
        (
            "listen:\n  handshake_timeout: 10",
            "2:22 `10` has no unit (`ms`, `s`, `m`, `h` or `d`) → 10s",
        ),
        ("listen:\n  handshake_timeout: 0s", "2:22 this time must be above zero"),
        ("listen: [a]", "1:9 expected a mapping, found a list"),
        ("listen: 8443", "1:9 expected a mapping, found `8443`"),
        ("- a", "1:1 expected a mapping, found a list"),
        ("version: 2", "1:10 version 2 of the format is not known here → 1"),
        ("version: one", "1:10 expected a whole number, found `one`"),
        ("version: \"1\"", "1:10 expected a whole number, found the text \"1\" → 1"),
        ("tls:\n  certificates:\n    - cert: a.pem", "3:7 missing field `key`"),
        (
            "tls:\n  certificates:\n    - cert: a.pem\n      kee: b.pem",
            "4:7 unknown field `kee` → key",
        ),
        (
            "tls:\n  certificates:\n    - {cert: a.pem, key: }",
            "3:21 expected the path of a file, found null",
        ),
        (
            "tls:\n  certificates:\n    - {cert: a.pem, key: \"\"}",
            "3:26 the path of a file is empty",
        ),
        ("tls:\n  certificates: a.pem", "2:17 expected a list, found `a.pem` → [a.pem]"),
        ("tls:\n  min_version: 1.1", "2:16 `1.1` is not `1.3` or `1.2` → 1.3"),
        ("tls:\n  ciphers: []", "2:12 there is no suite of TLS 1.3 in the list"),
        (
            "tls:\n  ciphers: [tls-aes-256-gcm-sha384]",
            "2:13 `tls-aes-256-gcm-sha384` is not known here → TLS_AES_256_GCM_SHA384",
        ),
        (
            "tls: {min_version: \"1.2\", ciphers: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]}",
            "1:36 there is no suite of TLS 1.3 in the list",
        ),
        (
            "tls:\n  ciphers:\n    - TLS_AES_256_GCM_SHA384\n    - TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            "4:7 `TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384` is a suite of TLS 1.2, which is switched off",
        ),
        ("tls:\n  reload_interval: 0ms", "2:20 this time must be above zero"),
        (
            "security:\n  origins: same-origin",
            "2:12 expected a list, found `same-origin` → [same-origin]",
        ),
        ("security:\n  origins:", "2:3 expected a list, found null → []"),
        (
            "security:\n  origins: [same_origin]",
            "2:13 `same_origin` is not an Origin → same-origin",
        ),
        (
            "security:\n  origins: [app.example.com]",
            "2:13 `app.example.com` has no scheme; write `https://app.example.com`",
        ),
        (
            "security:\n  origins: [same-origin, \"*\"]",
            "2:26 `*` allows every Origin, so what stands beside it means nothing",
        ),
        ("security:\n  missing_origin: alow", "2:19 `alow` is not `deny` or `allow` → allow"),
        (
            "security:\n  trusted_proxies: [10.0.0.1/8]",
            "2:21 `10.0.0.1/8` has bits set behind the /8 → 10.0.0.0/8",
        ),
        (
            "security:\n  hsts: {include_subdomains: yes}",
            "2:30 expected `true` or `false`, found `yes` → true",
        ),
        (
            "security:\n  hsts: {preload: true}",
            "2:19 the preload list takes no name without its subdomains",
        ),
        (
            "security:\n  hsts: {max_age: 364d, include_subdomains: true, preload: true}",
            "2:60 the preload list takes no name with a `max_age` below `365d`",
        ),
        ("limits:\n  upgrades_per_client: 5/s", "2:24 expected a mapping, found `5/s`"),
        (
            "limits:\n  upgrades_per_client: {rate: 5}",
            "2:31 `5` is not a rate such as `5/s`, `300/m` or `1000/h` → 5/s",
        ),
        (
            "limits:\n  upgrades_per_client: {rate: 0/s}",
            "2:31 `0/s` lets nobody in; `null` in place of the limit lifts it",
        ),
        (
            "limits:\n  upgrades_per_client: {burst: 0}",
            "2:32 expected a whole number above 0, found `0`",
        ),
        ("limits:\n  connections_per_client: -1", "2:27 `-1` is below zero"),
        (
            "limits:\n  tracked_clients: 100_000",
            "2:20 expected a whole number, found `100_000` → 100000",
        ),
        ("limits:\n  ipv6_prefix: 0", "2:16 `0` is not from 1 to 128"),
        ("limits:\n  ipv6_prefix: 129", "2:16 `129` is not from 1 to 128"),
        ("limits:\n  ipv6_prefix: 256", "2:16 `256` is above 255"),
        (
            "limits:\n  header_size: 16KB",
            "2:16 `16KB` is not a size such as `512B`, `64KiB` or `1MiB` → 16KiB",
        ),
        ("limits:\n  header_size: 1023", "2:16 `1023B` is not from `1KiB` to `1MiB`"),
        ("limits:\n  header_size: 2MiB", "2:16 `2MiB` is not from `1KiB` to `1MiB`"),
        ("limits:\n  idle_timeout: 0s", "2:17 zero would end every socket at once"),
        ("limits:\n  max_age: 0h", "2:12 zero would end every socket at once"),
        ("upstreams:\n  servers: [10.0.0.1]", "2:13 `10.0.0.1` names no port → 10.0.0.1:8080"),
        (
            "upstreams:\n  servers: [\"http://app:80\"]",
            "2:13 `http://app:80` is not a server such as `10.0.0.1:8080` or `app:8080` → app:80",
        ),
        ("upstreams:\n  servers:\n    - a:1\n    - b\n    - A:1", "4:7 `b` names no port → b:8080"),
        ("upstreams:\n  servers:\n    - a:1\n    - b\n    - A:1", "5:7 `a:1` is in the list twice"),
        ("upstreams:\n  hash: cookie", "2:9 `cookie` needs a name: write `cookie:NAME`"),
        (
            "upstreams:\n  hash: clientip",
            "2:9 `clientip` is not one of client_ip, cookie:NAME, header:NAME, query:NAME, path → client_ip",
        ),
        ("upstreams:\n  health: {interval: 0s}", "2:22 this time must be above zero"),
        ("upstreams:\n  health: {rise: two}", "2:18 expected a whole number, found `two`"),
        (
            "upstreams:\n  connect_timeout: 0s\n  response_timeout: 0s",
            "3:21 this time must be above zero",
        ),
        ("upstreams:\n  retries: ${LIMITS}", "2:12 the variable `LIMITS` is not set"),
        ("forward:\n  proto: ws", "2:10 `ws` is not `https` or `wss` → wss"),
        ("http: {enabled: on}", "1:17 expected `true` or `false`, found `on` → true"),
        ("status:\n  listen: 0.0.0.0", "2:11 `0.0.0.0` names no port → 0.0.0.0:8443"),
        (
            "log:\n  level: warning",
            "2:10 `warning` is not `error`, `warn`, `info`, `debug` or `trace` → warn",
        ),
        (
            "admin:\n  listen: 0.0.0.0:9181",
            "2:11 `0.0.0.0:9181` can be reached from elsewhere, so it needs a token",
        ),
        (
            "admin:\n  listen: /run/a.sock",
            "2:11 `/run/a.sock` is not an address → unix:/run/a.sock",
        ),
        ("admin:\n  token_file: \"\"", "2:15 the path of a file is empty"),
        (
            "status: {listen: \":1\"}\nadmin: {listen: \":1\", token_file: a}",
            "2:17 `[::]:1` is taken by another listener",
        ),
        ("log:\n  query_allow: [\"\"]", "2:17 the name is empty"),
        (
            "log:\n  level: [info]",
            "2:10 expected `error`, `warn`, `info`, `debug` or `trace`, found a list",
        ),
        ("log:\n  level: info\n  level: warn", "3:3 `level` is given twice"),
    ];
    for (text, expected) in cases {
        let found: Vec<_> = errors(text).iter().map(brief).collect();
        assert!(
            found.iter().any(|found| found == expected),
            "{text}\nexpected {expected}\nfound    {found:#?}"
        );
    }
}

#[test]
fn five_mistakes_are_all_found_and_none_twice() {
    let text = "\
listen:
  max_conections: 10
  handshake_timeout: 10
security:
  origins: [app.example.com, same-origin]
  hsts: {preload: true, include_subdomains: tru}
upstreams:
  servers: [a:80, http://b:80, a:80]
  hash: ip
";
    let found: Vec<_> = errors(text).iter().map(|error| error.line_col()).collect();
    assert_eq!(found, [(2, 3), (3, 22), (5, 13), (6, 45), (8, 19), (8, 32), (9, 9)]);
}

#[test]
fn one_mistake_is_told_once() {
    let cases = [
        // The default of what could not be read must not be judged.
        "security: {hsts: {preload: true, include_subdomain: true}}",
        "security: {hsts: {preload: true, include_subdomains: ja}}",
        "tls: {min_version: 1.20, ciphers: [TLS_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]}",
        "tls: {ciphers: [TLS_AES]}",
        "listen: {https: [a]}",
        "tls: {certificates: [{cert: a, kye: b}]}",
        "tls: {certificates: [{cert: a, key: [b]}]}",
        "tls: {certificates: [{cert: a}]}",
        "upstreams: {servers: [\"${NONE}\"]}",
    ];
    for text in cases {
        let found = errors(text);
        assert_eq!(found.len(), 1, "{text}\n{}", all(&found));
    }
}

#[test]
fn a_field_in_the_wrong_section_is_told_where_it_belongs() {
    let found = errors("trusted_proxies: []\ntls: {bananas: 1}\n");
    assert_eq!(found[0].help.as_deref(), Some("`trusted_proxies` belongs in `security`"));
    let fields =
        "the fields here are `certificates`, `min_version`, `ciphers` or `reload_interval`";
    assert_eq!(found[1].help.as_deref(), Some(fields));
}

#[test]
fn yaml_surprises_come_with_advice() {
    let cases = [
        ("listen: {https: [::]:8443}", "needs quotes"),
        ("listen:\n  https: [::]:8443", "needs quotes"),
        ("security:\n  origins: [*]", "a star needs quotes"),
        ("upstreams:\n  servers: [${SERVER}]", "inside `[ ]` and `{ }`, quote it"),
        ("listen:\n\thttps: null", "not with tabs"),
    ];
    for (text, advice) in cases {
        let found = errors(text);
        let help = found[0].help.clone().unwrap_or_default();
        assert!(help.contains(advice), "{text}\n{}", all(&found));
    }
}

#[test]
fn the_error_is_printed_with_its_line() {
    let found = errors("listen:\n  # more\n  max_conections: 10\n");
    let expected = "error: unknown field `max_conections`, did you mean `max_connections`?\n  \
                    --> wsgate.yaml:3:3\n   |\n 3 |   max_conections: 10\n   |   ^^^^^^^^^^^^^^\n";
    assert_eq!(all(&found), expected);
}

#[test]
fn variables_are_values_of_any_type() {
    let text = "\
upstreams: {servers: [\"${SERVER}\", \"${OTHER:-b:80}\"], retries: \"${LIMIT}\"}
limits: {connections_per_client: \"${EMPTY}\"}
tls: {certificates: [{cert: \"$${x}\", key: b}]}
";
    let file = good(text);
    let servers: Vec<_> = file.upstreams.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["10.0.0.9:80", "b:80"]);
    assert_eq!(file.upstreams.retries, 7);
    assert_eq!(file.limits.connections_per_client, None);
    assert_eq!(file.tls.certificates[0].cert.to_str(), Some("${x}"));
}

#[test]
fn null_is_not_the_default_where_it_means_something() {
    let text = "limits: {upgrades_per_client: null, idle_timeout: ~, connections_per_client: null}
upstreams: {health: null}\nstatus: {listen: null}";
    let file = good(text);
    assert_eq!(file.limits.upgrades_per_client, None);
    assert_eq!(file.limits.idle_timeout, None);
    assert_eq!(file.upstreams.health, None);
    assert_eq!(file.status.listen, None);
    let file = good("limits: {upgrades_per_client: {burst: 3}}");
    assert_eq!(file.limits.upgrades_per_client.map(|limit| limit.rate.to_string()).unwrap(), "5/s");
}

#[test]
fn tls_1_2_brings_its_suites_unless_some_are_named() {
    assert_eq!(File::default().tls.suites().len(), 2);
    assert_eq!(good("tls: {min_version: 1.2}").tls.suites().len(), 8);
    let named = "tls: {min_version: 1.2, ciphers: [TLS_AES_256_GCM_SHA384, \
                 TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]}";
    assert_eq!(good(named).tls.suites().len(), 2);
}

#[test]
fn a_later_check_can_say_where_a_value_was_written() {
    let text =
        "tls:\n  certificates:\n    - cert: a.pem\n      key: b.pem\nupstreams:\n  hash: path\n";
    let (_, source) = read("f.yaml", text, &env);
    let cases = [
        ("tls.certificates.0.key", (4, 12), true),
        ("tls.certificates.0", (3, 7), true),
        ("tls.certificates.1.key", (2, 3), false),
        ("upstreams", (5, 1), true),
        ("upstreams.servers", (5, 1), false),
        ("log.level", (1, 1), false),
    ];
    for (path, place, written) in cases {
        assert_eq!(source.error(path, "no").line_col(), place, "{path}");
        assert_eq!(source.has(path), written, "{path}");
    }
}

#[test]
fn the_default_file_spells_out_every_key_and_its_default() {
    let mut file = good(default_file());
    assert!(!file.upstreams.servers.is_empty());
    file.upstreams.servers.clear();
    assert_eq!(file, File::default());
    let (_, source) = read("wsgate.yaml", default_file(), &env);
    // What is in a section that is null by default stands in its comment.
    let spelled_out = |path: &&String| !path.contains("[]") && !path.starts_with("heartbeat.");
    for path in show::paths().iter().filter(spelled_out) {
        assert!(source.has(path), "{path} is not in config/wsgate.yaml");
    }
}

#[test]
fn the_example_files_are_good_and_what_is_shown_reads_back() {
    let examples = [
        default_file(),
        include_str!("../../config/edge.yaml"),
        include_str!("../../config/sidecar.yaml"),
        "",
        "listen: {max_connections: 9, https: [\":1\", \":2\"]}\nlog: {query_allow: [\"\", a b, '12', 'null', \"ä\\n\\t\\\"${SERVER}$\"]}",
        "tls: {certificates: [{cert: '$${A} # \\x', key: 1.5}]}",
        "admin: {listen: 'unix:/run/a b # c.sock', token_file: 'no: token'}",
        "admin: {listen: null}\nstatus: {listen: 127.0.0.1:9181}",
    ];
    for text in examples {
        let text = text.replace("[\"\", a b", "[a b");
        let file = good(&text);
        let shown = show(&file);
        assert_eq!(good(&shown), file, "{shown}");
    }
}

#[test]
fn what_is_shown_is_for_a_person() {
    let shown = show(&good("upstreams: {servers: [a:80]}"));
    for line in [
        "  max_connections: auto",
        "  ciphers: [TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256]",
        "    rate: 5/s",
        "  servers: [\"a:80\"]",
        "  listen: \"0.0.0.0:9180\"",
        "  certificates: []",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
}

#[test]
fn the_schema_knows_every_key_and_no_other() {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let mut found = BTreeSet::new();
    walk(&schema, &schema, "", &mut found);
    assert_eq!(found, show::paths().into_iter().collect());
}

/// Collects the paths of all properties; each needs a description and closes its object.
fn walk(root: &Value, at: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Some(name) = at["$ref"].as_str() {
        let name = name.strip_prefix("#/$defs/").unwrap();
        walk(root, &root["$defs"][name], path, found);
    }
    for one in at["anyOf"].as_array().into_iter().flatten() {
        walk(root, one, path, found);
    }
    if at["items"].is_object() {
        walk(root, &at["items"], &format!("{path}[]"), found);
    }
    for (name, property) in at["properties"].as_object().into_iter().flatten() {
        assert_eq!(at["additionalProperties"], false, "{path}");
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        assert!(property["description"].is_string(), "{path} has no description");
        walk(root, property, &path, found);
        found.insert(path);
    }
}

#[test]
fn the_documentation_knows_every_key_and_its_default() {
    let docs = include_str!("../../docs/configuration.md");
    let rows: Vec<Vec<&str>> = docs
        .lines()
        .filter(|line| line.starts_with("| `") && line.matches(" | ").count() == 3)
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let documented: Vec<_> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    let defaults = show::value(&File::default());
    let is_section = |path: &String| !path.contains('.') && defaults[path].is_object();
    let keys: Vec<_> = show::paths().into_iter().filter(|path| !is_section(path)).collect();
    assert_eq!(documented, keys);
    for (path, row) in keys.iter().zip(&rows) {
        if path.contains("[]") {
            assert_eq!(row[2], "required", "{path}");
            continue;
        }
        let written = row[2].trim_matches('`');
        let names: Vec<_> = path.split('.').collect();
        let text = format!("{}: {written}{}", names.join(": {"), "}".repeat(names.len() - 1));
        // Null by default; naming one of its keys asks for it, with the others' defaults.
        let heartbeat = path.starts_with("heartbeat.").then(Heartbeat::default);
        let expected = File { heartbeat, ..File::default() };
        assert_eq!(good(&text), expected, "the default of {path}");
    }
    for section in defaults.as_object().unwrap().keys() {
        assert!(docs.contains(&format!("\n## {section}\n")), "{section}");
    }
}

/// Text that looks like a configuration often enough to reach what parses it.
fn nearly_yaml() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(show::paths()).prop_map(|path| path
            .rsplit('.')
            .next()
            .unwrap_or_default()
            .to_owned()),
        prop::sample::select(vec![
            ": ",
            ":\n  ",
            "\n",
            "\n  ",
            "\n    ",
            "- ",
            "[",
            "]",
            "{",
            "}",
            ", ",
            "\"",
            "'",
            "|\n",
            ">",
            "&a ",
            "*a",
            "!!str ",
            "# ",
            "---\n",
            "...\n",
            "? ",
            "${SERVER}",
            "${",
            "$${",
            "}",
            "10s",
            "5/s",
            "null",
            "true",
            "0x1f",
            "1e9",
            "::",
            "\t",
            "\u{feff}",
            "%YAML 1.2\n",
            "ä",
            "\u{0}",
            "\r\n",
            "<<",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in nearly_yaml()) {
        match parse("f.yaml", &text, &env) {
            Ok(file) => prop_assert_eq!(good(&show(&file)), file),
            Err(errors) => {
                prop_assert!(!errors.is_empty());
                prop_assert!(errors.is_sorted_by_key(ConfigError::line_col));
                prop_assert!(all(&errors).contains("-->"));
            }
        }
    }

    #[test]
    fn no_path_is_lost_in_what_is_shown(cert: String, key in "[ -~]{1,20}") {
        let mut file = File::default();
        file.tls.certificates.push(file::Certificate { cert: "/".into(), key: key.into() });
        file.log.query_allow.extend((!cert.is_empty()).then_some(cert));
        prop_assert_eq!(good(&show(&file)), file);
    }
}
