//! Directories of files with metrics.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::harness::{Proxy, eventually};
use crate::support::{detail, logged, names, text_of};

/// Replaces a file, as scripts that write metrics do.
fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

#[test]
fn files_in_a_directory_are_targets_by_the_rules_of_the_textfile_collector() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let named = |name: &str| path(name).display().to_string();
    write(
        &path("raid.prom"),
        "# TYPE raid gauge\nraid{disk=\"a\"} 1\n",
    );
    write(&path("notes.txt"), "no metrics");
    let file = fs::File::options()
        .append(true)
        .open(path("raid.prom"))
        .unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_millis(1_500_000_250))
        .unwrap();
    let proxy = Proxy::start(&format!(
        "[poll_external]\npoll_interval = \"50ms\"\n[[poll_external.textfile]]\ndirectories = [\"{}/\"]\n\
         targets = {{ labels = {{ host = \"h\" }} }}\n",
        dir.path().display()
    ));
    let raid = named("raid.prom");
    let text = "# TYPE raid gauge\nraid{host=\"h\",disk=\"a\"} 1\n";
    eventually(
        || text_of(&proxy, &raid),
        |found| found.as_deref() == Some(text),
    );
    assert_eq!(names(&proxy), [&*raid]);
    let mtime = |file: &str| {
        let series = format!("exporter_proxy_textfile_mtime_seconds{{file=\"{file}\"}}");
        proxy.sample(&series)
    };
    // It is set a little after the text.
    eventually(|| mtime(&raid), |time| *time == Some(1_500_000.25));
    let shown = detail(&proxy, &raid).unwrap();
    assert_eq!(shown["url"], format!("file://{raid}"));

    // An unusable file fails without affecting others.
    write(&path("times.prom"), "m 1 1700000000000\n");
    write(&path("wrong.prom"), "m{\n");
    fs::write(path("bytes.prom"), b"m \xff\n").unwrap();
    mkfifo(&path("pipe.prom"), Mode::S_IRWXU).unwrap();
    symlink("/dev/zero", path("zero.prom")).unwrap();
    symlink("loop.prom", path("loop.prom")).unwrap();
    let large = fs::File::create(path("large.prom")).unwrap();
    large.set_len(1 << 30).unwrap();
    for (name, reason) in [
        ("times.prom", "timestamp: "),
        ("wrong.prom", "invalid_text: "),
        (
            "bytes.prom",
            "invalid_utf8: the file is not UTF-8 at byte 2",
        ),
        (
            "pipe.prom",
            &format!("bad_setting: {}: not a regular file", named("pipe.prom")),
        ),
        (
            "zero.prom",
            &format!("bad_setting: {}: not a regular file", named("zero.prom")),
        ),
        (
            "loop.prom",
            &format!(
                "bad_setting: {}: Too many levels of symbolic links",
                named("loop.prom")
            ),
        ),
        (
            "large.prom",
            "too_large: the response exceeds the limit of 16777216 bytes",
        ),
    ] {
        let shown = eventually(
            || detail(&proxy, &named(name)).unwrap_or_default(),
            |it| it["state"] == "failing",
        );
        let problem = shown["last_problem"]["reason"].as_str().unwrap().to_owned();
        assert!(problem.starts_with(reason), "{problem}");
        assert_eq!(mtime(&named(name)), None);
        let success = format!("exporter_proxy_poll_success{{target=\"{}\"}}", named(name));
        eventually(|| proxy.sample(&success), |it| *it == Some(0.0));
    }
    // A changed file is read, and a removed file is withdrawn.
    write(&path("raid.prom"), "raid 2\n");
    eventually(
        || text_of(&proxy, &raid),
        |text| text.as_deref() == Some("raid{host=\"h\"} 2\n"),
    );
    fs::remove_file(path("raid.prom")).unwrap();
    eventually(|| names(&proxy), |names| !names.contains(&raid));
    assert!(!proxy.metrics().contains("raid"));
}

#[test]
fn a_directory_that_cannot_be_listed_is_a_failing_discovery() {
    let dir = tempfile::tempdir().unwrap();
    let late = dir.path().join("late");
    let proxy = Proxy::start(&format!(
        "[poll_external]\npoll_interval = \"50ms\"\ntextfile = \"{}\"\n",
        late.display()
    ));
    let success = "exporter_proxy_discovery_success{discovery=\"textfile[0]\"}";
    eventually(|| proxy.sample(success), |it| *it == Some(0.0));
    logged(&proxy, "late: No such file or directory", 1);
    fs::create_dir(&late).unwrap();
    write(&late.join("a.prom"), "m 1\n");
    let name = late.join("a.prom").display().to_string();
    eventually(
        || text_of(&proxy, &name),
        |text| text.as_deref() == Some("m 1\n"),
    );
    eventually(|| proxy.sample(success), |it| *it == Some(1.0));
}
