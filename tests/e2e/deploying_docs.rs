//! The settings, tables and commands of `docs/deploying.md`.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::tempdir;

use crate::documents::{self, Block, blocks, code, table};
use crate::harness::certificates::Authority;
use crate::harness::{Proxy, eventually, program};
use crate::tools::{run, run_with};

const DOCUMENT: &str = include_str!("../../docs/deploying.md");

/// Makes the files that the document's settings name, and redirects absolute paths to them.
fn with_files(text: &str, dir: &Path) -> String {
    Authority::new(dir, "ca").issue("server");
    fs::write(dir.join("push-token"), "token\n").expect("it is written");
    let here = format!("{}/", dir.display());
    ["/etc/exporter-proxy/", "/run/secrets/"]
        .iter()
        .fold(text.to_owned(), |text, absolute| {
            text.replace(absolute, &here)
        })
        // A group that exists on every machine.
        .replace("unix_group = \"metrics\"", "unix_group = \"current_group\"")
}

#[test]
fn settings_in_the_document_are_settings() {
    documents::check_settings_with(&blocks(DOCUMENT), with_files);
}

#[test]
fn the_web_configuration_is_one() {
    let all = blocks(DOCUMENT);
    let is_web = |block: &&Block| block.text.contains("basic_auth_users");
    let block = all.iter().find(is_web).expect("a web configuration");
    assert_eq!(block.language, "yaml");
    let dir = tempdir().expect("a temporary directory");
    let file = dir.path().join("web.yml");
    fs::write(&file, block.text).expect("it is written");
    let proxy = Proxy::start(&format!("[web]\nconfig_file = \"{}\"\n", file.display()));
    let answer = proxy.get("/metrics");
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("x-frame-options"), Some("deny"));
}

#[test]
fn limits_in_the_document_are_settings_with_their_defaults() {
    let sample = include_str!("../../config.toml");
    let sample: toml::Table = sample.parse().expect("the sample file is TOML");
    for row in table(DOCUMENT, "limits") {
        let [setting, default, _memory] = &row[..] else {
            panic!("{row:?}");
        };
        let (group, key) = code(setting).split_once('.').expect("a table and a key");
        let found = sample[group].get(key);
        let found = found.unwrap_or_else(|| panic!("{setting} is in config.toml"));
        assert_eq!(found.to_string(), code(default), "{setting}");
    }
}

/// A command of the document, for a shell in `dir`, with this program.
fn shell(command: &str, dir: &Path) -> Command {
    let found = program();
    let program = found.get_program().to_str().expect("a path");
    let mut shell = Command::new("sh");
    shell
        .arg("-ec")
        .arg(command.replace("exporter-proxy", program))
        .current_dir(dir)
        .env("EXPORTER_PROXY_STORAGE_PATH", dir.join("state"));
    shell
}

#[test]
fn the_commands_for_storage_work_in_the_order_of_the_table() {
    let dir = tempdir().expect("a temporary directory");
    let state = dir.path().join("state");
    let stored = [("STORAGE_PATH", state.to_str().expect("a path"))];
    let mut proxy = Proxy::start_with("", &stored);
    assert_eq!(
        proxy.push("PUT", "/metrics/job/backup", "m 1\n").status,
        200
    );
    proxy.signal("TERM");
    assert!(proxy.wait().success());
    let (_, rest) = DOCUMENT.split_once("### Backup\n").expect("a heading");
    let rows = rest
        .lines()
        .filter(|line| line.starts_with("| `exporter-proxy"));
    let commands: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    let [check, export, import] = commands[..3] else {
        panic!("{commands:?}");
    };
    let printed = run(&mut shell(check, dir.path()));
    assert!(printed.stdout.contains("section: 1 record"), "{printed:?}");
    run(&mut shell(export, dir.path()));
    fs::remove_dir_all(&state).expect("it is ours");
    run(&mut shell(import, dir.path()));
    let proxy = Proxy::start_with("", &stored);
    eventually(
        || proxy.metrics(),
        |metrics| metrics.contains("\nm{instance=\"\",job=\"backup\"} 1\n"),
    );
}

#[test]
fn a_password_becomes_a_hash() {
    let (command, _) = DOCUMENT
        .split_once(" < password.txt`")
        .map(|(before, after)| (before.rsplit('`').next().expect("a command"), after))
        .expect("the command is in the document");
    let mut words = command.split(' ');
    assert_eq!(words.next(), Some("exporter-proxy"));
    let hash = run_with(program().args(words), b"secret\n").stdout;
    let right = bcrypt::verify("secret", hash.trim_end());
    assert!(right.is_ok_and(|right| right), "{hash}");
}
