//! Problems that `check-config` finds between settings, and on the machine.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tempfile::{TempDir, tempdir};

use crate::harness::program;

/// How the program ended.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs `check-config` on a file of settings, and returns its output. `DIR` in the text is the
/// directory of the file.
fn check(dir: &TempDir, config: &str) -> Ended {
    let config = config.replace("DIR", &dir.path().display().to_string());
    fs::write(dir.path().join("c.toml"), config).unwrap();
    reported(dir.path(), &["check-config", "-c", "c.toml"])
}

fn reported(dir: &Path, arguments: &[&str]) -> Ended {
    let output = program().current_dir(dir).args(arguments).output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The lines of errors, with `DIR` in place of the directory.
#[track_caller]
fn errors(config: &str) -> Vec<String> {
    let dir = tempdir().unwrap();
    let checked = check(&dir, config);
    assert_eq!(checked.code, Some(78), "{config}\n{}", checked.stderr);
    assert_eq!(checked.stdout, "");
    // The program does not start with them either.
    let started = reported(dir.path(), &["-c", "c.toml"]);
    assert_eq!(started.code, Some(78), "{config}");
    assert_eq!(started.stderr, checked.stderr);
    let path = dir.path().display().to_string();
    let lines = checked.stderr.lines();
    lines.map(|line| line.replace(&path, "DIR")).collect()
}

#[test]
fn entries_of_access_are_checked_with_the_files_that_they_name() {
    let dir = tempdir().unwrap();
    let path = dir.path().display().to_string();
    fs::write(
        dir.path().join("web.yml"),
        "basic_auth_users:\n  alice: x\nrate_limits: {}\n",
    )
    .unwrap();
    fs::write(dir.path().join("empty"), "\n").unwrap();
    let config = "[web]\nconfig_file = \"FILES/web.yml\"\n\
                  [[web.access]]\nrole = \"write\"\ntoken_file = \"FILES/empty\"\n\
                  [[web.access]]\nrole = \"write\"\ntoken_file = \"FILES/none\"\n\
                  [[web.access]]\nrole = \"read\"\nuser = \"bob\"\n\
                  [[web.access]]\nrole = \"read\"\nunix_user = \"no-such-user\"\n";
    let found = errors(&config.replace("FILES", &path))
        .join("\n")
        .replace(&path, "FILES");
    for expected in [
        "c.toml:3:1: `web.access` FILES/empty: the file has no token",
        "c.toml:6:1: `web.access` FILES/none: the file cannot be read",
        "c.toml:9:1: `web.access`: basic_auth_users in web.config_file has no user \"bob\"",
        "c.toml:12:1: `web.access`: this machine has no user \"no-such-user\"",
        "FILES/web.yml:3:1: ",
    ] {
        assert!(found.contains(expected), "{expected}\n{found}");
    }
    let found = errors(
        "[[web.access]]\nrole = \"writer\"\nuser = \"a\"\nallow_from = \"10.1.2.3/8\"\n\
         [[web.access]]\nallow_from = []\n\
         [[web.access]]\nrole = \"read\"\n\
         [[web.access]]\nrole = \"admin\"\nallow_from = \"::1\"\napps = [\"a\"]\nlisteners = [\"udp\"]\n\
         [[web.access]]\nrole = \"read\"\nallow_form = \"::1\"\n\
         [[web.access]]\nrole = []\nallow_from = \"::1\"\n\
         [[web.access]]\nrole = \"write\"\ntoken_file = \"t\"\nlisteners = [\"receiver\"]\n\
         [[web.access]]\nrole = \"write\"\nallow_from = \"::1\"\napps = []\nlabels = {}\nlisteners = []\n",
    )
    .join("\n");
    for expected in [
        "`web.access.role` must not be empty",
        "`web.access`: only HTTP carries tokens and passwords",
        "`web.access.apps` must not be empty",
        "`web.access.labels` must not be empty",
        "`web.access.listeners` must not be empty",
        "c.toml:2:8: `web.access.role` must be one of \"read\", \"write\", \"admin\", not \"writer\"",
        "c.toml:4:14: `web.access.allow_from` has 10.1.2.3/8, an address within a network",
        "this entry has user and allow_from",
        "`web.access` needs a `role`",
        "`web.access.allow_from` must not be empty",
        "this entry has none of them",
        "`apps` and `labels` bind what the role \"write\" may change",
        "`web.access.listeners` must be one of \"http\", \"receiver\", \"operations\", not \"udp\"",
        "unknown key `web.access.allow_form`; did you mean `web.access.allow_from`?",
    ] {
        assert!(found.contains(expected), "{expected}\n{found}");
    }
}

/// The lines of warnings of a valid configuration.
#[track_caller]
fn warnings(config: &str) -> Vec<String> {
    let dir = tempdir().unwrap();
    let checked = check(&dir, config);
    assert_eq!(checked.code, Some(0), "{config}\n{}", checked.stderr);
    let count = checked.stderr.lines().count();
    let noted = match count {
        0 => String::new(),
        1 => " (1 warning)".to_owned(),
        _ => format!(" ({count} warnings)"),
    };
    assert_eq!(checked.stdout, format!("c.toml: ok{noted}\n"));
    let path = dir.path().display().to_string();
    let lines = checked.stderr.lines();
    lines
        .map(|line| {
            let (_, message) = line.split_once("] ").expect("a line of the log");
            message.replace(&path, "DIR")
        })
        .collect()
}

#[test]
fn one_address_for_two_listeners_is_an_error() {
    let found = errors(
        "[receiver]\nreceiver_tcp_socket = \"127.0.0.1:6555\"\n\
         [push]\nlisten = \"0.0.0.0:6558\"\n\
         [operations]\ntcp = \"localhost:6558\"\n",
    );
    assert_eq!(
        found,
        [
            "c.toml:2:23: `receiver.receiver_tcp_socket` = 127.0.0.1:6555 uses the same port as \
             `exporter.scrape_expose_endpoint` = 0.0.0.0:6555; choose another port",
            "c.toml:6:7: `operations.tcp` = localhost:6558 uses the same port as `push.listen` = \
             0.0.0.0:6558; choose another port",
        ]
    );
    let found = errors("[push]\nlisten = \"127.0.0.1:6555\"\n");
    assert_eq!(
        found,
        [
            "c.toml:2:10: `push.listen` = 127.0.0.1:6555 uses the same port as \
          `exporter.scrape_expose_endpoint` = 0.0.0.0:6555; choose another port, or set both to the \
          same address to serve both on one port"
        ]
    );
    // If the other setting has its default, the place is that of the setting that is written.
    let found = errors("[exporter]\nscrape_expose_endpoint = \"[::]:6554\"\n");
    assert_eq!(
        found,
        [
            "c.toml:2:26: `exporter.scrape_expose_endpoint` = [::]:6554 uses the same port as \
          `receiver.receiver_tcp_socket` = 127.0.0.1:6554; choose another port"
        ]
    );
}

#[test]
fn listeners_that_do_not_meet_are_right() {
    for right in [
        // One port for scrapes and pushes.
        "[push]\nlisten = \"0.0.0.0:6555\"\n",
        // Other transports, other addresses, ports chosen by the kernel.
        "[operations]\nudp = \"127.0.0.1:6555\"\n",
        "[operations]\ntcp = \"127.0.0.2:6554\"\n",
        "[receiver]\nreceiver_tcp_socket = \"127.0.0.1:0\"\n[push]\nlisten = \"127.0.0.1:0\"\n",
        // A listener that is off takes no port.
        "[receiver]\nreceive_on_tcp_socket = false\nreceiver_tcp_socket = \"127.0.0.1:6555\"\n",
        "[push]\nlisten = \"\"\n[operations]\ntcp = \"127.0.0.1:6556\"\n",
    ] {
        assert_eq!(warnings(right), [""; 0], "{right}");
    }
}

#[test]
fn one_unix_socket_for_two_settings_is_an_error() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("run")).unwrap();
    std::os::unix::fs::symlink("run", dir.path().join("link")).unwrap();
    let checked = check(
        &dir,
        "[receiver]\nreceiver_unix_socket = \"DIR/run/a.sock\"\n\
         [push]\nlisten = \"DIR/link/a.sock\"\n\
         [operations]\nunix_sockets = [\"DIR/b.sock\", \"DIR/c.sock\"]\n\
         unix_datagram_sockets = [\"DIR/c.sock\"]\n",
    );
    let expected = "c.toml:4:10: `push.listen` = DIR/link/a.sock is the same Unix socket as \
         `receiver.receiver_unix_socket`; choose another path\n\
         c.toml:7:26: `operations.unix_datagram_sockets` = DIR/c.sock is the same Unix socket as \
         `operations.unix_sockets`; choose another path\n";
    let found = checked
        .stderr
        .replace(&dir.path().display().to_string(), "DIR");
    assert_eq!(found, expected);
}

#[test]
fn what_the_machine_lacks_is_an_error_where_it_is_named() {
    let found = errors(
        "[receiver]\nreceiver_unix_socket = \"DIR/none/r.sock\"\n\
         unix_socket_user = \"no-such-user\"\nunix_socket_group = \"no-such-group\"\n\
         [push]\nlisten = \"DIR/c.toml\"\n\
         [operations]\nunix_sockets = [\"DIR/here.sock\",\n  \"DIR/c.toml/x.sock\"]\n\
         [[poll_external.targets]]\nurl = \"http://127.0.0.1:1/\"\nbearer_token_file = \"DIR/token\"\n\
         [[poll_external.targets]]\nurl = \"https://127.0.0.1:2/\"\nca_file = \"DIR/ca.pem\"\n\
         [[poll_external.targets]]\nurl = \"https://127.0.0.1:3/\"\nca_file = \"DIR/c.toml\"\n\
         bearer_token_file = \"DIR/c.toml\"\n",
    );
    let directory = "is not a directory; create it or choose another path";
    let none = "No such file or directory (os error 2)";
    assert_eq!(
        found,
        [
            format!(
                "c.toml:2:24: `receiver.receiver_unix_socket` is DIR/none/r.sock, but DIR/none {directory}"
            ),
            "c.toml:3:20: `receiver.unix_socket_user` is \"no-such-user\", but this machine has no \
             such user"
                .to_owned(),
            "c.toml:4:21: `receiver.unix_socket_group` is \"no-such-group\", but this machine has \
             no such group"
                .to_owned(),
            "c.toml:6:10: `push.listen` is DIR/c.toml, an existing file that is not a socket; \
             remove it or choose another path"
                .to_owned(),
            format!(
                "c.toml:9:3: `operations.unix_sockets` is DIR/c.toml/x.sock, but DIR/c.toml {directory}"
            ),
            format!(
                "c.toml:12:21: `poll_external.targets.bearer_token_file` DIR/token cannot be read: {none}"
            ),
            format!(
                "c.toml:15:11: `poll_external.targets.ca_file` DIR/ca.pem cannot be read: {none}"
            ),
            "c.toml:18:11: `poll_external.targets.ca_file` DIR/c.toml contains no PEM certificate"
                .to_owned(),
            "c.toml:19:21: `poll_external.targets.bearer_token_file` DIR/c.toml must contain a \
             token that is valid in an HTTP header"
                .to_owned(),
        ]
    );
}

#[test]
fn sockets_that_are_off_need_no_owner_and_no_directory() {
    let off = "[receiver]\nreceive_on_unix_socket = false\n\
               receiver_unix_socket = \"/none/r.sock\"\nunix_socket_user = \"no-such-user\"\n";
    assert_eq!(warnings(off), [""; 0]);
}

#[test]
fn a_timeout_above_its_interval_is_a_warning() {
    let found = warnings(
        "[poll_external]\npoll_interval = 1\n\
         [[poll_external.targets]]\nurl = \"http://127.0.0.1:1/\"\ntimeout = \"20s\"\n\
         interval = \"10s\"\n\
         [[poll_external.targets]]\nurl = \"http://127.0.0.1:2/\"\ntimeout = \"500ms\"\n",
    );
    let advice = "a slow response delays the next poll";
    assert_eq!(
        found,
        [
            format!(
                "c.toml:2:17: `poll_external.client_timeout` (2s) is longer than `poll_external.poll_interval` (1s): {advice}"
            ),
            format!(
                "c.toml:5:11: `poll_external.targets.timeout` (20s) is longer than `poll_external.targets.interval` (10s): {advice}"
            ),
        ]
    );
}

#[test]
fn an_expired_certificate_is_a_warning() {
    let dir = tempdir().unwrap();
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let (cert_file, key_file) = (dir.path().join("a.crt"), dir.path().join("a.key"));
    fs::write(&cert_file, certificate.pem()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    let tls = format!("{{ cert_file = {cert_file:?}, key_file = {key_file:?} }}");
    let found = warnings(&format!("[receiver]\ntls = {tls}\n"));
    let expired = "has a certificate that expired at 2020-01-02";
    assert!(found[0].contains("`receiver.tls`: "), "{found:?}");
    assert!(found[0].contains(expired), "{found:?}");
}

#[test]
fn the_origin_null_is_a_warning() {
    let found = warnings("[push]\ncors_origins = [\"https://a.example\", \"null\"]\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("c.toml:2:16: `push.cors_origins` has \"null\"")
            && found[0].ends_with("it allows as much as \"*\""),
        "{found:?}"
    );
}

#[test]
fn no_input_at_all_is_a_warning() {
    let off = "[receiver]\nreceive_on_tcp_socket = false\nreceive_on_unix_socket = false\n\
               [push]\nlisten = \"\"\n";
    assert_eq!(
        warnings(off),
        [
            "c.toml:2:25: no input is enabled: both receivers, `push.listen`, `operations` and \
          polling are off; enable at least one"
        ]
    );
    let polled = "[poll_external]\nother_scrape_endpoints = [\"http://127.0.0.1:1/\"]\n";
    assert_eq!(warnings(&format!("{off}{polled}")), [""; 0]);
    assert_eq!(
        warnings(&format!(
            "{off}{polled}poll_other_scrape_endpoints = false\n"
        ))
        .len(),
        1
    );
}

#[test]
fn a_file_of_labels_that_is_not_there_yet_is_a_warning() {
    let found = warnings("[operations]\nextra_labels_file = \"DIR/labels\"\n");
    assert_eq!(
        found,
        [
            "c.toml:2:21: `operations.extra_labels_file` DIR/labels cannot be read (No such file or \
          directory (os error 2)); its labels are missing until it is readable"
        ]
    );
}

#[test]
fn a_variable_that_is_not_text_is_not_passed_over() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("c.toml"), "").unwrap();
    let output = program()
        .current_dir(dir.path())
        .args(["check-config", "-c", "c.toml"])
        .env(
            "EXPORTER_PROXY_RECEIVER_FORMAT",
            OsStr::from_bytes(b"js\xffon"),
        )
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let reported = String::from_utf8(output.stderr).unwrap();
    assert!(
        reported.contains("environment variable EXPORTER_PROXY_RECEIVER_FORMAT: `receiver.format`"),
        "{reported}"
    );
}

#[test]
fn errors_and_warnings_are_reported_together() {
    let found = errors(
        "[poll_external]\npoll_interval = 1\n[push]\nlisten = \"127.0.0.1:6554\"\ngauge = 1\n",
    );
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found[0].starts_with("c.toml:4:10: `push.listen`"),
        "{found:?}"
    );
    assert!(
        found[1].starts_with("c.toml:5:1: unknown key `push.gauge`"),
        "{found:?}"
    );
    assert!(found[2].starts_with("warning: c.toml:2:17: "), "{found:?}");
}

#[test]
fn every_setting_that_a_document_names_exists() {
    // Settings without a default are not printed, and tables are named as tables.
    const OTHERS: [&str; 6] = [
        "receiver.app_ttl",
        "push.rules",
        "poll_external.targets",
        "poll_external.other_scrape_endpoints",
        "poll_external.poll_interval",
        "poll_external.client_timeout",
    ];
    const TABLES: [&str; 6] = [
        "exporter",
        "exposition",
        "operations",
        "poll_external",
        "push",
        "receiver",
    ];
    let shipped = include_str!("../../config.toml");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut table = "";
    let mut known: Vec<String> = OTHERS.map(str::to_owned).to_vec();
    for line in shipped.lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']');
        } else if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ") {
            known.push(format!("{table}.{key}"));
        }
    }
    let mut named = 0;
    let documents = fs::read_dir(root.join("docs")).unwrap();
    let documents = documents.map(|entry| entry.unwrap().path());
    for document in documents.chain([root.join("README.md")]) {
        let Ok(text) = fs::read_to_string(&document) else {
            continue;
        };
        // Every second part is between backquotes.
        for code in text.split('`').skip(1).step_by(2) {
            let word = code.split([' ', '=', '\n']).next().unwrap_or_default();
            let Some((table, key)) = word.split_once('.') else {
                continue;
            };
            let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if !TABLES.contains(&table) || !is_key {
                continue;
            }
            named += 1;
            let known = known.iter().any(|known| known == word);
            assert!(known, "{} names {word}", document.display());
        }
    }
    assert!(named > 50, "{named}");
}
