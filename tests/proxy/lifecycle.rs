//! The start: configuration, ports and socket files, and exit codes if it fails. Apps that are
//! withdrawn.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::tempdir;

use crate::harness::{PATIENCE, Proxy, eventually, program};
use crate::support::{logged, names, text_of};

/// The result of a run of the program.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs the program to its end, which `timeout` enforces.
fn run(dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let program = program();
    let mut command = Command::new("timeout");
    command
        .arg(PATIENCE.as_secs().to_string())
        .arg(program.get_program())
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    for (name, value) in environment {
        command.env(format!("EXPORTER_PROXY_{name}"), value);
    }
    let output = command.output().expect("it runs");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

#[test]
fn check_config_accepts_a_right_file_an_empty_one_and_none() {
    let dir = tempdir().unwrap();
    let right = dir.path().join("right.toml");
    fs::write(&right, "[receiver]\nformat = \"json\"\n").unwrap();
    let empty = dir.path().join("empty.toml");
    fs::write(&empty, "").unwrap();
    for file in [&right, &empty] {
        let file = file.to_str().unwrap();
        let ended = run(dir.path(), &["check-config", "--config", file], &[]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.stdout, format!("{file}: ok\n"));
        assert_eq!(ended.stderr, "");
    }
    let ended = run(dir.path(), &["check-config"], &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout, "built-in defaults: ok\n");

    // By default, it is the file in the working directory.
    fs::rename(&right, dir.path().join("config.toml")).unwrap();
    let ended = run(dir.path(), &["check-config"], &[]);
    assert_eq!(ended.stdout, "config.toml: ok\n");
}

#[test]
fn check_config_tells_every_error_with_its_place_and_exits_with_78() {
    let dir = tempdir().unwrap();
    fs::write(
        dir.path().join("c.toml"),
        "[exporter]\nworker_thread = 1\nconcurrent_requests = 0\n\n\
         [receiver]\nformat = \"xml\"\n  max_payload = -1\n\n\
         [[poll_external.targets]]\nname = \"no url\"\n",
    )
    .unwrap();
    let environment = [("RECEIVER_APP_TTL", "soon")];
    let ended = run(dir.path(), &["check-config", "-c", "c.toml"], &environment);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert_eq!(ended.stdout, "");
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let expected = [
        ("c.toml:2:1: ", "did you mean `exporter.worker_threads`?"),
        (
            "c.toml:3:23: ",
            "`exporter.concurrent_requests` must be a whole number from 1",
        ),
        (
            "c.toml:6:10: ",
            "`receiver.format` must be one of \"auto\", \"capnp\", \"json\"",
        ),
        ("c.toml:7:17: ", "`receiver.max_payload`"),
        ("c.toml:9:", "needs a `url`"),
        (
            "environment variable EXPORTER_PROXY_RECEIVER_APP_TTL: ",
            "`receiver.app_ttl` must be a number of seconds",
        ),
    ];
    assert_eq!(lines.len(), expected.len(), "{}", ended.stderr);
    for (line, (place, words)) in lines.iter().zip(expected) {
        assert!(line.starts_with(place), "{place}: {line}");
        assert!(line.contains(words), "{words}: {line}");
    }
    // The same error prevents the start.
    let ended = run(dir.path(), &["-c", "c.toml"], &[]);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 5, "{}", ended.stderr);
}

#[test]
fn broken_toml_is_reported_with_its_place() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("config.toml"), "[receiver]\nformat = \n").unwrap();
    for arguments in [&["check-config"][..], &["print-config"], &[]] {
        let ended = run(dir.path(), arguments, &[]);
        assert_eq!(ended.code, Some(78), "{ended:?}");
        assert!(ended.stderr.starts_with("config.toml:2:"), "{ended:?}");
    }
}

#[test]
fn print_config_prints_settings_that_read_back_as_the_same() {
    let dir = tempdir().unwrap();
    fs::write(
        dir.path().join("config.toml"),
        "[exporter]\nworker_threads = 2\nheader_timeout = \"1m30s\"\n\
         [receiver]\nformat = \"capnp\"\nmax_payload = \"1MiB\"\nunix_socket_mode = \"0600\"\n\
         unix_socket_user = 12\napp_ttl = 90\n\
         [poll_external]\nother_scrape_endpoints = [\"http://127.0.0.1:1/x\"]\nclient_timeout = \"250ms\"\n\
         [[poll_external.targets]]\nurl = \"unix:///tmp/x.sock:/metrics\"\n\
         headers = { X-Key = \"hush-hush\" }\n",
    )
    .unwrap();
    let environment = [("RECEIVER_MAX_APPS", "17")];
    let first = run(dir.path(), &["print-config"], &environment);
    assert_eq!(first.code, Some(0), "{first:?}");
    for line in [
        "worker_threads = 2",
        "header_timeout = \"1m30s\"",
        "format = \"capnp\"",
        "max_payload = \"1MiB\"",
        "unix_socket_mode = \"0600\"",
        "app_ttl = \"1m30s\"",
        "max_apps = 17",
        "timeout = \"250ms\"",
        "url = \"unix:///tmp/x.sock:/metrics\"",
        "name = \"external_poll: 127.0.0.1:1\"",
    ] {
        let found = first.stdout.lines().any(|printed| printed == line);
        assert!(found, "{line}: {}", first.stdout);
    }
    assert!(!first.stdout.contains("hush"), "{}", first.stdout);

    fs::write(dir.path().join("printed.toml"), &first.stdout).unwrap();
    let again = run(dir.path(), &["print-config", "-c", "printed.toml"], &[]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(again.stdout, first.stdout);
}

#[test]
fn the_defaults_hold_where_there_is_no_configuration_file() {
    let dir = tempdir().unwrap();
    let printed = run(dir.path(), &["print-config"], &[]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    for line in [
        "concurrent_requests = 2048",
        "scrape_expose_endpoint = \"0.0.0.0:6555\"",
        "receiver_tcp_socket = \"127.0.0.1:6554\"",
        "listen = \"127.0.0.1:6556\"",
        "max_payload = \"16MiB\"",
        "poll_interval",
    ] {
        let found = printed.stdout.lines().any(|printed| printed == line);
        assert_eq!(found, line != "poll_interval", "{line}: {}", printed.stdout);
    }
    // It serves with these settings, except for ports and socket, which others may use.
    let proxy = Proxy::launch("not even read", &[], |command| {
        let mut bare = program();
        let environment: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        bare.envs(environment)
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        *command = bare;
        command
    });
    let log = proxy.log();
    assert!(log.contains("with built-in defaults"), "{log}");
    proxy.push_tcp(b"{\"app\":\"m 1\"}");
    assert!(proxy.metrics().ends_with("\nm 1\n"));
}

#[test]
fn a_named_file_that_is_not_there_is_an_error() {
    let dir = tempdir().unwrap();
    for arguments in [
        &["--config", "none.toml"][..],
        &["check-config", "-c", "none.toml"],
        &["-c", "none.toml", "print-config"],
    ] {
        let ended = run(dir.path(), arguments, &[]);
        assert_eq!(ended.code, Some(78), "{ended:?}");
        assert!(
            ended
                .stderr
                .starts_with("none.toml: cannot read the configuration: "),
            "{ended:?}"
        );
    }
}

#[test]
fn a_bad_command_line_exits_with_2() {
    let dir = tempdir().unwrap();
    let ended = run(dir.path(), &["serve-me"], &[]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let ended = run(dir.path(), &["--version"], &[]);
    assert_eq!(ended.code, Some(0));
    assert_eq!(
        ended.stdout,
        concat!("exporter-proxy ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn a_port_that_is_taken_ends_the_start_with_a_clear_line() {
    let dir = tempdir().unwrap();
    let socket = dir.path().join("s").display().to_string();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    const ANY: &str = "127.0.0.1:0";
    for (ports, setting) in [
        ([&*taken, ANY, ANY], "exporter.scrape_expose_endpoint"),
        ([ANY, &*taken, ANY], "receiver.receiver_tcp_socket"),
        ([ANY, ANY, &*taken], "push.listen"),
    ] {
        let ended = run(
            dir.path(),
            &[],
            &[
                ("EXPORTER_SCRAPE_EXPOSE_ENDPOINT", ports[0]),
                ("RECEIVER_RECEIVER_TCP_SOCKET", ports[1]),
                ("PUSH_LISTEN", ports[2]),
                ("RECEIVER_RECEIVER_UNIX_SOCKET", &socket),
            ],
        );
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let line = ended.stderr.lines().last().unwrap();
        assert!(
            line.contains(&format!(
                "cannot listen at {taken} ({setting}): Address already in use"
            )),
            "{line}"
        );
        assert!(!Path::new(&socket).exists());
    }
}

#[test]
fn the_unix_socket_has_the_mode_and_owner_that_are_set() {
    let mode = |proxy: &Proxy| fs::metadata(&proxy.unix).unwrap().permissions().mode() & 0o777;
    let proxy = Proxy::start("");
    assert_eq!(mode(&proxy), 0o660);
    let metadata = fs::metadata(&proxy.unix).unwrap();
    let (user, group) = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    assert_eq!((metadata.uid(), metadata.gid()), (user, group));

    let proxy = Proxy::start("[receiver]\nunix_socket_mode = \"0622\"\n");
    assert_eq!(mode(&proxy), 0o622);
    assert_eq!(proxy.push_unix(b"{\"app\":\"m 1\"}"), "");

    // Only root can change the owner of a socket.
    if user == 0 {
        let proxy =
            Proxy::start("[receiver]\nunix_socket_user = 12345\nunix_socket_group = \"54321\"\n");
        let metadata = fs::metadata(&proxy.unix).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (12345, 54321));
    }
}

#[test]
fn a_user_that_this_machine_does_not_have_ends_the_start() {
    let dir = tempdir().unwrap();
    let socket = dir.path().join("s").display().to_string();
    let ended = run(
        dir.path(),
        &[],
        &[
            ("EXPORTER_SCRAPE_EXPOSE_ENDPOINT", "127.0.0.1:0"),
            ("PUSH_LISTEN", "127.0.0.1:0"),
            ("RECEIVER_RECEIVER_TCP_SOCKET", "127.0.0.1:0"),
            ("RECEIVER_RECEIVER_UNIX_SOCKET", &socket),
            ("RECEIVER_UNIX_SOCKET_USER", "no-such-user-here"),
        ],
    );
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("`receiver.unix_socket_user` is \"no-such-user-here\""),
        "{ended:?}"
    );
    assert!(!Path::new(&socket).exists());
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_or_a_file_is_left_alone() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("s");
    let socket = path.display().to_string();
    let settings = [
        ("EXPORTER_SCRAPE_EXPOSE_ENDPOINT", "127.0.0.1:0"),
        ("PUSH_LISTEN", "127.0.0.1:0"),
        ("RECEIVER_RECEIVER_TCP_SOCKET", "127.0.0.1:0"),
        ("RECEIVER_RECEIVER_UNIX_SOCKET", &*socket),
    ];
    fs::write(&path, "precious").unwrap();
    let ended = run(dir.path(), &[], &settings);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("an existing file that is not a socket"),
        "{ended:?}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();

    // A listener that has ended leaves its file.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let mut first = Proxy::start_with("", &settings);
    first.unix.clone_from(&path);
    assert_eq!(first.push_unix(b"{\"app\":\"m 1\"}"), "");

    let ended = run(dir.path(), &[], &settings);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("another program is listening there"),
        "{ended:?}"
    );
    assert_eq!(first.push_unix(b"{\"app\":\"m 2\"}"), "");
    assert_eq!(text_of(&first, "app").as_deref(), Some("m 2\n"));
}

#[test]
fn either_receiver_can_be_off() {
    let proxy = Proxy::start("[receiver]\nreceive_on_tcp_socket = false\n");
    assert_eq!(proxy.tcp, "");
    assert_eq!(proxy.push_unix(b"{\"app\":\"m 1\"}"), "");
    assert_eq!(names(&proxy), ["app"]);
    let proxy = Proxy::start("[receiver]\nreceive_on_unix_socket = false\n");
    assert!(!proxy.unix.exists());
    assert_eq!(proxy.push_tcp(b"{\"app\":\"m 1\"}"), "");
    assert_eq!(names(&proxy), ["app"]);
}

#[test]
fn an_app_not_heard_from_for_its_ttl_is_withdrawn_though_nobody_scrapes() {
    let proxy = Proxy::start("[receiver]\napp_ttl = \"3s\"\n");
    proxy.push_tcp(b"{\"gone\":\"g 1\",\"kept\":\"k 1\"}");
    assert_eq!(names(&proxy), ["gone", "kept"]);
    eventually(
        || {
            proxy.push_tcp(b"{\"kept\":\"k 2\"}");
            proxy.log()
        },
        |log| log.contains("app gone withdrawn: not heard from in time"),
    );
    assert_eq!(names(&proxy), ["kept"]);
    assert_eq!(text_of(&proxy, "gone"), None);
    assert!(proxy.metrics().ends_with("\nk 2\n"));
    assert_eq!(proxy.sample("exporter_proxy_expired_total"), Some(1.0));

    // The app may come back.
    proxy.push_tcp(b"{\"gone\":\"g 2\"}");
    assert_eq!(text_of(&proxy, "gone").as_deref(), Some("g 2\n"));
}

#[test]
fn the_log_tells_where_it_listens_and_holds_no_payloads() {
    let proxy = Proxy::launch("", &[], |command| command.env("RUST_LOG", "debug"));
    proxy.push_tcp(b"{\"app\":\"sesame 1\"}");
    proxy.push_tcp(b"{\"app\":\"sesame 1\",\"x\":1}");
    let log = logged(&proxy, "rejected (malformed)", 1);
    for line in [
        format!("serving http://{}/metrics", proxy.http),
        format!("receiving on TCP socket {}", proxy.tcp),
        format!("accepting pushes on http://{}", proxy.push),
        format!("receiving on Unix socket {}", proxy.unix.display()),
    ] {
        assert!(log.contains(&line), "{line}: {log}");
    }
    assert!(!log.contains("sesame"), "{log}");
}
