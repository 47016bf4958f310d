//! `/api/v1/groups`: listing and removing.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::harness::{Proxy, eventually};

fn proxy() -> Proxy {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n");
    for path in [
        "job/a/instance/1",
        "job/a/instance/2",
        "job/b",
        "job/c/zone/z",
    ] {
        assert_eq!(
            proxy
                .push("PUT", &format!("/metrics/{path}"), "m 1\n")
                .status,
            200
        );
    }
    proxy
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn keys(list: &Value) -> Vec<String> {
    let groups = list["data"]["groups"].as_array().unwrap().iter();
    groups
        .map(|group| group["key"].as_str().unwrap().to_owned())
        .collect()
}

fn list(proxy: &Proxy, query: &str) -> Value {
    let answer = proxy.push("GET", &format!("/api/v1/groups{query}"), "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn groups_are_listed_in_order_and_by_pages() {
    let proxy = proxy();
    let all = list(&proxy, "");
    let expected = [
        "{instance=\"1\",job=\"a\"}",
        "{instance=\"2\",job=\"a\"}",
        "{job=\"b\"}",
        "{job=\"c\",zone=\"z\"}",
    ];
    assert_eq!(keys(&all), expected);
    assert_eq!(all["data"]["next"], Value::Null);
    let mut pages = Vec::new();
    let mut after = String::new();
    loop {
        let page = list(&proxy, &format!("?limit=3&after={}", encoded(&after)));
        pages.push(keys(&page));
        match page["data"]["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(pages, [&expected[..3], &expected[3..]]);
    for wrong in [
        "?limit=0",
        "?limit=x",
        "?limit=10001",
        "?match[]=up",
        "?older_than=x",
        "?after=zzz",
    ] {
        let answer = proxy.push("GET", &format!("/api/v1/groups{wrong}"), "");
        assert_eq!(answer.status, 400, "{wrong}");
        assert_eq!(answer.json()["errorType"], "bad_data");
    }
    // The list continues after a deleted group.
    let page = list(&proxy, &format!("?after={}", encoded("{job=\"bb\"}")));
    assert_eq!(keys(&page), expected[3..]);
    let error = |query: &str| {
        let answer = proxy.push("GET", &format!("/api/v1/groups?{query}"), "");
        answer.json()["error"].as_str().unwrap().to_owned()
    };
    assert!(error("dry_run=1").contains("known here: match[], "));
    assert!(error("older_than=101y").contains("(at most \"100y\")"));
}

#[test]
fn regular_expressions_are_bounded_in_size_and_time() {
    let proxy = Proxy::start("");
    let value = |n: usize| {
        let bits = (0..12_000).map(|at| ['a', 'b', 'b'][(at * at / 7 + n) % 3]);
        format!("{n}{}", bits.collect::<String>())
    };
    for n in 0..6 {
        let path = format!("/metrics/job/x/long/{}", value(n));
        assert_eq!(proxy.push("PUT", &path, "m 1\n").status, 200);
    }
    let ask = |method: &str, pattern: &str, more: &str| {
        let selector = encoded(&format!("{{long=~\"{pattern}\"}}"));
        let path = format!("/api/v1/groups?match[]={selector}{more}");
        proxy.push(method, &path, "")
    };
    for method in ["GET", "DELETE"] {
        for (pattern, words) in [
            ("(.?){1000}y.*".to_owned(), "takes too much memory"),
            ("x".repeat(1025), "the limit is 1024"),
        ] {
            let answer = ask(method, &pattern, "");
            assert_eq!(answer.status, 400, "{}", answer.text());
            assert!(answer.text().contains(words), "{}", answer.text());
        }
    }
    // The slowest pattern within the limits: when its time is up, a page ends and the next one
    // continues, so that all groups are found in the end.
    let slow = "[0-9].*a[ab]{40}.*";
    let (mut found, mut after) = (0, String::new());
    loop {
        let page = ask("GET", slow, &format!("&after={}", encoded(&after))).json();
        found += page["data"]["groups"].as_array().unwrap().len();
        match page["data"]["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(found, 6);
}

#[test]
fn a_group_is_described() {
    let proxy = proxy();
    assert_eq!(
        proxy.push("POST", "/metrics/job/b?ttl=1h", "n 1\n").status,
        200
    );
    assert_eq!(proxy.push("POST", "/metrics/job/b", "m 1 5\n").status, 400);
    let query = format!("?match[]={}", encoded("{job=\"b\"}"));
    let group = list(&proxy, &query)["data"]["groups"][0].clone();
    assert_eq!(group["labels"], json!({ "job": "b" }));
    assert_eq!(
        (&group["families"], &group["series"]),
        (&json!(4), &json!(4))
    );
    assert!(group["bytes"].as_u64().unwrap() > 100);
    assert!(group["last_push"].as_str().unwrap().ends_with('Z'));
    let reason = group["last_failure"]["reason"].as_str().unwrap();
    assert!(reason.contains("expected no timestamp"), "{reason}");
    assert!(group["expires_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(group["source"], *proxy.push);
    let other = list(&proxy, "?limit=1")["data"]["groups"][0].clone();
    assert_eq!(
        (&other["expires_at"], &other["last_failure"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn groups_are_removed_by_selector() {
    let proxy = proxy();
    let remove = |selectors: &[&str], more: &str| {
        let matches = selectors
            .iter()
            .map(|text| format!("match[]={}&", encoded(text)));
        let query: String = matches.collect();
        proxy.push("DELETE", &format!("/api/v1/groups?{query}{more}"), "")
    };
    let answer = remove(
        &["{job=\"a\",instance=~\"[0-9]\"}", "{zone!=\"\"}"],
        "dry_run=1",
    )
    .json();
    assert_eq!(
        (&answer["data"]["count"], &answer["data"]["dry_run"]),
        (&json!(3), &json!(true))
    );
    assert_eq!(
        answer["data"]["groups"][0],
        json!({ "instance": "1", "job": "a" })
    );
    assert_eq!(keys(&list(&proxy, "")).len(), 4);

    let answer = remove(&["{job=\"a\",instance!~\"2\"}"], "").json();
    assert_eq!(answer["data"]["count"], 1);
    assert_eq!(keys(&list(&proxy, "")).len(), 3);
    assert!(!proxy.metrics().contains("instance=\"1\""));
    for (selectors, more, words) in [
        (&[][..], "", "name the groups"),
        (&[], "dry_run=1", "name the groups"),
        (&["{job=~\"(\"}"], "", "not a valid regular expression"),
        (&["{}"], "dry_run=maybe", "dry_run must be 0 or 1"),
        (&[], "older_than=soon", "older_than must be a number"),
    ] {
        let answer = remove(selectors, more);
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    assert_eq!(keys(&list(&proxy, "")).len(), 3);
    assert_eq!(remove(&["{}"], "").json()["data"]["count"], 3);
    assert_eq!(proxy.metrics(), "");
}

#[test]
fn groups_are_removed_by_age() {
    let proxy = proxy();
    let remove = |age: &str| {
        let answer = proxy.push("DELETE", &format!("/api/v1/groups?older_than={age}"), "");
        let data = answer.json()["data"].clone();
        let groups = data["groups"].as_array().unwrap().clone();
        assert_eq!(data["count"], groups.len());
        groups
    };
    assert_eq!(remove("1h"), Vec::<Value>::new());
    let young = json!({ "job": "b" });
    let mut removed = Vec::new();
    eventually(
        || {
            assert_eq!(proxy.push("PUT", "/metrics/job/b", "m 1\n").status, 200);
            // On a busy machine, the group may be that old before it is looked at.
            removed.extend(remove("1s").into_iter().filter(|group| *group != young));
            keys(&list(&proxy, ""))
        },
        |keys| *keys == ["{job=\"b\"}"],
    );
    removed.sort_by_key(Value::to_string);
    let others = [
        json!({ "instance": "1", "job": "a" }),
        json!({ "instance": "2", "job": "a" }),
        json!({ "job": "c", "zone": "z" }),
    ];
    assert_eq!(removed, others);
}
