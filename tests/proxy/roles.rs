//! Roles: every route with every kind of credential, bounds, guessing of passwords, files
//! that change, and the sockets.

use std::fs;
use std::io::Write as _;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::harness::certificates::{Authority, Pair};
use crate::harness::{Answer, Proxy, eventually, http_send, program};
use crate::support::Sender;

/// A route of the table in `docs/http.md`, which a unit test holds to the program.
struct Documented {
    methods: Vec<String>,
    path: String,
    role: String,
    on_all_listeners: bool,
}

/// The routes, with a path for each pattern.
fn routes() -> Vec<Documented> {
    let document = include_str!("../../docs/http.md");
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

/// The bcrypt hash of a password, at the lowest cost.
fn hash(password: &str) -> String {
    let hash = bcrypt::hash_with_salt(password, 4, [7; 16]).unwrap();
    hash.to_string()
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// A directory with a web configuration, in which each user has its name as the password,
/// and a token in the file of each name.
fn files(users: &[&str], tokens: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let users = users
        .iter()
        .map(|user| format!("  {user}: {}\n", hash(user)));
    let text = format!("basic_auth_users:\n{}", users.collect::<String>());
    fs::write(dir.path().join("web.yml"), text).unwrap();
    for token in tokens {
        fs::write(dir.path().join(token), format!("{token}\n")).unwrap();
    }
    dir
}

/// A proxy whose configuration names files of `dir` as `DIR/...`.
fn start(dir: &TempDir, config: &str) -> Proxy {
    Proxy::start(&config.replace("DIR", &dir.path().display().to_string()))
}

const ENTRIES: &str = "[push]\nenable_admin_api = true\nenable_lifecycle = true\n\
     [web]\nconfig_file = \"DIR/web.yml\"\n\
     [[web.access]]\nrole = \"read\"\nuser = \"reader\"\n\
     [[web.access]]\nrole = \"write\"\nuser = \"writer\"\n\
     [[web.access]]\nrole = [\"read\", \"write\"]\nuser = \"both\"\n\
     [[web.access]]\nrole = \"admin\"\nuser = \"admin\"\n\
     [[web.access]]\nrole = \"write\"\ntoken_file = \"DIR/bound\"\napps = [\"shop-*\"]\n\
     labels = { job = \"backup\" }\n\
     [[web.access]]\nrole = \"read\"\ntoken_file = \"DIR/scraper\"\n";

fn with_entries() -> (TempDir, Proxy) {
    let dir = files(
        &["reader", "writer", "both", "admin", "none"],
        &["bound", "scraper"],
    );
    let proxy = start(&dir, ENTRIES);
    (dir, proxy)
}

fn ask(address: &str, method: &str, path: &str, authorization: &str) -> Answer {
    ask_with(address, method, path, authorization, "m 1\n")
}

fn ask_with(address: &str, method: &str, path: &str, authorization: &str, body: &str) -> Answer {
    let header = [("Authorization", authorization)];
    let headers = if authorization.is_empty() {
        &header[..0]
    } else {
        &header[..]
    };
    http_send(address, method, path, headers, body.as_bytes())
}

/// 401, 403 or 429 if access was denied; otherwise 200, whatever the handler replied.
fn access(answer: &Answer) -> u16 {
    match answer.status {
        401 | 429 => answer.status,
        // The reply to `HEAD` has no text.
        403 if answer.body.is_empty() || answer.text().contains("web.access") => 403,
        _ => 200,
    }
}

fn metric(proxy: &Proxy, authorization: &str, series: &str) -> f64 {
    let metrics = ask(&proxy.http, "GET", "/metrics", authorization).text();
    let mut lines = metrics.lines();
    lines
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
        .unwrap_or(0.0)
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
        // Last: they are slowed down.
        ("wrong password", basic("admin", "wrong"), [401, 401, 401]),
        ("wrong token", "Bearer wrong".to_owned(), [401, 401, 401]),
    ];
    let unbindable = ["/webhook", "/slack", "/pagerduty", "/v2/enqueue"];
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
    // Nothing shows a secret.
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
fn a_bound_sender_writes_and_deletes_only_what_matches() {
    let (_dir, proxy) = with_entries();
    let writer = basic("both", "both");
    for (path, body) in [
        ("/metrics/job/other", "m 1\n"),
        ("/metrics/job/other?mode=aggregate", "o_total 1\n"),
    ] {
        let answer = ask_with(&proxy.push, "POST", path, &writer, body);
        assert!(answer.status < 300, "{path}: {}", answer.text());
    }
    let json = "application/json";
    let value = |labels: &str| {
        format!("[{{\"name\":\"v_total\",\"metrics\":[{{\"labels\":{labels},\"value\":1}}]}}]")
    };
    let batch = |job: &str| {
        format!(
            "{{\"groups\":[{{\"labels\":{{\"job\":\"backup\"}},\"metrics\":\"m 1\"}},{{\"labels\":{{\"job\":\"{job}\",\"a\":\"b\"}},\"metrics\":\"m 1\"}}]}}"
        )
    };
    for (method, path, body, expected) in [
        ("PUT", "/metrics/job/backup", "m 1\n", 200),
        ("PUT", "/metrics/job/backup/instance/a", "m 1\n", 200),
        ("PUT", "/metrics/job/other", "m 2\n", 403),
        ("POST", "/metrics/job/backups", "m 1\n", 403),
        // The label of the body is not that of the group.
        ("PUT", "/metrics/job/other", "m{job=\"backup\"} 1\n", 403),
        ("PUT", "/metrics/instance/a/job/backup", "m 1\n", 404),
        ("DELETE", "/metrics/job/other", "", 403),
        ("DELETE", "/metrics/job/backup/instance/a", "", 202),
        ("POST", "/api/v1/batch", &batch("other"), 403),
        ("POST", "/api/v1/batch", &batch("backup"), 200),
        ("POST", "/api/v1/validate/job/other", "m 1\n", 400),
        ("POST", "/api/v1/validate/job/backup", "m 1\n", 200),
        (
            "POST",
            "/metrics/job/backup?mode=aggregate",
            "t_total 1\n",
            202,
        ),
        (
            "POST",
            "/metrics/job/other?mode=aggregate",
            "t_total 1\n",
            403,
        ),
        (
            "POST",
            "/metrics?mode=aggregate",
            "t_total{job=\"backup\"} 1\n",
            202,
        ),
        (
            "POST",
            "/metrics?mode=aggregate",
            "t_total{job=\"backup\"} 1\nt_total 1\n",
            403,
        ),
        (
            "POST",
            "/metrics?mode=aggregate",
            "t_total{job=\"backup\",clearmode=\"family\"} 1\n",
            403,
        ),
        ("DELETE", "/metrics/instance/a?mode=aggregate", "", 403),
        ("DELETE", "/metrics/job/?mode=aggregate", "", 400),
        ("DELETE", "/metrics/job/backup?mode=aggregate", "", 202),
        ("POST", "/create", &value("{\"job\":\"backup\"}"), 200),
        ("POST", "/create", &value("{\"job\":\"other\"}"), 403),
        ("POST", "/update", &value("{}"), 403),
        ("DELETE", "/apps/shop-a", "", 404),
        ("DELETE", "/apps/bank", "", 403),
        (
            "DELETE",
            "/api/v1/series?match[]=%7Bjob=%22backup%22%7D",
            "",
            403,
        ),
        ("POST", "/webhook", "{\"alerts\":[]}", 403),
    ] {
        let headers = [("Authorization", "Bearer bound"), ("Content-Type", json)];
        let used = if body.starts_with(['{', '[']) { 2 } else { 1 };
        let answer = http_send(&proxy.push, method, path, &headers[..used], body.as_bytes());
        assert_eq!(
            answer.status,
            expected,
            "{method} {path} {body}: {}",
            answer.text()
        );
    }
    let metrics = ask(&proxy.http, "GET", "/metrics", &writer).text();
    for kept in [
        "m{instance=\"\",job=\"other\"} 1\n",
        "o_total{job=\"other\"} 1\n",
        "v_total{job=\"backup\"} 1\n",
    ] {
        assert!(metrics.contains(kept), "{kept}: {metrics}");
    }
    assert!(!metrics.contains("job=\"other\"} 2"), "{metrics}");
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
    // Passwords are for HTTP. The sockets have no users, and are as without them.
    assert_eq!(proxy.push_tcp(b"{\"a\":\"m 1\"}"), "");

    let proxy = Proxy::start("");
    // What a proxy in front or a careless client sends does no harm.
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

#[test]
fn guessing_is_slowed_and_unknown_users_cost_as_much_as_known_ones() {
    let dir = files(&["alice"], &[]);
    let proxy = start(
        &dir,
        "[web]\nconfig_file = \"DIR/web.yml\"\n[[web.access]]\nrole = \"read\"\nallow_from = \"127.0.0.1\"\n",
    );
    let push = |user, password| ask(&proxy.push, "PUT", "/metrics/job/x", &basic(user, password));
    let checks = || metric(&proxy, "", "exporter_proxy_password_checks_total");
    for (user, password, status, expected) in [
        ("alice", "alice", 200, 1.0),
        ("alice", "alice", 200, 1.0),
        ("alice", "guess", 401, 2.0),
        ("nobody", "guess", 401, 3.0),
        ("", "", 401, 4.0),
    ] {
        assert_eq!(push(user, password).status, status, "{user}");
        assert_eq!(checks(), expected, "{user}");
    }
    let mut statuses = Vec::new();
    let mut slowed = None;
    for _ in 0..40 {
        let answer = push("alice", "guess");
        statuses.push(answer.status);
        slowed = Some(answer)
            .filter(|answer| answer.status == 429)
            .or(slowed);
    }
    let wrong = statuses.iter().filter(|status| **status == 401).count();
    assert!((17..=25).contains(&wrong), "{statuses:?}");
    let slowed = slowed.expect("a slowed attempt");
    let wait: u64 = slowed.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3).contains(&wait), "{wait}");
    // Past the limit even the right password gets that reply, and nothing is checked.
    assert!(checks() <= 4.0 + wrong as f64);
    let series =
        "exporter_proxy_authentications_total{credential=\"password\",result=\"throttled\"}";
    assert_eq!(metric(&proxy, "", series), (40 - wrong) as f64);
    // After a pause it works again.
    eventually(|| push("alice", "alice").status, |status| *status == 200);
}

#[test]
fn files_are_read_again_when_they_change() {
    let dir = files(&["alice"], &["token"]);
    let proxy = start(
        &dir,
        "[web]\nconfig_file = \"DIR/web.yml\"\n\
         [[web.access]]\nrole = \"read\"\nallow_from = [\"127.0.0.0/8\"]\n\
         [[web.access]]\nrole = \"write\"\ntoken_file = \"DIR/token\"\n\
         [[web.access]]\nrole = \"write\"\nuser = \"alice\"\n",
    );
    let push = |authorization: &str| ask(&proxy.push, "PUT", "/metrics/job/x", authorization);
    let good = |authorization: &str| push(authorization).status == 200;
    assert!(good("Bearer token") && good(&basic("alice", "alice")));
    // Two tokens, for a rotation without a gap.
    fs::write(dir.path().join("token"), "token\n\nnewer\n").unwrap();
    let reloads = || proxy.log().matches("have changed and are in use").count();
    eventually(reloads, |reloads| *reloads == 1);
    assert!(good("Bearer token") && good("Bearer newer"));
    fs::write(dir.path().join("token"), "newer").unwrap();
    eventually(reloads, |reloads| *reloads == 2);
    assert!(good("Bearer newer") && !good("Bearer token"));

    let state = "exporter_proxy_web_files_last_load_successful";
    assert_eq!(metric(&proxy, "", state), 1.0);
    // A wrong file changes nothing but the metric and the log.
    fs::write(
        dir.path().join("web.yml"),
        "basic_auth_users:\n  alice: secret\n",
    )
    .unwrap();
    eventually(|| metric(&proxy, "", state), |state| *state == 0.0);
    assert!(good(&basic("alice", "alice")));
    let log = proxy.log();
    assert!(
        log.contains("web.yml:2:10: the password of user \"alice\" is not a bcrypt hash"),
        "{log}"
    );
    let text = format!(
        "basic_auth_users:\n  alice: {}\nhttp_server_config:\n  headers:\n    X-Frame-Options: deny\n",
        hash("changed")
    );
    fs::write(dir.path().join("web.yml"), text).unwrap();
    eventually(|| metric(&proxy, "", state), |state| *state == 1.0);
    assert!(good(&basic("alice", "changed")) && !good(&basic("alice", "alice")));
    let answer = push(&basic("alice", "changed"));
    assert_eq!(answer.header("x-frame-options"), Some("deny"));
    assert_eq!(push("").header("x-frame-options"), Some("deny"));
}

#[test]
fn the_web_configuration_turns_on_tls_and_certificates_have_roles() {
    let dir = files(&[], &[]);
    let authority = Authority::new(dir.path(), "ca");
    authority.issue("server");
    let reader = authority.issue_for("reader", &["a.reader.example"], |_| {});
    let writer = authority.issue_for("writer", &["writer.example"], |_| {});
    // Paths are relative to the file, as with exporter-toolkit.
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let server = dir.path().join("server");
    let text = format!(
        "tls_server_config:\n  cert_file: {}\n  key_file: {}\n  client_ca_file: {}\n  \
         client_auth_type: VerifyClientCertIfGiven\n",
        name(&server.with_extension("crt")),
        name(&server.with_extension("key")),
        name(&authority.ca),
    );
    fs::write(dir.path().join("web.yml"), text).unwrap();
    let proxy = start(
        &dir,
        "[web]\nconfig_file = \"DIR/web.yml\"\n\
         [[web.access]]\nrole = \"read\"\nclient_name = \"*.reader.example\"\n\
         [[web.access]]\nrole = \"write\"\nclient_name = \"writer.example\"\n",
    );
    let curl = |own: Option<&Pair>, arguments: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"])
            .arg(&authority.ca)
            .args(arguments);
        if let Some(own) = own {
            curl.arg("--cert").arg(&own.cert).arg("--key").arg(&own.key);
        }
        String::from_utf8(curl.output().unwrap().stdout).unwrap()
    };
    let metrics = format!("https://{}/metrics", proxy.http);
    let group = format!("https://{}/metrics/job/x", proxy.push);
    for version in ["--http1.1", "--http2"] {
        let scrape = |own| curl(own, &[version, &metrics]);
        let push = |own| curl(own, &[version, "--data-binary", "m 1\n", &group]);
        assert_eq!((scrape(None), push(None)), ("403".into(), "403".into()));
        assert_eq!(scrape(Some(&reader)), "200", "{version}");
        assert_eq!(push(Some(&reader)), "403", "{version}");
        assert_eq!(scrape(Some(&writer)), "403", "{version}");
        assert_eq!(push(Some(&writer)), "200", "{version}");
    }
}

#[test]
fn receivers_ask_for_the_role_by_address_user_and_group() {
    let dir = files(&[], &["token"]);
    let token = "[[web.access]]\nrole = \"write\"\ntoken_file = \"DIR/token\"\n";
    let proxy = start(&dir, token);
    for answer in [
        proxy.push_tcp(b"{\"a\":\"m 1\"}"),
        proxy.push_unix(b"{\"a\":\"m 1\"}"),
    ] {
        assert_eq!(
            answer,
            "error: this sender does not have the role write (web.access)\n"
        );
    }
    let entries = "[[web.access]]\nrole = \"write\"\nallow_from = \"127.0.0.1\"\nlisteners = [\"receiver\"]\napps = [\"shop-*\"]\n\
                   [[web.access]]\nrole = \"write\"\nunix_user = \"current_user\"\nlisteners = [\"receiver\"]\n";
    let proxy = start(&dir, &format!("{token}{entries}"));
    assert_eq!(proxy.push_tcp(b"{\"shop-a\":\"m 1\"}"), "");
    let answer = proxy.push_tcp(b"{\"shop-b\":\"m 1\",\"bank\":\"m 1\"}");
    assert_eq!(
        answer,
        "error: this sender may not write the app \"bank\" (web.access.apps)\n"
    );
    assert_eq!(proxy.push_unix(b"{\"bank\":\"m 1\"}"), "");
    let metrics = proxy.metrics();
    assert!(!metrics.contains("app=\"shop-b\""), "{metrics}");
    // The entries are for the receivers only.
    assert_eq!(ask(&proxy.push, "PUT", "/metrics/job/x", "").status, 401);
    let group = "[[web.access]]\nrole = \"write\"\nunix_group = \"current_group\"\n";
    let proxy = start(&dir, group);
    assert_eq!(proxy.push_unix(b"{\"a\":\"m 1\"}"), "");
    assert!(proxy.push_tcp(b"{\"a\":\"m 1\"}").starts_with("error: "));
    let other = "[[web.access]]\nrole = \"write\"\nunix_user = 54321\n";
    let proxy = start(&dir, other);
    assert!(proxy.push_unix(b"{\"a\":\"m 1\"}").starts_with("error: "));
}

/// A proxy with all sockets for operations, and the paths of those.
fn operations(dir: &TempDir, access: &str) -> (Proxy, String, String, [PathBuf; 2]) {
    let sockets = ["o.sock", "d.sock"].map(|name| dir.path().join(name));
    let config = format!(
        "[operations]\ntcp = \"127.0.0.1:0\"\nudp = \"127.0.0.1:0\"\nallow_shutdown = true\n\
         unix_sockets = [\"DIR/o.sock\"]\nunix_datagram_sockets = [\"DIR/d.sock\"]\n{access}"
    );
    let proxy = start(dir, &config);
    let log = proxy.log();
    let bound = |marker: &str| {
        let start = log.find(marker).expect("a bound address") + marker.len();
        log[start..].split_whitespace().next().unwrap().to_owned()
    };
    let (tcp, udp) = (
        bound("operations on TCP socket "),
        bound("operations on UDP socket "),
    );
    (proxy, tcp, udp, sockets)
}

/// What a stream answers to a message.
fn answer_of(
    stream: impl std::io::Read + std::io::Write,
    message: &[u8],
    close: impl FnOnce(),
) -> String {
    let mut stream = stream;
    let _ = stream.write_all(message);
    close();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn operations_ask_for_the_role_by_address_and_user() {
    let dir = files(&[], &[]);
    // The address is not allowed, and the user is, within bounds.
    let access = "[[web.access]]\nrole = \"write\"\nunix_user = \"current_user\"\nlabels = { job = \"backup\" }\n\
                  [[web.access]]\nrole = \"admin\"\nunix_user = 54321\n";
    let (proxy, tcp, udp, [stream, datagram]) = operations(&dir, access);
    let mut sender = Sender::to(&tcp);
    sender.send(b"tcp_total:1|c|#job:backup\n");
    sender.half_close();
    let answer = sender.read_to_end();
    assert!(
        answer.starts_with("error: this needs the role write"),
        "{answer}"
    );
    let from = UdpSocket::bind("127.0.0.1:0").unwrap();
    from.send_to(b"udp_total:1|c|#job:backup\n", &udp).unwrap();
    let unix = std::os::unix::net::UnixStream::connect(&stream).unwrap();
    let answer = answer_of(
        &unix,
        b"unix_total:1|c|#job:backup\nunix_total:1|c|#job:other\n{\"op\":\"shutdown\"}\n",
        || {
            unix.shutdown(std::net::Shutdown::Write).unwrap();
        },
    );
    let lines: Vec<&str> = answer.lines().collect();
    assert!(
        lines[0].starts_with(
            "error: message 2: this sender may not write the series unix_total{job=\"other\"}"
        ),
        "{answer}"
    );
    assert_eq!(
        lines[1],
        "error: message 3: op shutdown needs the role admin (web.access)"
    );
    let from = UnixDatagram::unbound().unwrap();
    from.send_to(b"datagram_total:1|c|#job:backup\n", &datagram)
        .unwrap();
    from.send_to(b"datagram_total:1|c\n", &datagram).unwrap();
    let series = |transport: &str, result: &str| {
        let series = format!(
            "exporter_proxy_operations_total{{result=\"{result}\",transport=\"{transport}\"}}"
        );
        proxy.sample(&series).unwrap_or(0.0)
    };
    eventually(
        || {
            (
                series("udp", "forbidden"),
                series("unix_datagram", "forbidden"),
            )
        },
        |seen| *seen == (1.0, 1.0),
    );
    assert_eq!(proxy.sample("unix_total{job=\"backup\"}"), Some(1.0));
    assert_eq!(proxy.sample("datagram_total{job=\"backup\"}"), Some(1.0));
    assert_eq!(proxy.sample("udp_total{job=\"backup\"}"), None);
    assert_eq!(proxy.sample("tcp_total{job=\"backup\"}"), None);

    let access = "[[web.access]]\nrole = \"write\"\nallow_from = \"127.0.0.1\"\nlisteners = [\"operations\"]\n";
    let dir = files(&[], &[]);
    let (proxy, tcp, udp, _) = operations(&dir, access);
    let mut sender = Sender::to(&tcp);
    sender.send(b"tcp_total:1|c\n");
    sender.half_close();
    assert_eq!(sender.read_to_end(), "");
    let from = UdpSocket::bind("127.0.0.1:0").unwrap();
    from.send_to(b"udp_total:1|c\n", &udp).unwrap();
    eventually(|| proxy.sample("udp_total"), |seen| *seen == Some(1.0));
    assert_eq!(proxy.sample("tcp_total"), Some(1.0));
}

#[test]
fn listeners_that_everyone_can_write_to_start_with_a_warning() {
    let settings = [
        ("PUSH_LISTEN", "0.0.0.0:0"),
        ("RECEIVER_RECEIVER_TCP_SOCKET", "0.0.0.0:0"),
        ("OPERATIONS_UDP", "0.0.0.0:0"),
    ];
    let open = |proxy: &Proxy| {
        ["push", "tcp", "operations_udp", "http"].map(|listener| {
            let series = format!("exporter_proxy_open_listeners{{listener=\"{listener}\"}}");
            proxy.sample(&series).unwrap()
        })
    };
    let proxy = Proxy::start_with("", &settings);
    assert_eq!(open(&proxy), [1.0, 1.0, 1.0, 0.0]);
    let log = proxy.log();
    assert_eq!(log.matches("can write metrics there").count(), 3, "{log}");
    assert!(log.contains("(receiver.receiver_tcp_socket)"), "{log}");
    let allowed = "[[web.access]]\nrole = \"write\"\nallow_from = \"10.0.0.0/8\"\n";
    for proxy in [Proxy::start(""), Proxy::start_with(allowed, &settings)] {
        assert_eq!(open(&proxy), [0.0; 4]);
        assert!(!proxy.log().contains("can write metrics there"));
    }
}

#[test]
fn passwords_are_hashed_for_the_web_configuration() {
    let run = |input: &[u8]| {
        let mut child = program()
            .arg("hash-password")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (code, hash, problem) = run(b"correct horse\n");
    assert_eq!((code, &*problem), (Some(0), ""));
    assert!(
        bcrypt::verify("correct horse", hash.trim_end()).unwrap(),
        "{hash}"
    );
    let (code, hash, problem) = run(b"\n");
    assert_eq!((code, &*hash), (Some(1), ""));
    assert!(problem.contains("the password is empty"), "{problem}");
    let (code, _, problem) = run("x".repeat(80).as_bytes());
    assert_eq!(code, Some(1));
    assert!(
        problem.contains("80 bytes; bcrypt takes at most 72"),
        "{problem}"
    );
}
