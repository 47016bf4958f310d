//! The sample clients, run as a person does.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Proxy, eventually};
use crate::tools::{self, Printed, Tool, command, command_of, run, sample};

const TCP_SCRIPT: &str = "test_send_tcp_socket_capnp.py";
const UNIX_SCRIPT: &str = "test_send_unix_socket_capnp.py";
const BUILT_IN: &str = "pycapnp is not installed: using the built-in encoder\n";

/// Runs a line of the README, in the repository as the reader does.
#[track_caller]
pub fn shell(line: &str) -> Printed {
    run(command_of(Path::new("sh")).args(["-c", line]))
}

/// A sample client, run by the virtual environment's Python.
#[track_caller]
pub fn with_pycapnp(script: &str, arguments: &[&str]) -> Printed {
    let printed = run(command(Tool::Pycapnp).arg(sample(script)).args(arguments));
    assert!(
        printed.stdout.contains("encoded with pycapnp"),
        "{printed:?}"
    );
    assert_eq!(printed.stderr, "");
    printed
}

/// Python without other packages, and so without pycapnp.
fn bare_python() -> Command {
    let mut python = command(Tool::Python);
    python.args(["-S", "-s", "-E"]);
    python
}

/// The stored text of an app, once there is one.
pub fn stored(proxy: &Proxy, app: &str) -> String {
    eventually(
        || proxy.get(&format!("/apps/{app}/metrics")),
        |answer| answer.status == 200,
    )
    .text()
}

/// The text of a sample file, as it should be stored.
pub fn sample_text(file: &str) -> (String, String) {
    let document = std::fs::read_to_string(sample(file)).expect("the sample is there");
    let document: Value = serde_json::from_str(&document).expect("the sample is JSON");
    let (app, content) = document
        .as_object()
        .and_then(|apps| apps.iter().next())
        .expect("the sample names an app");
    let text = match content {
        Value::String(text) => text.clone(),
        lines => {
            let lines = lines.as_array().expect("a text or lines");
            let lines: Vec<&str> = lines.iter().filter_map(Value::as_str).collect();
            lines.join("\n")
        }
    };
    (app.clone(), text + "\n")
}

#[test]
fn netcat_pushes_an_array_of_lines_over_the_unix_socket() {
    if !tools::here(&[Tool::Netcat]) {
        return;
    }
    let proxy = Proxy::start("");
    let printed = shell(&format!(
        "cat python_test_clients/json_array.json | nc -U {} -q 0",
        proxy.unix.display()
    ));
    assert_eq!(printed.stdout + &printed.stderr, "");
    let (app, text) = sample_text("json_array.json");
    assert_eq!(stored(&proxy, &app), text);
    assert!(proxy.metrics().ends_with(&text));
}

#[test]
fn netcat_pushes_a_string_over_tcp() {
    if !tools::here(&[Tool::Netcat]) {
        return;
    }
    let proxy = Proxy::start("");
    let printed = shell(&format!(
        "cat python_test_clients/json_string.json | nc {} -q 0",
        proxy.tcp.replace(':', " ")
    ));
    assert_eq!(printed.stdout + &printed.stderr, "");
    let (app, text) = sample_text("json_string.json");
    assert_eq!(stored(&proxy, &app), text);
    assert!(proxy.metrics().ends_with(&text));
}

#[test]
fn the_tcp_script_pushes_with_pycapnp() {
    if !tools::here(&[Tool::Pycapnp]) {
        return;
    }
    let proxy = Proxy::start("");
    with_pycapnp(TCP_SCRIPT, &[&proxy.tcp]);
    let text = stored(&proxy, "python_tcp_capnp");
    assert!(
        text.ends_with("\npython_tcp_capnp_jobs_total{outcome=\"failed\"} 1\n"),
        "{text}"
    );
    assert!(proxy.metrics().ends_with(&text));
}

#[test]
fn the_unix_script_pushes_with_pycapnp() {
    if !tools::here(&[Tool::Pycapnp]) {
        return;
    }
    let proxy = Proxy::start("");
    let socket = proxy.unix.display().to_string();
    with_pycapnp(UNIX_SCRIPT, &[&socket, "other-name"]);
    let text = stored(&proxy, "other-name");
    assert!(text.contains("other_name_jobs_total{"), "{text}");
}

#[test]
fn the_tcp_script_pushes_the_same_text_without_pycapnp() {
    if !tools::here(&[Tool::Pycapnp, Tool::Python]) {
        return;
    }
    let with = Proxy::start("");
    with_pycapnp(TCP_SCRIPT, &[&with.tcp, "app"]);

    let without = Proxy::start("");
    let printed = run(bare_python()
        .arg(sample(TCP_SCRIPT))
        .args([&without.tcp, "app"]));
    assert_eq!(printed.stderr, BUILT_IN);
    assert!(
        printed.stdout.contains("encoded with the built-in encoder"),
        "{printed:?}"
    );
    assert_eq!(stored(&without, "app"), stored(&with, "app"));
}

#[test]
fn the_unix_script_runs_without_pycapnp_too() {
    if !tools::here(&[Tool::Python]) {
        return;
    }
    let proxy = Proxy::start("");
    let printed = run(bare_python().arg(sample(UNIX_SCRIPT)).arg(&proxy.unix));
    assert_eq!(printed.stderr, BUILT_IN);
    stored(&proxy, "python_unix_capnp");
}

#[test]
fn both_encoders_make_the_same_bytes() {
    if !tools::here(&[Tool::Pycapnp]) {
        return;
    }
    let check = "
from proxy_client import by_hand, with_pycapnp
for name, text in [('', ''), ('app1', 'm 1\\n'), ('seven77', 'seven77'), ('eight888', 'grün ' * 200)]:
    assert by_hand(name, text) == with_pycapnp(name, text), name
";
    run(command(Tool::Pycapnp)
        .args(["-c", check])
        .current_dir(sample("")));
}

#[test]
fn the_unix_script_looks_for_the_socket_where_the_proxy_makes_it() {
    if !tools::here(&[Tool::Python]) {
        return;
    }
    let places = |python: &mut Command| {
        let list = "import proxy_client; print(*proxy_client.socket_places())";
        run(python.args(["-c", list]).current_dir(sample(""))).stdout
    };
    let name = "exporter-proxy-receiver.sock";
    assert_eq!(
        places(
            command(Tool::Python)
                .env("XDG_RUNTIME_DIR", "/run/user/1")
                .env("TMPDIR", "/scratch")
        ),
        format!("/var/run/{name} /run/user/1/{name} /scratch/{name}\n")
    );
    assert_eq!(
        places(
            command(Tool::Python)
                .env_remove("XDG_RUNTIME_DIR")
                .env_remove("TMPDIR")
        ),
        format!("/var/run/{name} /tmp/{name}\n")
    );
}

#[test]
fn the_unix_script_takes_the_first_place_that_has_a_socket() {
    if !tools::here(&[Tool::Python]) {
        return;
    }
    let proxy = Proxy::start("");
    let file = proxy.dir.path().join("config.toml");
    // With explicit paths, so that the test ignores a proxy of this machine.
    let find = "
import sys, proxy_client
proxy_client.socket_places = lambda: sys.argv[1:]
print(proxy_client.find_socket())
";
    let found = run(command(Tool::Python)
        .args(["-c", find, "/nowhere/x.sock"])
        .arg(&file)
        .arg(&proxy.unix)
        .current_dir(sample("")));
    assert_eq!(found.stdout.trim_end(), proxy.unix.display().to_string());
}
