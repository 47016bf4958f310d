//! CPU profiles, as `go tool pprof` reads them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use crate::harness::{Proxy, http_request};
use crate::tools::{Tool, here, run};

#[test]
fn go_names_the_functions_of_a_profile() {
    if !here(&[Tool::Go]) {
        return;
    }
    let proxy = Proxy::start("");
    let text: String = (0..20_000)
        .map(|at| format!("m{{a=\"{at}\"}} {at}\n"))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let printed = thread::scope(|scope| {
        let (push, dir) = (proxy.push.clone(), dir.path());
        let asked = scope.spawn(move || {
            let url = format!("http://{push}/debug/pprof/profile?seconds=3");
            run(Command::new("go")
                .args(["tool", "pprof", "-top", "-cum", "-nodecount=1000"])
                // Reading the names from a debug build takes seconds: a release needs 0.2 s.
                .args(["-timeout", "600", &url])
                .env("PPROF_TMPDIR", dir)
                .env("GOFLAGS", ""))
        });
        while !asked.is_finished() {
            assert_eq!(proxy.push("PUT", "/metrics/job/busy", &text).status, 200);
        }
        asked.join().unwrap()
    });
    let top = printed.stdout;
    assert!(top.contains("Type: cpu"), "{top}");
    assert!(top.contains("Duration: "), "{top}");
    assert!(top.contains("exporter_proxy::ingest"), "{top}");
    let answer = http_request(&proxy.push, "GET", "/debug/pprof/profile?seconds=0", &[]);
    assert_eq!(answer.status, 400);
}

/// The proxy sends a profile as a part of the form.
#[test]
fn go_reads_a_profile_that_was_sent() {
    if !here(&[Tool::Go]) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = Proxy::start(&format!(
        "[profiling]\nurl = \"http://{address}\"\ninterval = \"3s\"\n"
    ));
    let text: String = (0..20_000)
        .map(|at| format!("m{{a=\"{at}\"}} {at}\n"))
        .collect();
    let body = thread::scope(|scope| {
        let sent = scope.spawn(|| {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let line = line.trim_end().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            reader.get_mut().write_all(answer).unwrap();
            body
        });
        while !sent.is_finished() {
            assert_eq!(proxy.push("PUT", "/metrics/job/busy", &text).status, 200);
        }
        sent.join().unwrap()
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("profile");
    let head = body.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
    let end = body.windows(4).rposition(|it| it == b"\r\n--").unwrap();
    fs::write(&file, &body[head..end]).unwrap();
    let top = run(Command::new("go")
        .args(["tool", "pprof", "-top", "-cum", "-nodecount=1000"])
        .arg(&file)
        .env("PPROF_TMPDIR", dir.path())
        .env("GOFLAGS", ""));
    assert!(
        top.stdout.contains("exporter_proxy::ingest"),
        "{}",
        top.stdout
    );
}
