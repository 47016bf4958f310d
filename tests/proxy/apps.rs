//! The list of apps, and the paths of one app.

use crate::harness::Proxy;
use crate::http::{JSON, PLAIN, TEXT, check_length};
use crate::support::{app_path, is_utc_now};
/// The cells of the rows of a table. Asserts that a rule surrounds every row.
fn rows(table: &str) -> Vec<Vec<String>> {
    let is_rule = |line: &str| {
        line.starts_with('+') && line.ends_with('+') && line.chars().all(|c| c == '+' || c == '-')
    };
    let lines: Vec<&str> = table.lines().collect();
    assert!(is_rule(lines[0]), "{table}");
    assert!(is_rule(lines[lines.len() - 1]), "{table}");
    assert_eq!(lines.len() % 2, 1, "{table}");
    let mut rows = Vec::new();
    for pair in lines[..lines.len() - 1].chunks(2) {
        // The corners of the rules are the borders of the columns.
        assert_eq!(pair[0], lines[0], "{table}");
        let row = pair[1]
            .strip_prefix('|')
            .and_then(|row| row.strip_suffix('|'));
        let row = row.unwrap_or_else(|| panic!("no row: {}", pair[1]));
        rows.push(row.split('|').map(|cell| cell.trim().to_owned()).collect());
    }
    rows
}

/// The line of the outer table with the time, and the inner table.
fn unnest(page: &str) -> (String, String) {
    let lines: Vec<&str> = page.lines().collect();
    let rule = lines[0];
    assert!(rule.starts_with('+') && rule[1..rule.len() - 1].bytes().all(|byte| byte == b'-'));
    assert_eq!(lines[2], rule, "{page}");
    assert_eq!(*lines.last().unwrap(), rule, "{page}");
    let inside = |line: &str| {
        let inside = line
            .strip_prefix("| ")
            .and_then(|line| line.strip_suffix(" |"));
        inside
            .unwrap_or_else(|| panic!("{line}"))
            .trim_end()
            .to_owned()
    };
    let table: Vec<String> = lines[3..lines.len() - 1]
        .iter()
        .map(|line| inside(line))
        .collect();
    (inside(lines[1]), table.join("\n"))
}

#[test]
fn apps_is_a_table_in_a_table_of_three_columns_with_utc_times() {
    let proxy = Proxy::start("");
    let (time, table) = unnest(&proxy.get("/apps").text());
    assert!(
        is_utc_now(time.strip_prefix("Current time: ").unwrap()),
        "{time}"
    );
    let head = "| App Name | Last Update Time (UTC) | Source |";
    assert_eq!(table.lines().nth(1), Some(head));
    // A table without rows has the rules of the header and of its end.
    assert_eq!(table.lines().count(), 4, "{table}");

    proxy.push_unix(b"{\"second\":\"m 1\"}");
    proxy.push_tcp("{\"erste é\":\"m 1\"}".as_bytes());
    let (_, table) = unnest(&proxy.get("/apps").text());
    let rows = rows(&table);
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0], ["App Name", "Last Update Time (UTC)", "Source"]);
    let socket = proxy.unix.display().to_string();
    for (row, name, source) in [
        (&rows[1], "erste é", &proxy.tcp),
        (&rows[2], "second", &socket),
    ] {
        assert_eq!(row.len(), 3);
        assert_eq!((&*row[0], &row[2]), (name, source));
        assert!(is_utc_now(&row[1]), "{}", row[1]);
    }
}

#[test]
fn the_wide_table_adds_url_peer_age_size_samples_state_problem_and_findings() {
    let proxy = Proxy::start("");
    proxy.push_tcp(b"{\"app\":\"# c\\nm 1\\n\\nn 1\"}");
    proxy.push_unix(b"{\"local\":\"m 1\"}");
    let (_, table) = unnest(&proxy.get("/apps?wide=1").text());
    let rows = rows(&table);
    assert_eq!(
        rows[0],
        [
            "App Name",
            "Last Update Time (UTC)",
            "Source",
            "URL",
            "Peer",
            "Age",
            "Bytes",
            "Samples",
            "State",
            "Last Problem",
            "Findings"
        ]
    );
    let app = &rows[1];
    assert_eq!((&*app[0], &app[2]), ("app", &proxy.tcp));
    assert_eq!(app[3], "-");
    assert!(
        app[4].starts_with("127.0.0.1:") && app[4] != proxy.tcp,
        "{app:?}"
    );
    let age: u64 = app[5].strip_suffix('s').unwrap().parse().unwrap();
    assert!(age < 30, "{app:?}");
    assert_eq!(app[6..], ["13", "2", "fresh", "-", "-"]);
    let peer = &rows[2][4];
    let pid = std::process::id();
    assert!(peer.starts_with(&format!("pid {pid}, uid ")), "{peer}");
    let (_, narrow) = unnest(&proxy.get("/apps?wide=0").text());
    assert!(!narrow.contains("Samples"), "{narrow}");
    for (query, reported) in [
        ("wide=yes", "wide must be 0 or 1, not \"yes\"\n"),
        ("format=xml", "format must be json or text, not \"xml\"\n"),
    ] {
        let answer = proxy.get(&format!("/apps?{query}"));
        assert_eq!((answer.status, answer.text()), (400, reported.to_owned()));
    }
}

#[test]
fn apps_is_json_on_request() {
    let proxy = Proxy::start("");
    proxy.push_tcp(b"{\"b\":\"m 1\\nn 2\",\"a\":\"\"}");
    let by_header = proxy.request("GET", "/apps", &[("Accept", "application/json")]);
    let by_query = proxy.get("/apps?format=json");
    for answer in [by_header, by_query] {
        assert_eq!(answer.header("content-type"), Some(JSON));
        let list = answer.json();
        let time = list["time"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{time}");
        let apps = list["apps"].as_array().unwrap();
        assert_eq!(apps.len(), 2);
        assert_eq!(
            (&apps[0]["name"], &apps[1]["name"]),
            (&"a".into(), &"b".into())
        );
        let b = &apps[1];
        assert_eq!(b["kind"], "app");
        assert_eq!(b["state"], "fresh");
        assert_eq!(b["source"], *proxy.tcp);
        assert!(b["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
        assert_eq!((&b["bytes"], &b["samples"]), (&8.into(), &2.into()));
        assert!(b["age_seconds"].as_f64().unwrap() < 30.0);
        assert!(b["last_update"].as_str().unwrap().ends_with('Z'));
        assert!(b["last_problem"].is_null());
    }
    let other = [("Accept", "text/*,*/*;q=0.8")];
    let table = proxy.request("GET", "/apps", &other);
    assert_eq!(table.header("content-type"), Some(PLAIN));
}

#[test]
fn an_app_of_any_name_has_paths_with_its_percent_encoded_name() {
    let proxy = Proxy::start("");
    for name in [
        "a/b",
        "with space",
        "per%cent",
        "é😀",
        "?q=1#f",
        "+",
        ".",
        "\"quoted\"",
    ] {
        let document = serde_json::json!({ name: format!("m{{of={name:?}}} 1") });
        proxy.push_tcp(document.to_string().as_bytes());
        let path = app_path(name);
        let detail = proxy.get(&path).json();
        assert_eq!(detail["name"], name, "{path}");
        let text = proxy.get(&format!("{path}/metrics"));
        assert_eq!(text.header("content-type"), Some(TEXT), "{path}");
        check_length(&text);
        assert_eq!(text.text(), format!("m{{of={name:?}}} 1\n"), "{path}");
    }
    // Encoding of letters is optional.
    proxy.push_tcp(b"{\"plain\":\"p 1\"}");
    assert_eq!(proxy.get("/apps/plain/metrics").text(), "p 1\n");
    assert_eq!(proxy.get("/apps/%70lain/metrics").text(), "p 1\n");
}
