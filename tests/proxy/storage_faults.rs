//! Storage on a failing disk: full, read-only, without permission or descriptors, removed. The
//! proxy goes on, reports the problem, and recovers by itself.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::faults::with_files;
use crate::harness::{Proxy, eventually, program};
use crate::storage::{exposed, fails, kill_9, ok, run, stored_in};
use crate::support::{Sender, logged, read_answer};

/// Records that a test is left out, for `scripts/test`.
fn skip<T>(needs: &str) -> Option<T> {
    eprintln!("skipped: needs {needs}");
    if let Some(notes) = std::env::var_os("EXPORTER_PROXY_TEST_SKIPS") {
        let notes = fs::OpenOptions::new().create(true).append(true).open(notes);
        writeln!(notes.unwrap(), "storage faults: needs {needs}").unwrap();
    }
    None
}

/// Limits the size to which the proxy may write files; `None` lifts the limit. Files that
/// are longer already fail at each write.
fn limit_files(proxy: &Proxy, bytes: Option<u32>) -> Option<()> {
    let bytes = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
    let limited = Command::new("prlimit")
        .args(["--pid", &proxy.pid().to_string()])
        .arg(format!("--fsize={bytes}:unlimited"))
        .output();
    match limited {
        Ok(output) if output.status.success() => Some(()),
        other => skip(&format!("prlimit: {other:?}")),
    }
}

/// Waits until `/-/ready` has `words`.
#[track_caller]
fn reports(proxy: &Proxy, words: &str) {
    eventually(|| proxy.get("/-/ready").text(), |text| text.contains(words));
}

#[track_caller]
fn recovers(proxy: &Proxy) {
    eventually(|| proxy.get("/-/ready").text(), |text| text == "OK\n");
    assert_eq!(proxy.sample("exporter_proxy_storage_up"), Some(1.0));
}

fn flushes(proxy: &Proxy, result: &str) -> Option<f64> {
    proxy.sample(&format!(
        "exporter_proxy_storage_flushes_total{{result=\"{result}\"}}"
    ))
}

/// A small file system, if this test may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=6m", "none"])
            .arg(directory.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(SmallDisk(directory)),
            // Root can mount, except in some containers.
            other => skip(&format!("the right to mount a file system: {other:?}")),
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Uses up the remaining space.
    fn fill(&self) {
        let mut file = fs::File::create(self.path().join("filler")).unwrap();
        while file.write_all(&[b'x'; 4096]).is_ok() {}
    }

    fn empty(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

/// A text that cannot be compressed.
fn noise(number: usize) -> String {
    let mut state = number as u64 + 88_172_645_463_325_252;
    let mut text = String::new();
    for line in 0..2000 {
        text.push_str(&format!("m{line} "));
        for _ in 0..2 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push_str(&(state >> 34).to_string());
        }
        text.push('\n');
    }
    text
}

#[test]
fn with_write_a_full_disk_stops_nothing_and_is_caught_up_with() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let state = disk.path().join("state");
    let proxy = stored_in(&state, "write");
    ok(&proxy.push("PUT", "/metrics/job/first", "first 1\n"));
    disk.fill();
    for number in 0..10 {
        ok(&proxy.push("PUT", &format!("/metrics/job/{number}"), noise(number)));
    }
    let ready = eventually(
        || proxy.get("/-/ready"),
        |ready| ready.text().contains("storage"),
    );
    assert_eq!(ready.status, 200);
    assert!(ready.text().contains("No space left"), "{}", ready.text());
    assert_eq!(proxy.sample("exporter_proxy_storage_up"), Some(0.0));
    eventually(|| flushes(&proxy, "full"), |count| *count >= Some(2.0));
    logged(&proxy, "kept in memory only until it can", 1);
    disk.empty();
    recovers(&proxy);
    // The flush that succeeded may have begun before the last of these pushes.
    ok(&proxy.push("PUT", "/metrics/job/last", "last 1\n"));
    let before = exposed(&proxy);
    kill_9(proxy);
    assert_eq!(exposed(&stored_in(&state, "write")), before);
}

#[test]
fn a_removed_directory_is_reported_created_again_and_complete() {
    let parent = tempfile::tempdir().unwrap();
    let state = parent.path().join("state");
    let proxy = stored_in(&state, "write");
    ok(&proxy.push("PUT", "/metrics/job/first", "first 1\n"));
    fs::remove_dir_all(&state).unwrap();
    ok(&proxy.push("PUT", "/metrics/job/second", "second 1\n"));
    logged(&proxy, "the directory was removed or replaced", 1);
    logged(&proxy, "again; everything is stored", 1);
    recovers(&proxy);
    let before = exposed(&proxy);
    assert!(
        before.contains("first{") && before.contains("second{"),
        "{before}"
    );
    kill_9(proxy);
    assert_eq!(exposed(&stored_in(&state, "write")), before);
}

#[test]
fn with_always_a_full_disk_rejects_pushes() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let state = disk.path().join("state");
    let proxy = stored_in(&state, "always");
    ok(&proxy.push("PUT", "/metrics/job/first", "first 1\n"));
    disk.fill();
    let mut number = 0;
    let rejected = eventually(
        || {
            number += 1;
            proxy.push("PUT", &format!("/metrics/job/{number}"), noise(number))
        },
        |answer| answer.status == 503,
    );
    assert!(
        rejected.text().contains("applied in memory"),
        "{}",
        rejected.text()
    );
    // From now on, the directory must not change.
    let rejected = proxy.push("PUT", "/metrics/job/later", "later 1\n");
    assert_eq!(rejected.status, 503, "{rejected:?}");
    assert!(
        rejected.text().contains("nothing was changed"),
        "{}",
        rejected.text()
    );
    assert_eq!(rejected.header("retry-after"), Some("1"));
    assert!(!exposed(&proxy).contains("later"));
    let ready = proxy.get("/-/ready");
    assert_eq!(ready.status, 503, "{ready:?}");
    assert_eq!(proxy.get("/-/healthy").status, 200);
    let not_stored = "exporter_proxy_pushes_total{method=\"put\",result=\"not_stored\"}";
    assert!(proxy.sample(not_stored) >= Some(1.0));
    disk.empty();
    eventually(
        || proxy.push("PUT", "/metrics/job/later", "later 1\n").status,
        |status| *status == 200,
    );
    let before = exposed(&proxy);
    kill_9(proxy);
    assert_eq!(exposed(&stored_in(&state, "always")), before);
}

/// SIGXFSZ would end the program; instead, the write fails.
#[test]
fn a_limit_on_the_size_of_files_fails_writes_and_not_the_program() {
    for sync in ["write", "always"] {
        let directory = tempfile::tempdir().unwrap();
        let proxy = stored_in(directory.path(), sync);
        ok(&proxy.push("PUT", "/metrics/job/first", "first 1\n"));
        if limit_files(&proxy, Some(1)).is_none() {
            return;
        }
        let answer = proxy.push("PUT", "/metrics/job/second", "second 1\n");
        let (status, words) = match sync {
            "write" => (200, "kept in memory only"),
            _ => (503, "pushes over HTTP are rejected"),
        };
        assert_eq!(answer.status, status, "{answer:?}");
        reports(&proxy, "File too large");
        logged(&proxy, words, 1);
        assert_eq!(proxy.sample("exporter_proxy_storage_up"), Some(0.0));
        assert!(flushes(&proxy, "full") >= Some(1.0));
        let answer = proxy.push("PUT", "/metrics/job/third", "third 1\n");
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(exposed(&proxy).contains("third"), sync == "write");
        limit_files(&proxy, None).unwrap();
        recovers(&proxy);
        ok(&proxy.push("PUT", "/metrics/job/last", "last 1\n"));
        let before = exposed(&proxy);
        kill_9(proxy);
        assert_eq!(exposed(&stored_in(directory.path(), sync)), before);
    }
}

#[test]
fn a_limit_on_the_size_of_files_at_start_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let output = Command::new("sh")
        .args(["-c", "ulimit -f 100 && exec \"$@\"", "sh"])
        .arg(program().get_program())
        .env("EXPORTER_PROXY_STORAGE_PATH", &state)
        .output()
        .unwrap();
    fails(&output, 73, "File too large");
    // The interrupted start is repeated.
    ok(&stored_in(&state, "write").push("PUT", "/metrics/job/a", "m 1\n"));
}

/// A proxy that is subject to permissions, even if this test runs as root.
fn without_privileges(directory: &Path) -> Option<Proxy> {
    let config = format!("[storage]\npath = {directory:?}\n");
    if !nix::unistd::geteuid().is_root() {
        return Some(Proxy::start(&config));
    }
    const CAPABILITIES: &str = "--bounding-set=-dac_override,-dac_read_search";
    let usable = Command::new("setpriv")
        .args([CAPABILITIES, "true"])
        .output();
    if !usable.as_ref().is_ok_and(|output| output.status.success()) {
        return skip(&format!("setpriv: {usable:?}"));
    }
    Some(Proxy::launch(&config, &[], |command| {
        wrap(command, "setpriv", &[CAPABILITIES])
    }))
}

/// Runs a command through another program.
fn wrap<'c>(command: &'c mut Command, program: &str, arguments: &[&str]) -> &'c mut Command {
    let mut outer = Command::new(program);
    outer
        .args(arguments)
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    *command = outer;
    command
}

#[test]
fn a_lost_permission_is_reported_and_recovers_with_the_permission() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let Some(proxy) = without_privileges(&state) else {
        return;
    };
    ok(&proxy.push("PUT", "/metrics/job/first", "first 1\n"));
    let mode = |mode| fs::set_permissions(state.join("data"), fs::Permissions::from_mode(mode));
    // The engine's files are open; opening them again needs the permission.
    mode(0o000).unwrap();
    if limit_files(&proxy, Some(1)).is_none() {
        return;
    }
    ok(&proxy.push("PUT", "/metrics/job/second", "second 1\n"));
    limit_files(&proxy, None).unwrap();
    reports(&proxy, "Permission denied");
    ok(&proxy.push("PUT", "/metrics/job/third", "third 1\n"));
    assert!(flushes(&proxy, "read_only") >= Some(1.0));
    mode(0o700).unwrap();
    recovers(&proxy);
    let before = exposed(&proxy);
    kill_9(proxy);
    assert_eq!(exposed(&stored_in(&state, "write")), before);
}

/// A read-only view of a directory, as long as this lives.
struct ReadOnly<'p>(&'p Path);

impl<'p> ReadOnly<'p> {
    fn mount(path: &'p Path) -> Self {
        let steps: [&[&str]; 2] = [&["--bind"], &["-o", "remount,bind,ro"]];
        for (number, options) in steps.into_iter().enumerate() {
            let mut mount = Command::new("mount");
            mount.args(options).arg(path);
            if number == 0 {
                mount.arg(path);
            }
            assert!(mount.status().unwrap().success());
        }
        ReadOnly(path)
    }
}

impl Drop for ReadOnly<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}

#[test]
fn a_file_system_that_becomes_read_only_is_reported_and_recovers() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let state = disk.path().join("state");
    let proxy = stored_in(&state, "write");
    ok(&proxy.push("PUT", "/metrics/job/first", "first 1\n"));
    if limit_files(&proxy, Some(1)).is_none() {
        return;
    }
    ok(&proxy.push("PUT", "/metrics/job/second", "second 1\n"));
    let read_only = ReadOnly::mount(&state);
    limit_files(&proxy, None).unwrap();
    reports(&proxy, "Read-only file system");
    ok(&proxy.push("PUT", "/metrics/job/third", "third 1\n"));
    assert!(flushes(&proxy, "read_only") >= Some(1.0));
    drop(read_only);
    recovers(&proxy);
    let before = exposed(&proxy);
    kill_9(proxy);
    let read_only = ReadOnly::mount(&state);
    fails(&run(&[], &state, b""), 73, "Read-only file system");
    drop(read_only);
    assert_eq!(exposed(&stored_in(&state, "write")), before);
}

#[test]
fn without_descriptors_pushes_go_on_and_everything_is_stored_in_the_end() {
    let directory = tempfile::tempdir().unwrap();
    // One connection is idle while much is sent.
    let config = format!(
        "[exporter]\nheader_timeout = \"10m\"\n[storage]\npath = {:?}\n",
        directory.path()
    );
    let proxy = with_files(80, &config);
    let mut sender = Sender::connect(&proxy);
    let mut scraper = Sender::to(&proxy.http);
    let mut is_known = |name: &str| {
        let request = format!("GET /metrics?app={name} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        scraper.send(request.as_bytes());
        let answer = read_answer(&mut scraper.0, true).expect("an answer");
        answer.status == 200
    };
    sender.send(b"{\"first\":\"m 1\"}");
    eventually(|| is_known("first"), |known| *known);
    let quiet: Vec<Sender> = (0..150).map(|_| Sender::connect(&proxy)).collect();
    // More than the engine keeps in memory, so that it has to open files.
    for number in 0..24 {
        let text = noise(number).repeat(20).replace('\n', "\\n");
        sender.send(format!("{{\"app{number}\":\"{text}\"}}").as_bytes());
    }
    eventually(|| is_known("app23"), |known| *known);
    drop(quiet);
    // Two more flushes: the last changes are stored, whether storage failed or not.
    let stored = || flushes(&proxy, "ok").unwrap_or_default();
    let before = stored();
    eventually(stored, |now| *now >= before + 2.0);
    recovers(&proxy);
    let before = exposed(&proxy);
    kill_9(proxy);
    assert!(exposed(&stored_in(directory.path(), "write")) == before);
}
