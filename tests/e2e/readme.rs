//! Examples of the README and of `docs/sending.md`. Each test runs the commands
//! as written, with the ports and the socket replaced, and compares the output.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::clients::shell;
use crate::harness::{Proxy, eventually};
use crate::tools::{self, Tool};

const README: &str = include_str!("../../README.md");
const SENDING: &str = include_str!("../../docs/sending.md");

/// The text of the first fenced block after `marker` in the README.
fn block_after(marker: &str) -> &'static str {
    block_in(README, marker)
}

/// The text of the first fenced block after `marker` in `document`.
fn block_in(document: &'static str, marker: &str) -> &'static str {
    let (_, rest) = document
        .split_once(marker)
        .expect("the document has the marker");
    let (_, rest) = rest.split_once("```").expect("a block begins");
    let (_, rest) = rest.split_once('\n').expect("its first line ends");
    let (block, _) = rest.split_once("```").expect("the block ends");
    block
}

/// A command of a document, with the addresses of `proxy`.
fn adapted(command: &str, proxy: &Proxy) -> String {
    command
        .replace(
            "/var/run/exporter-proxy-receiver.sock",
            &proxy.unix.display().to_string(),
        )
        .replace("127.0.0.1 6554", &proxy.tcp.replace(':', " "))
        .replace("localhost:6555", &proxy.http)
        .replace("socket_capnp.py", &format!("socket_capnp.py {}", proxy.tcp))
}

/// Starts a proxy as a user who cannot write to `/var/run`: the user `nobody` if
/// root runs the tests.
fn ordinary_proxy(config: &str) -> Proxy {
    const NOBODY: u32 = 65534;
    Proxy::launch(config, &[], |command| {
        let config = command.get_args().last().expect("a file is named");
        let dir = Path::new(config).parent().expect("it is in a directory");
        let temporary = dir.join("temporary");
        let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        if is_root {
            let readable = |path: &Path| {
                let mode = fs::Permissions::from_mode(0o755);
                fs::set_permissions(path, mode).expect("the owner may");
            };
            // The user `nobody` may not be able to read the original.
            let copy = dir.join("exporter-proxy");
            fs::copy(command.get_program(), &copy).expect("it is copied");
            readable(&copy);
            readable(dir);
            let mut ordinary = Command::new(&copy);
            ordinary.args(command.get_args());
            let settings = command.get_envs();
            ordinary.envs(settings.filter_map(|(name, value)| Some((name, value?))));
            ordinary
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
            ordinary.uid(NOBODY).gid(NOBODY);
            *command = ordinary;
        }
        fs::create_dir(&temporary).expect("the directory is ours");
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o777)).expect("it is ours");
        command
            .env_remove("EXPORTER_PROXY_RECEIVER_RECEIVER_UNIX_SOCKET")
            .env_remove("XDG_RUNTIME_DIR")
            .env("TMPDIR", &temporary)
    })
}

#[test]
fn merged_mode_is_shown_early_and_its_settings_work() {
    let merged = README.find("## One family, many apps").expect("a heading");
    for later in ["## Ways in", "## Reading", "## Settings"] {
        assert!(merged < README.find(later).expect("a heading"), "{later}");
    }
    let proxy = Proxy::start(block_after("let the proxy\nread their texts:"));
    let text = "# TYPE jobs_total counter\\njobs_total 1\\n";
    proxy.push_tcp(format!("{{\"a\":\"{text}\",\"b\":\"{text}\"}}").as_bytes());
    let metrics = proxy.metrics();
    let expected = "# TYPE jobs_total counter\njobs_total{app=\"a\"} 1\njobs_total{app=\"b\"} 1\n";
    assert!(metrics.ends_with(expected), "{metrics}");
}

#[test]
fn the_sixty_second_example_prints_what_the_readme_says() {
    if !tools::here(&[Tool::Netcat, Tool::Python, Tool::Curl]) {
        return;
    }
    let proxy = ordinary_proxy(include_str!("../../config.toml"));
    let commands: Vec<&str> = block_after("From a second shell").lines().collect();
    let (read, pushes) = commands.split_last().expect("there are commands");
    for command in pushes {
        shell(&adapted(command, &proxy));
    }
    eventually(
        || proxy.sample("exporter_proxy_apps"),
        |apps| *apps == Some(pushes.len() as f64),
    );

    let printed = shell(&adapted(read, &proxy)).stdout;
    // The texts of apps come last.
    let promised = block_after("compares what they print with this.");
    assert!(printed.starts_with(promised), "{printed}");
    let table = &printed[promised.len()..];
    let ours = adapted(block_after("`/apps` lists the apps:"), &proxy)
        .replace("127.0.0.1:6554", &proxy.tcp);
    assert_eq!(cells(table), cells(&ours));
}

/// The words of a table, with `(time)` for each time. Lines without text are left out, since their
/// length depends on the address.
fn cells(table: &str) -> Vec<Vec<String>> {
    let plain = |word: &str| {
        let time = word.starts_with(|c: char| c.is_ascii_digit())
            && word.contains(['-', ':'])
            && !word.starts_with("127.");
        if time { "(time)" } else { word }.to_owned()
    };
    table
        .lines()
        .filter(|line| !line.contains("+---"))
        .map(|line| {
            line.split_whitespace()
                .filter(|word| *word != "|")
                .map(plain)
                .collect()
        })
        .collect()
}

#[test]
fn a_bad_message_is_answered_as_the_document_says() {
    if !tools::here(&[Tool::Netcat]) {
        return;
    }
    let proxy = Proxy::start("");
    let console = block_in(SENDING, "earlier documents stay stored:");
    let (command, answer) = console.split_once('\n').expect("a command and its answer");
    let command = command.strip_prefix("$ ").expect("a prompt");
    assert_eq!(shell(&adapted(command, &proxy)).stdout, answer);
}
