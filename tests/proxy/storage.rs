//! State that survives `kill -9` and restarts. `storage_faults` has disks that fail.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::harness::{Answer, Proxy, eventually, http_request, output_of, program};

/// A proxy that stores its state in `directory`.
pub fn stored_in(directory: &Path, sync: &str) -> Proxy {
    let config = format!(
        "[storage]\npath = {directory:?}\nsync = \"{sync}\"\n\
         [operations]\ntcp = \"127.0.0.1:0\"\n\
         [push]\nenable_admin_api = true\n"
    );
    Proxy::start(&config)
}

/// The exposed text without the proxy's own metrics.
pub fn exposed(proxy: &Proxy) -> String {
    let own = |line: &&str| {
        let name = line
            .trim_start_matches("# HELP ")
            .trim_start_matches("# TYPE ");
        !name.starts_with("exporter_proxy_")
    };
    let text = proxy.metrics();
    let lines: Vec<&str> = text.lines().filter(own).collect();
    lines.join("\n")
}

pub fn ok(answer: &Answer) {
    assert!((200..300).contains(&answer.status), "{answer:?}");
}

pub fn kill_9(mut proxy: Proxy) {
    proxy.signal("KILL");
    proxy.wait();
}

/// Sends StatsD lines over TCP.
fn operations(proxy: &Proxy, lines: &str) {
    let address = proxy
        .log()
        .lines()
        .find_map(|line| Some(line.split_once("operations on TCP socket ")?.1.to_owned()))
        .expect("operations are on");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(lines.as_bytes()).unwrap();
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    for sync in ["write", "always"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mut before = String::new();
        // Each change is the last one before a kill.
        let changes: &[fn(&Proxy)] = &[
            |proxy| {
                ok(&proxy.push(
                    "PUT",
                    "/metrics/job/put/instance/1",
                    "# HELP m Help.\nm{a=\"b\"} 1\n",
                ));
            },
            |proxy| ok(&proxy.push("POST", "/metrics/job/put/instance/1", "n 2\n")),
            |proxy| ok(&proxy.push("PUT", "/metrics/job/gone", "gone 2\n")),
            |proxy| ok(&proxy.push("DELETE", "/metrics/job/gone", "")),
            |proxy| {
                let text = "# TYPE hits_total counter\nhits_total{a=\"x\"} 0.1\n\
                            # TYPE t histogram\nt_bucket{le=\"1\"} 1\nt_bucket{le=\"+Inf\"} 2\nt_sum 3\nt_count 2\n";
                ok(&proxy.push("POST", "/metrics/job/sum?mode=aggregate", text));
            },
            |proxy| {
                let text = "# TYPE hits_total counter\nhits_total{a=\"x\"} 0.2\n";
                let key = [("Idempotency-Key", "once")];
                ok(&proxy.push_with("POST", "/metrics/job/sum?mode=aggregate", &key, text));
            },
            |proxy| {
                let json = r#"{"groups":[{"labels":{"job":"b1"},"metrics":"b 1\n"},{"labels":{"job":"b2"},"metrics":"b 2\n"}]}"#;
                ok(&proxy.push("POST", "/api/v1/batch", json));
            },
            |proxy| {
                let text = "# TYPE made counter\nmade 5\n";
                ok(&proxy.push_with("POST", "/create", &[("Content-Type", "text/plain")], text));
                ok(&proxy.push_with("POST", "/update", &[("Content-Type", "text/plain")], text));
            },
            |proxy| {
                let json = [("Content-Type", "application/json")];
                let body = r#"{"receiver":"r","status":"firing","alerts":[{"labels":{"alertname":"Down"},"status":"firing"}]}"#;
                ok(&proxy.push_with("POST", "/webhook", &json, body));
            },
            |proxy| ok(&proxy.push("DELETE", "/api/v1/series?match[]=made", "")),
        ];
        for (number, change) in changes.iter().enumerate() {
            let proxy = stored_in(&path, sync);
            assert_eq!(exposed(&proxy), before, "{sync}, before change {number}");
            let starts = proxy.sample("exporter_proxy_storage_starts_total");
            assert_eq!(starts, Some(number as f64 + 1.0));
            change(&proxy);
            before = exposed(&proxy);
            kill_9(proxy);
        }
        let proxy = stored_in(&path, sync);
        assert_eq!(exposed(&proxy), before, "{sync}");
        // The key is stored with its push, so the push counts once.
        let text = "# TYPE hits_total counter\nhits_total{a=\"x\"} 0.2\n";
        let key = [("Idempotency-Key", "once")];
        ok(&proxy.push_with("POST", "/metrics/job/sum?mode=aggregate", &key, text));
        assert_eq!(exposed(&proxy), before, "{sync}");
        let other = proxy.push_with("POST", "/metrics/job/sum?mode=aggregate", &key, "x 1\n");
        assert_eq!(other.status, 422, "{other:?}");
        let webhooks = http_request(&proxy.push, "GET", "/webhooks?format=json", &[]);
        assert!(webhooks.text().contains("\"Down\""), "{webhooks:?}");
    }
}

#[test]
fn sockets_are_stored_within_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let proxy = stored_in(directory.path(), "write");
    assert_eq!(proxy.push_tcp(b"{\"shop\":\"orders_total 3\\n\"}"), "");
    operations(&proxy, "visits:2|c\nusers:a|s\nusers:b|s\n");
    eventually(
        || exposed(&proxy),
        |text| {
            ["orders_total 3", "visits 2", "users 2"]
                .iter()
                .all(|it| text.contains(it))
        },
    );
    let flushed = || proxy.sample("exporter_proxy_storage_written_records_total");
    let least = flushed();
    eventually(flushed, |count| *count > least || least > Some(5.0));
    let flushes = || proxy.sample("exporter_proxy_storage_flushes_total{result=\"ok\"}");
    let first = flushes().unwrap_or_default();
    eventually(flushes, |count| count.unwrap_or_default() >= first + 2.0);
    let before = exposed(&proxy);
    kill_9(proxy);
    let proxy = stored_in(directory.path(), "write");
    assert_eq!(exposed(&proxy), before);
    // The set continues: one of the values is known, the other is new.
    operations(&proxy, "users:b|s\nusers:c|s\n");
    eventually(|| exposed(&proxy), |text| text.contains("users 3"));
    let apps = proxy.get("/apps?format=json").json();
    assert_eq!(apps["apps"][0]["name"], "shop", "{apps}");
}

#[test]
fn a_stop_stores_what_came_last() {
    let directory = tempfile::tempdir().unwrap();
    let mut proxy = stored_in(directory.path(), "write");
    assert_eq!(proxy.push_tcp(b"{\"shop\":\"orders_total 3\\n\"}"), "");
    eventually(|| exposed(&proxy), |text| text.contains("orders_total 3"));
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0));
    let proxy = stored_in(directory.path(), "write");
    assert!(exposed(&proxy).contains("orders_total 3"));
}

#[test]
fn other_users_cannot_read_what_is_stored_in_a_directory_of_the_operator() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    drop(stored_in(&state, "write"));
    for (path, mode) in [(&state, 0o755), (&state.join("data"), 0o700)] {
        let found = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{}: {found:o}", path.display());
    }
}

#[test]
fn systemd_names_the_directory_and_memory_is_the_default() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("of-systemd");
    let proxy = Proxy::launch("", &[], |command| command.env("STATE_DIRECTORY", &path));
    ok(&proxy.push("PUT", "/metrics/job/a", "m 1\n"));
    kill_9(proxy);
    assert!(path.join("exporter-proxy").exists());
    let proxy = Proxy::launch("", &[], |command| command.env("STATE_DIRECTORY", &path));
    assert!(exposed(&proxy).contains("m{"), "{}", exposed(&proxy));
    drop(proxy);
    let off = Proxy::launch("[storage]\npath = \"\"\n", &[], |command| {
        command.env("STATE_DIRECTORY", &path)
    });
    assert!(!exposed(&off).contains("m{"));
    assert_eq!(off.sample("exporter_proxy_storage_up"), None);
}

/// Runs the program until it ends by itself.
pub fn run(arguments: &[&str], directory: &Path, input: &[u8]) -> Output {
    let mut command = program();
    command
        .args(arguments)
        .env("EXPORTER_PROXY_STORAGE_PATH", directory)
        .env(
            "EXPORTER_PROXY_EXPORTER_SCRAPE_EXPOSE_ENDPOINT",
            "127.0.0.1:0",
        )
        .env("EXPORTER_PROXY_PUSH_LISTEN", "127.0.0.1:0")
        .env("EXPORTER_PROXY_RECEIVER_RECEIVER_TCP_SOCKET", "127.0.0.1:0")
        .env("EXPORTER_PROXY_RECEIVER_RECEIVE_ON_UNIX_SOCKET", "false");
    output_of(&mut command, input)
}

#[track_caller]
pub fn fails(output: &Output, code: i32, words: &str) {
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{log}");
    assert!(log.contains(words), "{log}");
}

#[test]
fn a_directory_that_cannot_be_used_stops_the_start_and_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();

    let foreign = path.join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("notes"), "mine").unwrap();
    fails(
        &run(&[], &foreign, b""),
        66,
        "was not made by exporter-proxy",
    );
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);

    let used = path.join("used");
    let proxy = stored_in(&used, "write");
    ok(&proxy.push("PUT", "/metrics/job/a", "m 1\n"));
    fails(
        &run(&[], &used, b""),
        75,
        "another process uses the directory",
    );
    fails(
        &run(&["storage", "check"], &used, b""),
        75,
        "another process",
    );
    kill_9(proxy);

    let newer = path.join("newer");
    assert_eq!(
        run(&["storage", "import"], &newer, b"{\"records\":0}")
            .status
            .code(),
        Some(0)
    );
    fs::write(newer.join("exporter-proxy"), "exporter-proxy\nformat 9\n").unwrap();
    fails(&run(&[], &newer, b""), 76, "format 9");

    let damaged = path.join("damaged");
    let record = b"{\"key\":\"section/group/job=a\",\"base64\":\"AAAA\"}\n{\"records\":1}";
    assert_eq!(
        run(&["storage", "import"], &damaged, record).status.code(),
        Some(0)
    );
    fails(&run(&[], &damaged, b""), 65, "section/group/job=a");
    fails(
        &run(&["storage", "check"], &damaged, b""),
        65,
        "section/group/job=a",
    );
    // The next start fails in the same way: nothing was changed.
    fails(&run(&[], &damaged, b""), 65, "section/group/job=a");

    let file = path.join("file");
    fs::write(&file, "").unwrap();
    fails(&run(&[], &file, b""), 73, "the directory cannot be used");

    let link = path.join("link");
    symlink("nowhere", &link).unwrap();
    fails(
        &run(&[], &link, b""),
        73,
        "a link to nowhere, which does not exist",
    );
}

#[test]
fn keys_sets_and_webhooks_are_exported_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (
        directory.path().join("first"),
        directory.path().join("second"),
    );
    let socket = directory.path().join("operations.sock");
    let config = format!(
        "[storage]\npath = {first:?}\n[operations]\nunix_datagram_sockets = [{socket:?}]\n"
    );
    let proxy = Proxy::start(&config);
    let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
    sender.send_to(b"visitors:anna|s", &socket).unwrap();
    eventually(|| proxy.sample("visitors"), |count| *count == Some(1.0));
    let headers = [("Idempotency-Key", "key of 1")];
    let path = "/metrics?mode=aggregate";
    ok(&proxy.push_with(
        "POST",
        path,
        &headers,
        "# TYPE c_total counter\nc_total 1\n",
    ));
    let headers = [("Content-Type", "application/json")];
    ok(&proxy.push_with("POST", "/slack", &headers, "{\"text\":\"down\"}"));
    // The set is stored within a second.
    std::thread::sleep(Duration::from_millis(2500));
    kill_9(proxy);
    let export = run(&["storage", "export"], &first, b"");
    let lines = String::from_utf8(export.stdout.clone()).unwrap();
    for (key, words) in [
        ("key/key of 1", "\"fingerprint\":"),
        ("set/visitors/", "\"family\":\"visitors\""),
        ("hook/", "\"kind\":\"slack\""),
    ] {
        let begin = format!("{{\"key\":\"{key}");
        let line = lines.lines().find(|line| line.starts_with(&begin));
        let line = line.unwrap_or_else(|| panic!("no {key}: {lines}"));
        assert!(line.contains(words) && !line.contains("base64"), "{line}");
    }
    let import = run(&["storage", "import"], &second, &export.stdout);
    assert_eq!(import.status.code(), Some(0), "{import:?}");
    let again = run(&["storage", "export"], &second, b"").stdout;
    let kept = |export: &[u8]| {
        let text = String::from_utf8(export.to_vec()).unwrap();
        let lines = text.lines().filter(|line| !line.contains("\"meta/"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(kept(&again), kept(&export.stdout));
    let wrong = b"{\"key\":\"set/a/\",\"value\":{\"family\":1}}\n{\"records\":1}";
    let refused = run(
        &["storage", "import"],
        &directory.path().join("third"),
        wrong,
    );
    assert_eq!(refused.status.code(), Some(65), "{refused:?}");
}

#[test]
fn an_export_can_be_imported() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (
        directory.path().join("first"),
        directory.path().join("second"),
    );
    let proxy = stored_in(&first, "write");
    ok(&proxy.push(
        "PUT",
        "/metrics/job/a",
        "# HELP m \\\\ \"é\"\nm{a=\"\\n\"} NaN\n",
    ));
    let text = "# TYPE hits_total counter\nhits_total 1\n# TYPE g gauge\ng +Inf\n";
    ok(&proxy.push("POST", "/metrics?mode=aggregate", text));
    let before = exposed(&proxy);
    kill_9(proxy);
    let check = run(&["storage", "check"], &first, b"");
    assert_eq!(check.status.code(), Some(0), "{check:?}");
    let counts = String::from_utf8(check.stdout).unwrap();
    assert!(counts.contains("section: 1 record"), "{counts}");
    let export = run(&["storage", "export"], &first, b"");
    assert_eq!(export.status.code(), Some(0), "{export:?}");
    let lines = String::from_utf8(export.stdout.clone()).unwrap();
    let (last, records) = lines
        .lines()
        .collect::<Vec<_>>()
        .split_last()
        .map(|(l, r)| (*l, r.to_vec()))
        .unwrap();
    assert!(
        records.iter().all(|line| line.starts_with("{\"key\":\"")),
        "{lines}"
    );
    assert_eq!(last, format!("{{\"records\":{}}}", records.len()));
    assert!(lines.contains("\"section\":{"), "{lines}");
    // The engine's own records are not part of the state.
    let own = ["meta/created", "meta/writes"];
    assert!(own.iter().all(|own| !lines.contains(own)), "{lines}");
    let import = run(&["storage", "import"], &second, &export.stdout);
    assert_eq!(import.status.code(), Some(0), "{import:?}");
    assert_eq!(
        run(&["storage", "export"], &second, b"").stdout,
        export.stdout
    );
    let proxy = stored_in(&second, "write");
    assert_eq!(exposed(&proxy), before);
    drop(proxy);
    fails(
        &run(&["storage", "import"], &second, b""),
        73,
        "has records already",
    );
    let third = directory.path().join("third");
    fails(
        &run(&["storage", "import"], &third, b"\n{\"key\":1}\n"),
        65,
        "line 2: ",
    );
    // An export that was cut, at a line or within one, or that lacks a record.
    let cut = records.join("\n") + "\n";
    let missing = records[1..].join("\n") + "\n" + last;
    let repeated = format!("{}\n{}", records[0], lines);
    for (wrong, problem) in [
        (&*cut, "the export is not complete: it ends after "),
        (&lines[..lines.len() - 5], "line "),
        (&missing, " records, but "),
        (&repeated, " is already in an earlier line"),
        (&format!("{lines}{lines}"), "lines after the number"),
    ] {
        fails(
            &run(&["storage", "import"], &third, wrong.as_bytes()),
            65,
            problem,
        );
    }
    let nameless = b"{\"key\":\"\",\"base64\":\"\"}\n";
    fails(
        &run(&["storage", "import"], &third, nameless),
        65,
        "line 1: the key is empty",
    );
    let none = directory.path().join("none");
    fails(
        &run(&["storage", "export"], &none, b""),
        73,
        "cannot be used",
    );
    assert!(!none.exists());
}

#[test]
fn what_expired_meanwhile_stays_gone() {
    let directory = tempfile::tempdir().unwrap();
    let proxy = stored_in(directory.path(), "write");
    ok(&proxy.push("PUT", "/metrics/job/short?ttl=1s", "short 1\n"));
    ok(&proxy.push("PUT", "/metrics/job/long?ttl=1h", "long 1\n"));
    kill_9(proxy);
    // Time passes while nothing runs.
    std::thread::sleep(Duration::from_millis(1100));
    let proxy = stored_in(directory.path(), "write");
    let text = exposed(&proxy);
    assert!(text.contains("long{") && !text.contains("short{"), "{text}");
}
