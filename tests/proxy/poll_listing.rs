//! The list of targets: complete from the start, and without their secrets.

use crate::harness::{Proxy, eventually, program};
use crate::support::{app_path, detail, logged, names};
use crate::upstream::{Upstream, ok, reply};

fn states(proxy: &Proxy) -> Vec<String> {
    let list = proxy.get("/apps?format=json").json();
    let apps = list["apps"].as_array().unwrap().iter();
    apps.map(|app| app["state"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn targets_are_listed_before_their_first_poll() {
    let upstream = Upstream::start(|_| ok("m 1\n"));
    // The second one is not polled before a scrape.
    let proxy = Proxy::start(&format!(
        "[poll_external]\npoll_interval = \"2h\"\nclient_timeout = \"50s\"\n\
         [[poll_external.targets]]\nname = \"a\"\nurl = \"http://{0}/a\"\n\
         [[poll_external.targets]]\nname = \"b\"\nurl = \"http://{0}/b\"\ninterval = \"scrape\"\n",
        upstream.address
    ));
    assert_eq!(names(&proxy), ["a", "b"]);
    eventually(|| states(&proxy), |states| states[0] == "fresh");
    assert_eq!(states(&proxy)[1], "waiting");
    let b = detail(&proxy, "b").unwrap();
    assert_eq!(b["source"], format!("external_poll: {}", upstream.address));
    assert_eq!(b["url"], format!("http://{}/b", upstream.address));
    assert!(
        b["last_update"].is_null() && b["last_problem"].is_null(),
        "{b}"
    );
    let wide = proxy.get("/apps?wide=1").text();
    assert!(
        wide.contains("| waiting |") && wide.contains("| never "),
        "{wide}"
    );
}

#[test]
fn kind_chooses_among_sections_of_one_name() {
    let upstream = Upstream::start(|_| ok("m 1\n"));
    let proxy = Proxy::start(&format!(
        "[exporter]\nown_metrics = false\n\
         [[poll_external.targets]]\nname = \"x\"\nurl = \"http://{}/\"\n",
        upstream.address
    ));
    assert_eq!(proxy.push("PUT", "/metrics/job/x", "g 3\n").status, 200);
    let group = "{job=\"x\"}";
    let document = serde_json::json!({ "x": "a 2\n", group: "a 4\n" });
    assert_eq!(proxy.push_tcp(document.to_string().as_bytes()), "");
    eventually(
        || states(&proxy),
        |states| states.iter().all(|it| it == "fresh"),
    );
    let get = |path: String| {
        let answer = proxy.get(&path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer
    };
    let app = app_path(group);
    for (path, kind, text) in [
        ("/apps/x", "app", "a 2\n"),
        ("/apps/x", "target", "m 1\n"),
        (&*app, "app", "a 4\n"),
    ] {
        let detail = get(format!("{path}?kind={kind}")).json();
        assert_eq!(detail["kind"], kind);
        assert_eq!(get(format!("{path}/metrics?kind={kind}")).text(), text);
    }
    assert_eq!(get(format!("{app}?kind=group")).json()["kind"], "group");
    let pushed = get(format!("{app}/metrics?kind=group")).text();
    assert!(
        pushed.contains("\ng{instance=\"\",job=\"x\"} 3\n"),
        "{pushed}"
    );
    assert_eq!(get("/metrics?app=x".to_owned()).text(), "a 2\nm 1\n");
    assert_eq!(get("/metrics?app=x&kind=app".to_owned()).text(), "a 2\n");
    assert_eq!(get("/metrics?app=x&kind=target".to_owned()).text(), "m 1\n");
    assert_eq!(proxy.get("/apps/x?kind=group").status, 404);
    for (path, problem) in [
        (
            "/apps/x?kind=job",
            "kind must be one of app, target, group, not \"job\"\n",
        ),
        (
            "/metrics?app=x&kind=group",
            "kind must be one of app, target, not \"group\"\n",
        ),
        (
            "/metrics?kind=app",
            "kind chooses among apps and targets of one name, so it needs app\n",
        ),
    ] {
        let answer = proxy.get(path);
        assert_eq!((answer.status, &*answer.text()), (400, problem), "{path}");
    }
}

#[test]
fn a_target_that_only_fails_is_failing() {
    let upstream = Upstream::start(|_| reply("500 Internal Server Error", &[], b""));
    let proxy = Proxy::start(&format!(
        "[[poll_external.targets]]\nname = \"t\"\nurl = \"http://{}/\"\ninterval = \"50ms\"\n",
        upstream.address
    ));
    eventually(|| states(&proxy), |states| states == &["failing"]);
    upstream.change(|_| ok("m 1\n"));
    eventually(|| states(&proxy), |states| states == &["fresh"]);
    upstream.change(|_| reply("500 Internal Server Error", &[], b""));
    eventually(|| states(&proxy), |states| states == &["stale"]);
}

#[test]
fn secrets_in_urls_are_shown_nowhere() {
    let upstream = Upstream::start(|request| {
        if request.path.contains("hush") {
            ok("m 1\n")
        } else {
            reply("403 Forbidden", &[], b"")
        }
    });
    let address = &upstream.address;
    let config = format!(
        "[poll_external]\npoll_other_scrape_endpoints = true\npoll_interval = \"50ms\"\n\
         proxy_url = \"http://ada:hush@{address}\"\n\
         other_scrape_endpoints = [\n\
         \"http://{address}/m?module=x&token=hush-1\",\n\
         \"http://{address}/n?X-Amz-Signature=hush-2#hush\",\n\
         \"http://ada:hush-3@{address}/o\",\n\
         \"unix:///nowhere.sock:/m?api_key=hush-4\"]\n"
    );
    let proxy = Proxy::launch(&config, &[], |command| command.env("RUST_LOG", "trace"));
    eventually(
        || states(&proxy),
        |states| states.iter().filter(|state| *state == "fresh").count() == 2,
    );
    // The secrets are sent all the same.
    let requests = upstream.requests();
    for secret in ["token=hush-1", "X-Amz-Signature=hush-2"] {
        let sent = requests.iter().any(|request| request.path.contains(secret));
        assert!(sent, "{secret} in {requests:?}");
    }
    for path in ["/apps", "/apps?wide=1", "/apps?format=json", "/metrics"] {
        let page = proxy.get(path).text();
        assert!(!page.contains("hush"), "{path}: {page}");
    }
    let wide = proxy.get("/apps?wide=1").text();
    assert!(wide.contains("/m?module=x&token=***"), "{wide}");
    let log = logged(&proxy, "target external_poll: ", 1);
    assert!(!log.contains("hush"), "{log}");

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("c.toml"), &config).unwrap();
    let printed = program()
        .args(["print-config", "-c", "c.toml"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("api_key=***"), "{printed}");
    assert!(!printed.contains("hush"), "{printed}");
}
