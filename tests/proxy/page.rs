//! Pages for browsers: who gets them, what they show, and what protects their actions.

use std::fmt::Write as _;

use crate::harness::{Answer, Proxy, eventually, http_request, http_send};
use crate::upstream::{Upstream, ok, reply};

/// The `Accept` header of Firefox.
const BROWSER: (&str, &str) = (
    "Accept",
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
);

/// The page of a path on the listener for pushes.
fn page(proxy: &Proxy, path: &str) -> Answer {
    http_request(&proxy.push, "GET", path, &[BROWSER])
}

pub fn text(proxy: &Proxy, path: &str) -> String {
    let answer = page(proxy, path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.text()
}

/// The part of a text between two others.
fn between<'t>(text: &'t str, begin: &str, end: &str) -> &'t str {
    let rest = text
        .split_once(begin)
        .unwrap_or_else(|| panic!("{begin}"))
        .1;
    rest.split_once(end).unwrap().0
}

/// The cookie and the token of a page.
fn token(answer: &Answer) -> (String, String) {
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let text = answer.text();
    let token = between(&text, "name=\"token\" value=\"", "\"");
    (cookie, token.to_owned())
}

fn act(proxy: &Proxy, cookie: &str, fields: &str) -> Answer {
    let origin = format!("http://{}", proxy.push);
    let headers = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Origin", &*origin),
        ("Cookie", cookie),
    ];
    http_send(
        &proxy.push,
        "POST",
        "/-/action",
        &headers,
        fields.as_bytes(),
    )
}

#[test]
fn browsers_get_pages_and_other_clients_what_they_got_before() {
    let proxy = Proxy::start("");
    proxy.push_tcp(br#"{"shop": "orders_total 4\n"}"#);
    for path in [
        "/",
        "/apps",
        "/apps/shop",
        "/webhooks",
        "/aggregated",
        "/settings",
    ] {
        let answer = page(&proxy, path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/html; charset=utf-8"),
            "{path}"
        );
        assert!(answer.text().starts_with("<!DOCTYPE html>"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("vary"), Some("Accept"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let policy = answer.header("content-security-policy").unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'sha256-",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        let other = http_request(&proxy.push, "GET", path, &[("Accept", "*/*")]);
        let media = other.header("content-type").unwrap();
        assert!(!media.contains("html"), "{path}: {media}");
        let head = http_request(&proxy.push, "HEAD", path, &[BROWSER]);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
    }
    assert!(proxy.get("/apps").text().contains("| shop "));
    let json = http_request(&proxy.http, "GET", "/apps?format=json", &[BROWSER]);
    assert_eq!(json.json()["apps"][0]["name"], "shop");
    // Settings and actions are only on the listener for pushes.
    for path in ["/settings", "/webhooks"] {
        let answer = http_request(&proxy.http, "GET", path, &[BROWSER]);
        assert_eq!(answer.status, 404, "{path}");
    }
    let scrapes = http_request(&proxy.http, "GET", "/apps/shop", &[BROWSER]);
    assert!(scrapes.header("set-cookie").is_none());
    assert!(
        !scrapes.text().contains("<form method=\"post\"") && !scrapes.text().contains("/settings")
    );
}

#[test]
fn what_senders_wrote_is_escaped() {
    let proxy = Proxy::start("");
    let name = "<script>alert(1)</script>\u{202e}";
    let metrics = "# HELP m <b>help</b>\nm{x=\"<i>\"} 1\n";
    let message = serde_json::json!({ name: metrics });
    assert_eq!(proxy.push_tcp(message.to_string().as_bytes()), "");
    let answer = proxy.push("PUT", "/metrics/job/a%3Cb%3E/x/%22'", "g 1\n");
    assert_eq!(answer.status, 200);
    let list = text(&proxy, "/apps");
    let link = between(&list, "<td class=\"name\"><a href=\"", "\"").replace("&amp;", "&");
    // The form contains the name unescaped, since it is sent back.
    let app = text(&proxy, &link).replace("\u{202e}\">", "\">");
    for page in [&list, &app] {
        assert!(
            page.contains("&lt;script&gt;alert(1)&lt;/script&gt;\\u{202e}"),
            "{page}"
        );
        assert!(
            !page.contains("<script>alert") && !page.contains('\u{202e}'),
            "{page}"
        );
    }
    assert!(
        list.contains("<span>job</span>=a&lt;b&gt;</span>"),
        "{list}"
    );
    let page = text(&proxy, &link);
    assert!(
        page.contains("&lt;b&gt;help&lt;/b&gt;") && page.contains("m{x=&quot;&lt;i&gt;&quot;}")
    );
}

#[test]
fn problems_come_first_and_lists_are_chosen_by_parameters() {
    let proxy = Proxy::start("[exposition]\nvalidate = true\n");
    let mut document = String::from("{");
    for number in 0..250 {
        let comma = if number > 0 { "," } else { "" };
        let _ = write!(document, "{comma}\"app-{number:03}\":\"m_{number} 1\\n\"");
    }
    document.push('}');
    assert_eq!(proxy.push_tcp(document.as_bytes()), "");
    proxy.push_tcp(br#"{"app-200": "wrong{ 1\n"}"#);
    let first = text(&proxy, "/apps");
    let name = between(&first, "<td class=\"name\"><a href=\"", "</a>");
    assert!(name.ends_with("app-200"), "{name}");
    assert!(first.contains("<tr class=\"why"), "{first}");
    assert!(
        first.contains("1–100 of 250") && first.contains("href=\"/apps?page=2\""),
        "{first}"
    );
    assert_eq!(first.matches("<td class=\"name\">").count(), 100);
    assert!(first.len() < 200_000, "{}", first.len());
    assert!(text(&proxy, "/").contains("href=\"/apps?kind=app&amp;state=stale\">1 app</a>"));

    let last = text(&proxy, "/apps?page=3&sort=-name");
    assert_eq!(last.matches("<td class=\"name\">").count(), 50);
    assert!(last.contains("201–250 of 250") && !last.contains("rel=\"next\""));
    let chosen = |query: &str| {
        let list = proxy.get(&format!("/apps?format=json&{query}")).json();
        let apps = list["apps"].as_array().unwrap();
        let names = apps
            .iter()
            .map(|app| app["name"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>(), list["total"].clone())
    };
    assert_eq!(
        chosen("state=problem"),
        (vec!["app-200".to_owned()], 1.into())
    );
    let (names, total) = chosen("q=APP-24&sort=-name");
    assert_eq!((names.len(), &*names[0], total), (10, "app-249", 10.into()));
    let (names, total) = chosen("page=3");
    assert_eq!(
        (names.len(), &*names[0], total),
        (50, "app-200", 250.into())
    );
    let table = proxy.get("/apps?wide=1&q=app-20&kind=app").text();
    assert_eq!(table.matches("| app-20").count(), 10);
    let none = text(&proxy, "/apps?q=nothing");
    assert!(none.contains("No source matches."));
    for query in ["state=odd", "page=0", "sort=x", "kind=own", "colour=red"] {
        let path = format!("/apps?{query}");
        assert_eq!(proxy.get(&path).status, 400, "{path}");
        assert_eq!(page(&proxy, &path).status, 400, "{path}");
    }
}

#[test]
fn an_action_needs_the_token_of_its_page() {
    let proxy = Proxy::start("");
    proxy.push_tcp(br#"{"a": "m 1\n", "b": "n 1\n"}"#);
    assert_eq!(proxy.push("PUT", "/metrics/job/x", "g 1\n").status, 200);
    let (cookie, token) = token(&page(&proxy, "/apps/a"));
    let delete = |token: &str| format!("token={token}&action=delete-app&name=a");
    // If the request has the cookie, the page sets no other one, and has the same token.
    let again = http_request(
        &proxy.push,
        "GET",
        "/apps/b",
        &[BROWSER, ("Cookie", &cookie)],
    );
    assert!(again.header("set-cookie").is_none() && again.text().contains(&token));
    let other = "exporter_proxy_page=00000000000000000000000000000000";
    for (cookie, token) in [
        ("", &*token),
        (other, &*token),
        (&*cookie, "00"),
        (&*cookie, ""),
    ] {
        let answer = act(&proxy, cookie, &delete(token));
        assert_eq!(answer.status, 403, "{cookie} {token}");
        assert!(answer.text().contains("The page is too old"));
    }
    let foreign = [("Origin", "https://evil.example"), ("Cookie", &*cookie)];
    let answer = http_send(
        &proxy.push,
        "POST",
        "/-/action",
        &foreign,
        delete(&token).as_bytes(),
    );
    assert_eq!(answer.status, 403);
    assert_eq!(proxy.get("/apps/a").status, 200);
    let answer = act(&proxy, &cookie, &delete(&token));
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert_eq!(answer.header("location"), Some("/apps?done=delete-app"));
    assert_eq!(proxy.get("/apps/a").status, 404);
    for (fields, status) in [
        ("action=delete-app&name=a", 404),
        ("action=delete-app&name=%7Bjob%3D%22x%22%7D", 404),
        ("action=delete-group&name=%7Bjob%3D%22x%22%7D", 303),
        ("action=delete-group&name=%7Bjob%3D%22x%22%7D", 404),
        ("action=delete-family&name=none", 404),
        ("action=poll&name=b", 404),
        ("action=other", 400),
        ("", 400),
    ] {
        let answer = act(&proxy, &cookie, &format!("token={token}&{fields}"));
        assert_eq!(answer.status, status, "{fields}: {}", answer.text());
    }
    let long = format!("token={token}&action=poll&name={}", "x".repeat(100_000));
    assert_eq!(act(&proxy, &cookie, &long).status, 413);
    // Its routes are those of the listener for pushes.
    let answer = http_send(&proxy.http, "POST", "/-/action", &[], b"");
    assert_eq!(answer.status, 404);
}

#[test]
fn targets_have_settings_and_are_polled_on_request() {
    let upstream = Upstream::start(|request| match request.path.as_str() {
        "/bad" => reply("500 Internal Server Error", &[], b""),
        _ => ok("m 1\n"),
    });
    let proxy = Proxy::start(&format!(
        "[poll_external]\npoll_interval = \"2h\"\nclient_timeout = \"50s\"\n\
         [[poll_external.targets]]\nname = \"good\"\nurl = \"http://{0}/good\"\n\
         basic_auth = {{ username = \"me\", password = \"S3CR3T\" }}\n\
         [[poll_external.targets]]\nname = \"bad\"\nurl = \"http://{0}/bad\"\ninterval = \"scrape\"\n",
        upstream.address
    ));
    let state = |name: &str| proxy.get(&format!("/apps/{name}")).json()["state"].clone();
    eventually(|| state("good"), |state| state == "fresh");
    let (cookie, token) = token(&page(&proxy, "/apps/good?kind=target"));
    let poll = |name: &str| {
        let answer = act(
            &proxy,
            &cookie,
            &format!("token={token}&action=poll&name={name}"),
        );
        assert_eq!(answer.status, 303, "{}", answer.text());
        answer.header("location").unwrap().to_owned()
    };
    assert_eq!(poll("good"), "/apps/good?kind=target&done=poll");
    let shown = text(&proxy, "/apps/good?kind=target");
    assert_eq!(
        shown
            .matches("<span class=\"state fresh\">ok</span>")
            .count(),
        2,
        "{shown}"
    );
    assert!(
        shown.contains("basic_auth.username") && !shown.contains("S3CR3T"),
        "{shown}"
    );
    // It is not polled before a scrape.
    assert_eq!(state("bad"), "waiting");
    for _ in 0..3 {
        poll("bad");
    }
    let shown = text(&proxy, "/apps/bad");
    let problems = between(&shown, "Last problems", "</table>");
    assert!(
        problems.contains("<td class=\"number\">3</td>"),
        "{problems}"
    );
    assert!(problems.contains("500 Internal Server Error"), "{problems}");
    assert_eq!(upstream.requests().len(), 5);
}

#[test]
fn discoveries_are_shown_with_what_they_leave_out_and_why_they_fail() {
    let upstream = Upstream::start(|_| ok("m 1\n"));
    let lists = Upstream::start(|_| reply("500 Internal Server Error", &[], b""));
    let dir = tempfile::tempdir().unwrap();
    let list =
        serde_json::json!([{ "targets": [upstream.address, "127.0.0.1:1", "<i>/x", "test:1"] }]);
    std::fs::write(dir.path().join("a.json"), list.to_string()).unwrap();
    let proxy = Proxy::start(&format!(
        "[poll_external]\nmax_targets = 2\nfile_sd = [\"{}/*.json\"]\n\
         relabel = [{{ action = \"drop\", source_labels = [\"__address__\"], regex = \"test:.*\" }}]\n\
         [[poll_external.http_sd]]\nurl = \"http://{}/list?token=hush\"\n",
        dir.path().display(),
        lists.address
    ));
    let states = || {
        let answer = proxy.get("/api/v1/targets").json();
        let list = answer["data"]["discoveries"].as_array().unwrap().clone();
        list.iter()
            .map(|it| it["state"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    eventually(states, |states| *states == ["working", "failing"]);
    let status = text(&proxy, "/");
    let bound = between(&status, "poll_external.max_targets\">", "</li>");
    assert!(
        bound.contains("Polled targets") && bound.contains("2 of 2") && bound.contains("bar full"),
        "{bound}"
    );
    let shown = between(&status, "id=\"discoveries\"", "</table>");
    let (files, server) = shown.split_once("http_sd[0]").unwrap();
    for part in [
        "<span class=\"state fresh\">working</span>",
        "file_sd[0]",
        "/*.json</td>",
        " ago</td>",
        "<td class=\"number found\">2</td><td class=\"number by-rules\">1</td>",
        "<td class=\"number left-out\">1</td>",
        "&lt;i&gt;/x",
        "<span class=\"state failing\">failing</span>",
    ] {
        assert!(files.contains(part), "{part}: {files}");
    }
    for part in ["token=***", "never", "<tr class=\"why\">", "500"] {
        assert!(server.contains(part), "{part}: {server}");
    }
    assert!(!status.contains("hush") && !status.contains("<i>/x"));
    let issues = between(&status, "<ul class=\"issues\"", "</ul>");
    for issue in [
        "<li class=\"bad\"><a href=\"#discoveries\">Discovery http_sd[0]</a> fails: ",
        "<li class=\"warn\"><a href=\"#discoveries\">Discovery file_sd[0]</a> leaves out 1 entry.</li>",
    ] {
        assert!(issues.contains(issue), "{issue}: {issues}");
    }
}

#[test]
fn aggregated_families_are_listed_and_deleted() {
    let proxy = Proxy::start(
        "[[push.rules]]\nmatch = \"jobs_*\"\npolicy = \"max\"\ndrop_labels = [\"pod\"]\n",
    );
    let push = |body: &str| proxy.push("POST", "/metrics/job/x?mode=aggregate", body);
    assert_eq!(
        push("# HELP jobs_done Done.\n# TYPE jobs_done gauge\njobs_done 1\n").status,
        202
    );
    assert_eq!(
        push("# TYPE hits counter\nhits{a=\"1\"} 1\nhits{a=\"2\"} 1\n").status,
        202
    );
    let list = http_request(&proxy.push, "GET", "/aggregated", &[]).json();
    assert_eq!(list["total"], 2);
    let [hits, jobs] = list["families"].as_array().unwrap().as_slice() else {
        panic!("{list}");
    };
    assert_eq!(
        (&hits["name"], &hits["series"], &hits["policy"]),
        (&"hits".into(), &2.into(), &"sum".into())
    );
    assert_eq!(
        (&jobs["policy"], &jobs["rule"], &jobs["help"]),
        (&"max".into(), &"jobs_*".into(), &"Done.".into())
    );
    assert!(!hits["last_change"].is_null());
    let found = page(&proxy, "/aggregated?q=JOBS");
    let (cookie, token) = token(&found);
    let shown = found.text();
    assert!(
        shown.contains("jobs_done") && !shown.contains("hits"),
        "{shown}"
    );
    assert!(
        shown.contains("rule <code>jobs_*</code>, drops pod"),
        "{shown}"
    );
    let answer = act(
        &proxy,
        &cookie,
        &format!("token={token}&action=delete-family&name=hits"),
    );
    assert_eq!(
        answer.header("location"),
        Some("/aggregated?done=delete-family")
    );
    assert!(!proxy.metrics().contains("\nhits{"));
    assert!(text(&proxy, "/aggregated?done=delete-family").contains("The family was deleted."));
}

#[test]
fn settings_have_their_place_and_what_needs_attention_is_named() {
    let proxy = Proxy::start_with(
        "[push]\n# A comment.\nmax_groups = 5\n",
        &[("RECEIVER_MAX_APPS", "1000")],
    );
    let list = http_request(&proxy.push, "GET", "/settings", &[]).json();
    let setting = |name: &str| {
        let all = list["settings"].as_array().unwrap();
        all.iter().find(|it| it["name"] == name).unwrap().clone()
    };
    let groups = setting("push.max_groups");
    assert_eq!(
        (&groups["value"], &groups["default"]),
        (&"5".into(), &"100000".into())
    );
    assert!(
        groups["place"]
            .as_str()
            .unwrap()
            .ends_with("config.toml:3:14"),
        "{groups}"
    );
    let apps = setting("receiver.max_apps");
    assert_eq!(
        apps["place"],
        "environment variable EXPORTER_PROXY_RECEIVER_MAX_APPS"
    );
    assert_eq!(setting("push.max_series")["place"], serde_json::Value::Null);
    let shown = text(&proxy, "/settings?q=max_groups");
    assert!(
        shown.contains("config.toml:3:14") && !shown.contains("max_series"),
        "{shown}"
    );

    for number in 0..5 {
        let path = format!("/metrics/job/{number}");
        assert_eq!(proxy.push("PUT", &path, "g 1\n").status, 200);
    }
    assert_eq!(proxy.push("PUT", "/metrics/job/x", "g 1\n").status, 503);
    let status = text(&proxy, "/");
    let full = between(&status, "Pushed groups", "</li>");
    assert!(
        full.contains("5 of 5") && full.contains("bar full"),
        "{full}"
    );
    let rejected = between(&status, "id=\"rejections\"", "</table>");
    assert!(
        rejected.contains("/metrics/job/x") && rejected.contains("too_many_groups"),
        "{rejected}"
    );
    assert!(status.contains("Rejected senders"), "{status}");
}

#[test]
fn links_begin_with_the_prefix_and_actions_work_behind_a_reverse_proxy() {
    let proxy = Proxy::start("[web]\nexternal_url = \"https://example.com/metrics-proxy\"\n");
    let answer = page(&proxy, "/metrics-proxy/apps");
    let shown = answer.text();
    for link in shown
        .split("href=\"")
        .skip(1)
        .filter(|it| it.starts_with('/'))
    {
        assert!(link.starts_with("/metrics-proxy/"), "{link}");
    }
    assert!(shown.contains("action=\"/metrics-proxy/apps\""), "{shown}");
    let status = page(&proxy, "/metrics-proxy/");
    let cookie = status.header("set-cookie").unwrap();
    assert!(
        cookie.contains("; Path=/metrics-proxy/;") && cookie.ends_with("; Secure"),
        "{cookie}"
    );
    let (cookie, token) = token(&status);
    let headers = [("Origin", "https://example.com"), ("Cookie", &*cookie)];
    let body = format!("token={token}&action=reload&name=");
    let path = "/metrics-proxy/-/action";
    let answer = http_send(&proxy.push, "POST", path, &headers, body.as_bytes());
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert_eq!(
        answer.header("location"),
        Some("/metrics-proxy/?done=reload")
    );
}

#[test]
fn other_origins_learn_what_they_can_use_as_before() {
    let proxy = Proxy::start("[push]\ncors_origins = [\"https://app.example\"]\n");
    let headers = [
        ("Origin", "https://app.example"),
        ("Access-Control-Request-Method", "DELETE"),
        BROWSER,
    ];
    let answer = http_request(&proxy.push, "OPTIONS", "/apps/x", &headers);
    assert_eq!(answer.status, 204);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://app.example")
    );
    let missing = page(&proxy, "/apps/x%3Cb%3E");
    assert_eq!(missing.status, 404);
    assert!(
        missing.text().contains("called &quot;x&lt;b&gt;&quot;"),
        "{}",
        missing.text()
    );
}
