//! CPU profiles, as `go tool pprof` reads them.

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
                .args(["tool", "pprof", "-top", "-cum", "-nodecount=1000", &url])
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
    assert!(top.contains("Duration: 3"), "{top}");
    assert!(top.contains("exporter_proxy::ingest"), "{top}");
    let answer = http_request(&proxy.push, "GET", "/debug/pprof/profile?seconds=0", &[]);
    assert_eq!(answer.status, 400);
}
