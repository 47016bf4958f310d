//! The load, from the binary and from the script for k6, against the real service.

#![allow(clippy::unwrap_used, reason = "a test that panics is one that fails")]

mod support;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::{Service, program};

#[test]
fn the_load_makes_the_requests_of_all_scenarios() {
    let service = Service::start(&["--delays", "0", "--seed", "1"]);
    let load = program()
        .args([
            "load",
            "--fraction",
            "0.004",
            "--seed",
            "1",
            "--base-url",
            &service.url(),
        ])
        .output()
        .unwrap();
    let summary = String::from_utf8(load.stdout).unwrap();
    assert!(load.status.success(), "{summary}");
    let rows: Vec<Vec<&str>> = summary
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect();
    let expected = [
        ("create_users", 200),
        ("update_users", 6),
        ("delete_users", 6),
        ("get_users", 48),
        ("get_userList", 24),
    ];
    for (row, (name, iterations)) in rows.iter().zip(expected) {
        assert_eq!(row[0], name, "{summary}");
        let number = |column: usize| row[column].parse::<u64>().unwrap();
        let (replies, failed, dropped) = (number(1), number(6), number(7));
        assert_eq!(replies + dropped, iterations, "{summary}");
        assert_eq!(failed, 0, "{summary}");
        let classes: u64 = (3..6).map(number).sum();
        assert_eq!(classes, replies, "{summary}");
    }
    assert_eq!(service.sample("person_created_total"), Some(200.0));
}

#[test]
fn without_a_service_the_load_says_how_to_start_one() {
    let load = program()
        .args(["load"])
        .env("BASE_URL", "http://127.0.0.1:9")
        .output()
        .unwrap();
    assert_eq!(load.status.code(), Some(1));
    let problem = String::from_utf8(load.stderr).unwrap();
    assert_eq!(
        problem,
        "error: there is no service at http://127.0.0.1:9 (connection refused); `demo serve` \
         starts one\n"
    );
}

/// Runs `load.js` under Node with a stand-in for k6's modules, which sends real requests, and
/// returns the options and the actions of each function.
fn run_script(base_url: &str, rounds: u32) -> Option<Value> {
    let node = Command::new("node").arg("--version").output();
    if !node.is_ok_and(|output| output.status.success()) {
        skip("the script for k6 needs node");
        return None;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let modules = dir.path().join("node_modules/k6");
    fs::create_dir_all(&modules).unwrap();
    for file in ["package.json", "index.js", "http.js"] {
        fs::copy(root.join("tests/k6").join(file), modules.join(file)).unwrap();
    }
    // Node recognizes modules by the names of their files.
    fs::copy(root.join("load.js"), dir.path().join("load.mjs")).unwrap();
    fs::copy(root.join("tests/k6/run.mjs"), dir.path().join("run.mjs")).unwrap();
    let output = Command::new("node")
        .arg(dir.path().join("run.mjs"))
        .arg(rounds.to_string())
        .env("BASE_URL", base_url)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{problems}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// Records a test that was left out, for `scripts/test`. With `CI=true` that is a failure.
fn skip(why: &str) {
    println!("skipped: {why}");
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{why}");
    if let Ok(file) = std::env::var("EXPORTER_PROXY_TEST_SKIPS") {
        let file = fs::OpenOptions::new().append(true).create(true).open(file);
        writeln!(file.unwrap(), "{why}").unwrap();
    }
}

#[test]
fn the_script_for_k6_has_the_scenarios_and_makes_their_requests() {
    const ROUNDS: usize = 20;
    let service = Service::start(&["--delays", "0", "--seed", "1"]);
    let Some(ran) = run_script(&service.url(), ROUNDS as u32) else {
        return;
    };
    let shared = |exec: &str, vus: u32, iterations: u32| {
        json!({ "executor": "shared-iterations", "exec": exec, "vus": vus,
                "iterations": iterations, "maxDuration": "10m" })
    };
    let constant = |exec: &str, rate: u32, duration: &str, vus: u32| {
        json!({ "executor": "constant-arrival-rate", "exec": exec, "rate": rate,
                "timeUnit": "1s", "duration": duration, "preAllocatedVUs": vus,
                "startTime": "5s" })
    };
    let mut delete = shared("deleteUser", 2, 1500);
    delete["startTime"] = json!("30s");
    let expected = json!({
        "create_users": shared("createUser", 50, 50_000),
        "update_users": constant("updateUser", 5, "5m", 5),
        "delete_users": delete,
        "get_users": constant("getUser", 20, "10m", 10),
        "get_userList": constant("getUserList", 10, "10m", 5),
    });
    assert_eq!(ran["options"]["scenarios"], expected);

    for (scenario, method, path, query, statuses) in [
        ("create_users", "POST", "/person", "", vec![201]),
        ("update_users", "PUT", "/person/{id}", "", vec![200, 404]),
        ("delete_users", "DELETE", "/person/{id}", "", vec![204, 404]),
        ("get_users", "GET", "/person/{id}", "", vec![200, 404]),
        (
            "get_userList",
            "GET",
            "/person/list",
            "start={id}",
            vec![200],
        ),
    ] {
        let calls = ran["calls"][scenario].as_array().unwrap();
        assert_eq!(calls.len(), ROUNDS, "{scenario}");
        for call in calls {
            assert_eq!(call["sleeps"], json!([0.5]), "{call}");
            assert_eq!(call["failed_checks"], json!([]), "{call}");
            let requests = call["requests"].as_array().unwrap();
            assert_eq!(requests.len(), 1, "{call}");
            let request = &requests[0];
            assert_eq!(request["method"], method);
            let url = request["url"].as_str().unwrap();
            let rest = url.strip_prefix(&service.url()).unwrap();
            let (found, asked) = rest.split_once('?').unwrap_or((rest, ""));
            assert!(is_like(path, found) && is_like(query, asked), "{url}");
            let status = request["status"].as_u64().unwrap();
            assert!(statuses.contains(&status), "{request}");
            if matches!(method, "POST" | "PUT") {
                assert_eq!(request["headers"]["Content-Type"], "application/json");
                let body: Value = serde_json::from_str(request["body"].as_str().unwrap()).unwrap();
                for key in ["first_name", "last_name", "email", "address"] {
                    assert!(!body[key].as_str().unwrap().is_empty(), "{body}");
                }
            } else {
                assert_eq!(request["body"], Value::Null);
            }
        }
    }
    let created = service.sample("person_created_total");
    assert_eq!(created, Some(ROUNDS as f64));
    let series = r#"http_requests_total{code="200",method="GET",path="/person/list"}"#;
    assert_eq!(service.sample(series), Some(ROUNDS as f64));
}

/// Whether `text` matches `pattern`, with an id below 1000 for `{id}`.
fn is_like(pattern: &str, text: &str) -> bool {
    match pattern.split_once("{id}") {
        Some((prefix, _)) => {
            let id = text.strip_prefix(prefix);
            id.is_some_and(|id| id.parse::<u32>().is_ok_and(|id| id < 1000))
        }
        None => text == pattern,
    }
}
