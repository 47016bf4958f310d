//! Clocks that are set to extreme times.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::Proxy;

/// A library that moves the clock of a program into which it is loaded. It is built with the
/// linker that built this test.
fn mover(dir: &Path) -> PathBuf {
    const SOURCE: &str = r#"
        #define _GNU_SOURCE
        #include <stdlib.h>
        #include <sys/syscall.h>
        #include <time.h>
        #include <unistd.h>
        int clock_gettime(clockid_t clock, struct timespec *time) {
            long result = syscall(SYS_clock_gettime, clock, time);
            const char *to = getenv("TEST_CLOCK");
            if (result == 0 && clock == CLOCK_REALTIME && to) time->tv_sec = atoll(to);
            return result;
        }
    "#;
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    std::fs::write(&source, SOURCE).unwrap();
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status()
        .expect("cc runs, as it did for this test");
    assert!(made.success());
    library
}

#[test]
fn a_clock_beyond_all_dates_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let library = mover(dir.path());
    for (clock, fits) in [
        ("1769860800", true),
        // The year 10000, 1969, and times beyond every calendar.
        ("253402300800", false),
        ("-1", false),
        ("1152921504606846976", false),
    ] {
        let proxy = Proxy::launch("", &[], |command| {
            command.env("LD_PRELOAD", &library).env("TEST_CLOCK", clock)
        });
        assert_eq!(proxy.push_tcp(b"{\"app\":\"m 1\"}"), "", "{clock}");
        for path in [
            "/metrics",
            "/apps",
            "/apps?format=json",
            "/apps/app",
            "/ping",
        ] {
            let answer = proxy.get(path);
            if fits {
                assert_eq!(answer.status, 200, "{clock} {path}");
                assert_eq!(answer.header("date"), Some("Sat, 31 Jan 2026 12:00:00 GMT"));
            } else {
                assert_eq!(answer.status, 503, "{clock} {path}");
                assert!(
                    answer.text().contains("the clock of this machine"),
                    "{clock}"
                );
            }
        }
        assert!(!proxy.push_tcp(b"nonsense").is_empty());
        let log = proxy.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[test]
fn a_lifetime_beyond_the_clock_is_rejected() {
    let proxy = Proxy::start("");
    for ttl in [
        "1e19",
        "9223372036854775807",
        "18446744073709551615s",
        "1e300",
    ] {
        let answer = proxy.push("PUT", &format!("/metrics/job/x?ttl={ttl}"), "m 1\n");
        assert_eq!(answer.status, 400, "{ttl}");
    }
    let answer = proxy.push("PUT", "/metrics/job/x?ttl=30000d", "m 1\n");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let list = proxy.push("GET", "/api/v1/groups", "").json();
    let expires = list["data"]["groups"][0]["expires_at"].as_str().unwrap();
    assert!(expires.starts_with("21"), "{expires}");
}

#[test]
fn lifetimes_survive_a_clock_that_is_set_back_and_forth() {
    let dir = tempfile::tempdir().unwrap();
    let library = mover(dir.path());
    let state = dir.path().join("state");
    let start = |clock: i64| {
        let config = format!("[storage]\npath = {state:?}\n");
        Proxy::launch(&config, &[], |command| {
            command
                .env("LD_PRELOAD", &library)
                .env("TEST_CLOCK", clock.to_string())
        })
    };
    const HOUR: i64 = 3600;
    const NOON: i64 = 1_769_860_800;
    let proxy = start(NOON);
    for (path, text) in [
        ("/metrics/job/hour?ttl=1h", "hour 1\n"),
        ("/metrics/job/day?ttl=24h", "day 1\n"),
        ("/metrics/job/ever", "ever 1\n"),
    ] {
        assert_eq!(proxy.push("PUT", path, text).status, 200);
    }
    drop(proxy);
    for (clock, kept) in [
        // The clock was set back: no time has passed.
        (NOON - 1000 * HOUR, &["hour{", "day{", "ever{"][..]),
        (0, &["hour{", "day{", "ever{"]),
        (NOON + HOUR / 2, &["hour{", "day{", "ever{"]),
        (NOON + 2 * HOUR, &["day{", "ever{"]),
        (NOON - HOUR, &["day{", "ever{"]),
        (NOON + 25 * HOUR, &["ever{"]),
    ] {
        let proxy = start(clock);
        let text = proxy.metrics();
        for name in ["hour{", "day{", "ever{"] {
            let is_kept = kept.contains(&name);
            assert_eq!(
                text.contains(&format!("\n{name}")),
                is_kept,
                "{name} at {clock}"
            );
        }
        // The last records are written before the end.
        let answer = proxy.push("PUT", "/metrics/job/last", format!("last {clock}\n"));
        assert_eq!(answer.status, 200);
    }
}
