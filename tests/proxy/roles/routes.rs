//! Every route with every kind of credential, and who has a role without an entry.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{ask, basic, files, metric, start, with_entries};
use crate::harness::{Answer, Proxy, eventually};

/// A route of the table in `docs/http.md`, which a unit test holds to the program.
struct Documented {
    methods: Vec<String>,
    path: String,
    role: String,
    on_all_listeners: bool,
}

/// The routes, with a path for each pattern.
fn routes() -> Vec<Documented> {
    let document = include_str!("../../../docs/http.md");
    let mut routes = Vec::new();
    let mut in_table = false;
    for line in document.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        match cells.as_slice() {
            ["", "Method", ..] => in_table = true,
            ["", "---", ..] => {}
            ["", methods, pattern, _, role, listener, _, ""] if in_table => {
                let plain = |cell: &str| cell.trim_matches('`').to_owned();
                let methods = match *methods {
                    "any" => vec!["POST".to_owned()],
                    methods => plain(methods).split(", ").map(str::to_owned).collect(),
                };
                let mut path = plain(pattern)
                    .replace("{name}", "shop-a")
                    .replace("[/{*group}]", "/job/backup")
                    .replace("{*group}", "job/backup");
                if path.ends_with("[/{*labels}]") {
                    path = path.replace("[/{*labels}]", "/job/backup?mode=aggregate");
                }
                // With the default it would take half a minute each time.
                if path == "/debug/pprof/profile" {
                    path.push_str("?seconds=0");
                }
                if path == "/ping" && *role == "`write`" {
                    path.push_str("?path=x");
                }
                assert!(!path.contains('{'), "{line}: no example for the pattern");
                routes.push(Documented {
                    methods,
                    path,
                    role: plain(role),
                    on_all_listeners: *listener == "`all`",
                });
            }
            _ => in_table = false,
        }
    }
    assert!(routes.len() > 35, "{}", routes.len());
    routes
}

/// 401, 403 or 429 if access was denied; otherwise 200, also if the handler failed.
fn access(answer: &Answer) -> u16 {
    match answer.status {
        401 | 429 => answer.status,
        // The reply to `HEAD` has no text.
        403 if answer.body.is_empty() || answer.text().contains("web.access") => 403,
        _ => 200,
    }
}

#[test]
fn every_route_asks_every_client_for_its_role() {
    let (_dir, mut proxy) = with_entries();
    let clients = [
        ("nothing", String::new(), [401, 401, 401]),
        ("reader", basic("reader", "reader"), [200, 403, 403]),
        ("writer", basic("writer", "writer"), [403, 200, 403]),
        ("both", basic("both", "both"), [200, 200, 403]),
        ("admin", basic("admin", "admin"), [200, 200, 200]),
        ("none", basic("none", "none"), [403, 403, 403]),
        ("scraper", "Bearer scraper".to_owned(), [200, 403, 403]),
        ("bound", "bearer bound".to_owned(), [403, 200, 403]),
        // Last, since they are slowed down.
        ("wrong password", basic("admin", "wrong"), [401, 401, 401]),
        ("wrong token", "Bearer wrong".to_owned(), [401, 401, 401]),
    ];
    let unbindable = [
        "/webhook",
        "/slack",
        "/pagerduty",
        "/v2/enqueue",
        // The series of a ping lack the labels of the bounds.
        "/ping?path=x",
    ];
    for (client, authorization, expected) in &clients {
        for route in routes() {
            let role = ["read", "write", "admin"]
                .iter()
                .position(|it| *it == route.role);
            let mut expected = expected[role.expect("a role")];
            if *client == "bound" && unbindable.contains(&&*route.path) {
                expected = 403;
            }
            if *client == "admin" && route.path == "/-/quit" {
                continue;
            }
            let mut addresses = vec![&proxy.push];
            if route.on_all_listeners {
                addresses.push(&proxy.http);
            }
            for address in addresses {
                for method in &route.methods {
                    let answer = ask(address, method, &route.path, authorization);
                    let found = access(&answer);
                    let slowed = client.starts_with("wrong") && found == 429;
                    assert!(
                        found == expected || slowed,
                        "{client} {method} {}: {found}, not {expected}",
                        route.path
                    );
                }
            }
        }
    }
    // The preflight request of a browser and 404 need no role.
    assert_eq!(
        ask(&proxy.push, "OPTIONS", "/metrics/job/x", "").status,
        200
    );
    assert_eq!(ask(&proxy.push, "GET", "/nowhere", "").status, 404);
    // After a pause, the admin can stop it.
    let quit = || ask(&proxy.push, "PUT", "/-/quit", &basic("admin", "admin")).status;
    eventually(quit, |status| *status == 200);
    assert!(proxy.wait().success());
}

#[test]
fn denials_say_what_is_missing() {
    let (_dir, proxy) = with_entries();
    let answer = ask(&proxy.push, "PUT", "/metrics/job/backup", "");
    let schemes: Vec<&str> = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "www-authenticate")
        .map(|(_, value)| value.split(' ').next().unwrap())
        .collect();
    assert_eq!((answer.status, schemes), (401, vec!["Basic", "Bearer"]));
    assert!(
        answer.text().contains("the role write"),
        "{}",
        answer.text()
    );
    let answer = ask(
        &proxy.push,
        "DELETE",
        "/api/v1/groups?match[]=%7B%7D",
        &basic("writer", "writer"),
    );
    assert_eq!(answer.status, 403);
    assert_eq!(answer.json()["errorType"], "forbidden");
    assert_eq!(answer.header("www-authenticate"), None);
    // No output shows a secret.
    let wrong = ask(
        &proxy.push,
        "PUT",
        "/metrics/job/backup",
        &basic("admin", "hunter2"),
    );
    assert!(
        wrong.text().contains("the user or the password is wrong"),
        "{}",
        wrong.text()
    );
    let log = eventually(|| proxy.log(), |log| log.contains("unauthorized"));
    assert!(
        !log.contains("hunter2") && !log.contains(&STANDARD.encode("admin:hunter2")),
        "{log}"
    );
    for (series, expected) in [
        ("credential=\"none\",result=\"unauthorized\"", 1.0),
        ("credential=\"password\",result=\"forbidden\"", 1.0),
        ("credential=\"password\",result=\"unauthorized\"", 1.0),
        ("credential=\"token\",result=\"ok\"", 0.0),
    ] {
        let series = format!("exporter_proxy_authentications_total{{{series}}}");
        assert_eq!(
            metric(&proxy, &basic("reader", "reader"), &series),
            expected,
            "{series}"
        );
    }
}

#[test]
fn without_entries_every_user_has_every_role_and_without_users_everyone() {
    let dir = files(&["alice"], &[]);
    let proxy = start(
        &dir,
        "[web]\nconfig_file = \"DIR/web.yml\"\n[push]\nenable_admin_api = true\n",
    );
    for (method, path) in [
        ("GET", "/metrics"),
        ("PUT", "/metrics/job/x"),
        ("PUT", "/api/v1/admin/wipe"),
    ] {
        assert_eq!(ask(&proxy.push, method, path, "").status, 401, "{path}");
        let found = ask(&proxy.push, method, path, &basic("alice", "alice")).status;
        assert!((200..300).contains(&found), "{path}: {found}");
    }
    // Passwords are for HTTP only. Sockets have no users, and stay open.
    assert_eq!(proxy.push_tcp(b"{\"a\":\"m 1\"}"), "");

    let proxy = Proxy::start("");
    // Credentials from a proxy in front or a careless client do no harm.
    for authorization in ["", "Basic ???", "Bearer x"] {
        assert_eq!(
            ask(&proxy.push, "PUT", "/metrics/job/x", authorization).status,
            200
        );
    }
}

#[test]
fn without_an_entry_for_admin_those_who_write_without_bounds_administer() {
    let dir = files(&[], &["pusher", "bound"]);
    let proxy = start(
        &dir,
        "[[web.access]]\nrole = \"write\"\ntoken_file = \"DIR/pusher\"\n\
         [[web.access]]\nrole = \"write\"\ntoken_file = \"DIR/bound\"\nlabels = { job = \"*\" }\n",
    );
    let delete = |authorization| {
        let path = "/api/v1/groups?match[]=%7B%7D";
        ask(&proxy.push, "DELETE", path, authorization).status
    };
    assert_eq!(delete(""), 401);
    assert_eq!(delete("Bearer bound"), 403);
    assert_eq!(delete("Bearer pusher"), 200);
    assert_eq!(ask(&proxy.http, "GET", "/metrics", "").status, 200);
}
