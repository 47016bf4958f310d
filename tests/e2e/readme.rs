//! The README's first screen: its commands are run as they stand, other ports
//! and another socket aside, and print what it says.

use crate::clients::shell;
use crate::harness::{Proxy, eventually};
use crate::tools::{self, Tool};

const README: &str = include_str!("../../README.md");

/// The text of the first fenced block after `marker`.
fn block_after(marker: &str) -> &'static str {
    let (_, rest) = README
        .split_once(marker)
        .expect("the README has the marker");
    let (_, rest) = rest.split_once("```").expect("a block begins");
    let (_, rest) = rest.split_once('\n').expect("its first line ends");
    let (block, _) = rest.split_once("```").expect("the block ends");
    block
}

/// A command of the README, for this proxy.
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

#[test]
fn the_sixty_second_try_prints_what_the_readme_says() {
    if !tools::here(&[Tool::Netcat, Tool::Python, Tool::Curl]) {
        return;
    }
    let proxy = Proxy::start(include_str!("../../config.toml"));
    let commands: Vec<&str> = block_after("From a second shell:").lines().collect();
    let (read, pushes) = commands.split_last().expect("there are commands");
    for command in pushes {
        shell(&adapted(command, &proxy));
    }
    eventually(
        || proxy.sample("exporter_proxy_apps"),
        |apps| *apps == Some(pushes.len() as f64),
    );

    let printed = shell(&adapted(read, &proxy)).stdout;
    let promised = block_after("compares what they print with this.");
    assert!(printed.contains(promised), "{printed}");
    let (metrics, table) = printed.split_once(promised).expect("it is there");
    assert!(
        metrics.lines().all(|line| line.contains("exporter_proxy_")),
        "{metrics}"
    );
    let ours =
        adapted(block_after("tells who they are:"), &proxy).replace("127.0.0.1:6554", &proxy.tcp);
    assert_eq!(cells(table), cells(&ours));
}

/// The words of a table. Times are masked, and rules are left out since their
/// length is that of the longest address.
fn cells(table: &str) -> Vec<Vec<String>> {
    let masked = |word: &str| {
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
                .map(masked)
                .collect()
        })
        .collect()
}

#[test]
fn the_faulty_push_is_answered_as_the_readme_says() {
    if !tools::here(&[Tool::Netcat]) {
        return;
    }
    let proxy = Proxy::start("");
    let console = block_after("what came before stays stored:");
    let (command, answer) = console.split_once('\n').expect("a command and its answer");
    let command = command.strip_prefix("$ ").expect("a prompt");
    assert_eq!(shell(&adapted(command, &proxy)).stdout, answer);
}
