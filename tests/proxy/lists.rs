//! Long lists, which are generated while they are sent.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::harness::{Proxy, eventually};

/// Pushes `count` apps with names and texts of different lengths.
fn push_apps(proxy: &Proxy, count: usize) {
    let mut document = String::from("{");
    for number in 0..count {
        let comma = if number > 0 { "," } else { "" };
        let text = format!("m_{number} 1\\n# c\\n").repeat(number % 5);
        let _ = write!(
            document,
            "{comma}\"app-{number:0>width$}\":\"{text}\"",
            width = number % 9
        );
    }
    document.push('}');
    assert_eq!(proxy.push_tcp(document.as_bytes()), "");
}

fn lines_of(table: &str) -> BTreeSet<usize> {
    table.lines().map(|line| line.chars().count()).collect()
}

#[test]
fn a_long_list_of_apps_is_complete_in_every_format() {
    let proxy = Proxy::start("");
    push_apps(&proxy, 3000);
    let answer = proxy.get("/apps?format=json");
    // The length is unknown: the list is generated while it is sent.
    assert_eq!(answer.header("content-length"), None);
    let apps = answer.json()["apps"].clone();
    let apps = apps.as_array().unwrap();
    assert_eq!(apps.len(), 3000);
    let names: Vec<&str> = apps
        .iter()
        .map(|app| app["name"].as_str().unwrap())
        .collect();
    assert!(names.is_sorted());
    for app in apps {
        let name = app["name"].as_str().unwrap();
        let number: usize = name["app-".len()..].parse().unwrap();
        assert_eq!(app["samples"], number % 5, "{name}");
    }
    for path in ["/apps", "/apps?wide=1"] {
        let table = proxy.get(path).text();
        assert_eq!(table.matches("| app-").count(), 3000, "{path}");
        // All lines have the same width, though rows are formatted in batches.
        assert_eq!(lines_of(&table).len(), 1, "{path}");
    }
    let head = proxy.request("HEAD", "/apps", &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn groups_are_listed_with_all_metrics_of_large_families() {
    let proxy = Proxy::start("");
    let mut body = String::from("# HELP h Times.\n# TYPE h histogram\n");
    for path in 0..2000 {
        let labels = format!("path=\"/some/long/path/{path}\"");
        let _ = writeln!(body, "h_bucket{{{labels},le=\"1\"}} {path}");
        let _ = writeln!(body, "h_bucket{{{labels},le=\"+Inf\"}} {path}");
        let _ = writeln!(body, "h_sum{{{labels}}} {path}\nh_count{{{labels}}} {path}");
    }
    body.push_str("# TYPE plain gauge\n");
    for number in 0..3000 {
        let _ = writeln!(
            body,
            "plain{{number=\"{number}\",text=\"{number:040}\"}} {number}"
        );
    }
    for job in ["a", "b"] {
        let answer = proxy.push("PUT", &format!("/metrics/job/{job}"), &body);
        assert_eq!(answer.status, 200);
    }
    let listed = crate::harness::http_request(&proxy.push, "GET", "/api/v1/metrics", &[]).json();
    let groups = listed["data"].as_array().unwrap();
    assert_eq!(groups.len(), 2);
    for group in groups {
        assert_eq!(group["last_push_successful"], true);
        assert_eq!(group["h"]["type"], "HISTOGRAM");
        assert_eq!(group["h"]["help"], "Times.");
        let histograms = group["h"]["metrics"].as_array().unwrap();
        assert_eq!(histograms.len(), 2000);
        let mut paths = BTreeSet::new();
        for metric in histograms {
            let path = metric["labels"]["path"].as_str().unwrap();
            let number = path.rsplit('/').next().unwrap();
            assert_eq!(metric["count"], number);
            assert_eq!(metric["buckets"]["1"], number);
            assert_eq!(metric["buckets"]["+Inf"], number);
            paths.insert(path);
        }
        assert_eq!(paths.len(), 2000);
        let plain = group["plain"]["metrics"].as_array().unwrap();
        let numbers: BTreeSet<&str> = plain
            .iter()
            .filter_map(|metric| metric["value"].as_str())
            .collect();
        assert_eq!(numbers.len(), 3000);
    }
}

#[test]
fn a_long_page_of_groups_is_complete_and_names_the_next() {
    let proxy = Proxy::start("");
    let groups: Vec<Value> = (0..2500)
        .map(|number| serde_json::json!({"labels": {"job": format!("j{number:05}")}, "metrics": "m 1\n"}))
        .collect();
    let batch = serde_json::json!({ "groups": groups }).to_string();
    assert_eq!(proxy.push("POST", "/api/v1/batch", batch).status, 200);
    let get = |query: &str| {
        let path = format!("/api/v1/groups?{query}");
        crate::harness::http_request(&proxy.push, "GET", &path, &[]).json()["data"].clone()
    };
    let page = get("limit=2000");
    assert_eq!(page["groups"].as_array().unwrap().len(), 2000);
    let next = page["next"].as_str().unwrap().replace('"', "%22");
    let rest = get(&format!("limit=2000&after={next}"));
    assert_eq!(rest["groups"].as_array().unwrap().len(), 500);
    assert_eq!(rest["next"], Value::Null);
    assert_eq!(rest["groups"][0]["labels"]["job"], "j02000");
    let chosen = get("limit=10&match[]=%7Bjob%3D%22j01234%22%7D");
    assert_eq!(chosen["groups"].as_array().unwrap().len(), 1);
    assert_eq!(chosen["next"], Value::Null);
}

#[test]
fn lists_that_clients_do_not_read_do_not_delay_others() {
    let proxy = Proxy::start("");
    push_apps(&proxy, 3000);
    let stalled: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(&proxy.http).unwrap();
            let request = "GET /apps?format=json HTTP/1.1\r\nHost: x\r\n\r\n";
            stream.write_all(request.as_bytes()).unwrap();
            // The reply has begun.
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            stream
        })
        .collect();
    assert_eq!(
        proxy.get("/apps?format=json").json()["apps"]
            .as_array()
            .unwrap()
            .len(),
        3000
    );
    drop(stalled);
    let open = || proxy.sample("exporter_proxy_connections_open{listener=\"http\"}");
    // The connection that requests the metrics.
    eventually(open, |open| *open == Some(1.0));
}

#[test]
fn clients_that_do_not_read_selections_hold_bounded_memory() {
    const TEXT: usize = 15 << 20;
    // An eighth is reserved for small replies.
    const BOUND: usize = 256 << 20;
    let proxy = Proxy::start("");
    let line = format!("{} 1\\n", "m".repeat(61)).repeat(TEXT / 64);
    assert_eq!(
        proxy.push_tcp(format!("{{\"big\":\"{line}\"}}").as_bytes()),
        ""
    );
    let ask = |stream: &mut TcpStream| {
        let head = "GET /metrics?app=big HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        String::from_utf8(status.to_vec()).unwrap()
    };
    let mut readers = Vec::new();
    for _ in 0..BOUND * 7 / 8 / TEXT {
        let mut reader = TcpStream::connect(&proxy.http).unwrap();
        assert_eq!(ask(&mut reader), "HTTP/1.1 200");
        readers.push(reader);
    }
    let mut rejected = TcpStream::connect(&proxy.http).unwrap();
    assert_eq!(ask(&mut rejected), "HTTP/1.1 503");
    // Small selections use the reserve, and all of /metrics is not a copy.
    assert_eq!(proxy.get("/metrics?name[]=exporter_proxy_apps").status, 200);
    assert!(proxy.get("/metrics").body.len() > TEXT);
    drop(readers);
    eventually(
        || proxy.get("/metrics?app=big").status,
        |status| *status == 200,
    );
}
