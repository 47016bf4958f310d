//! Targets that are found in files and in lists of HTTP servers.

use std::fs;
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::harness::{Proxy, eventually};
use crate::reload::{reload, try_reload};
use crate::support::{detail, logged, names, text_of};
use crate::upstream::{Upstream, ok, reply};

/// Replaces a file, as tools that write such lists do.
fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

pub fn value(proxy: &Proxy, series: &str) -> f64 {
    proxy.sample(series).unwrap_or(-1.0)
}

pub fn polls(proxy: &Proxy, name: &str) -> f64 {
    let series = format!("exporter_proxy_polls_total{{result=\"ok\",target=\"{name}\"}}");
    proxy.sample(&series).unwrap_or_default()
}

/// The targets and discoveries of `/api/v1/targets`.
pub fn listed(proxy: &Proxy) -> (Vec<Value>, Vec<Value>) {
    let answer = proxy.get("/api/v1/targets").json();
    assert_eq!(answer["status"], "success");
    let list = |key: &str| answer["data"][key].as_array().unwrap().clone();
    (list("activeTargets"), list("discoveries"))
}

/// A server whose metrics name the path.
pub fn exporter() -> Upstream {
    Upstream::start(|request| ok(&format!("m{{path=\"{}\"}} 1\n", request.path)))
}

#[test]
fn files_are_followed_and_targets_that_stay_are_not_disturbed() {
    let upstream = exporter();
    let address = &upstream.address;
    let dir = tempfile::tempdir().unwrap();
    let (json, yaml) = (dir.path().join("a.json"), dir.path().join("b.yml"));
    let entry = |path: &str| {
        json!({
            "targets": [address],
            "labels": { "env": "prod", "__metrics_path__": path, "__param_q": "a b", "__meta_x": "y" },
        })
    };
    write(&json, &json!([entry("/gone"), entry("/kept")]).to_string());
    // New targets are polled at once, and then an hour later, so another poll would show.
    let config = format!(
        "[poll_external]\npoll_interval = \"1h\"\nclient_timeout = \"30s\"\n\
         file_sd = [\"{0}/*.json\", \"{0}/b.yml\"]\n",
        dir.path().display()
    );
    let proxy = Proxy::start(&config);
    let name = |path: &str| format!("{address}{path}?q=a+b");
    let (kept, gone, new) = (name("/kept"), name("/gone"), name("/new"));
    eventually(|| names(&proxy), |names| names.len() == 2);
    eventually(|| polls(&proxy, &gone), |polls| *polls == 1.0);
    eventually(
        || detail(&proxy, &gone).unwrap(),
        |it| it["state"] == "fresh",
    );
    let labels = format!("env=\"prod\",instance=\"{address}\"");
    assert_eq!(
        text_of(&proxy, &gone).unwrap(),
        format!("m{{{labels},path=\"/gone?q=a+b\"}} 1\n")
    );
    let (targets, discoveries) = listed(&proxy);
    let target = targets.iter().find(|it| it["name"] == *gone).unwrap();
    assert_eq!(target["scrapeUrl"], format!("http://{gone}"));
    assert_eq!(
        target["labels"],
        json!({ "env": "prod", "instance": address })
    );
    assert_eq!(
        target["scrapePool"],
        format!("file_sd[0]: {}", json_path(&json))
    );
    assert_eq!(
        (&target["health"], &target["lastError"]),
        (&json!("up"), &json!(""))
    );
    assert_eq!(target["scrapeInterval"], "3600s");
    assert_eq!(discoveries[0]["targets"], 2);
    assert_eq!(discoveries[1]["targets"], 0);

    // The second file appears, and the first one changes. Its first target stays.
    eventually(|| polls(&proxy, &kept), |polls| *polls == 1.0);
    write(
        &yaml,
        &format!(
            "- targets: ['{address}']\n  labels: {{__metrics_path__: /new, __param_q: a b}}\n"
        ),
    );
    write(&json, &json!([entry("/kept")]).to_string());
    eventually(|| names(&proxy), |names| *names == [&*kept, &*new]);
    eventually(|| polls(&proxy, &new), |polls| *polls == 1.0);
    assert_eq!(polls(&proxy, &kept), 1.0);
    assert!(!proxy.metrics().contains(&format!("target=\"{gone}\"")));

    // An invalid list changes nothing, and is reported.
    let ok_updates =
        "exporter_proxy_discovery_updates_total{discovery=\"file_sd[0]\",result=\"ok\"}";
    let bad = ok_updates.replace("\"ok\"", "\"malformed\"");
    write(&json, "[{\"targets\": [");
    eventually(|| value(&proxy, &bad), |count| *count >= 1.0);
    assert_eq!(names(&proxy), [&*kept, &*new]);
    let (_, discoveries) = listed(&proxy);
    let reason = discoveries[0]["lastProblem"]["reason"].as_str().unwrap();
    let expected = format!("{}: not a list of targets: ", json_path(&json));
    assert!(reason.starts_with(&expected), "{reason}");
    logged(&proxy, &expected, 1);
    let updates = value(&proxy, ok_updates);

    // Once it is valid, it counts again; only invalid entries are left out.
    write(
        &json,
        &json!([entry("/kept"), { "targets": ["h/x", "h:1"], "labels": { "le": "1" } }])
            .to_string(),
    );
    eventually(|| value(&proxy, ok_updates), |count| *count > updates);
    let rejected = "exporter_proxy_discovery_rejected_entries{discovery=\"file_sd[0]\"}";
    assert_eq!(value(&proxy, rejected), 2.0);
    let (_, discoveries) = listed(&proxy);
    assert_eq!(
        discoveries[0]["rejections"][0],
        "target \"h/x\": must be a host, with or without a port"
    );
    assert!(discoveries[0]["lastProblem"].is_null());

    // The targets of a removed file are withdrawn.
    fs::remove_file(&yaml).unwrap();
    eventually(|| names(&proxy), |names| *names == [&*kept]);
    assert_eq!(polls(&proxy, &kept), 1.0);
    assert_eq!(
        value(
            &proxy,
            "exporter_proxy_discovery_targets{discovery=\"file_sd[1]\"}"
        ),
        0.0
    );
}

#[test]
fn lists_that_are_no_files_and_lists_beyond_the_limit_leave_the_others_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    mkfifo(&path("a.json"), Mode::S_IRWXU).unwrap();
    let addresses: Vec<String> = (1..=9).map(|host| format!("127.0.0.1:{host}")).collect();
    write(
        &path("b.json"),
        &json!([{ "targets": addresses }]).to_string(),
    );
    let proxy = Proxy::start(&format!(
        "[poll_external]\npoll_interval = \"1h\"\nclient_timeout = \"30s\"\n\
         max_targets = 3\nfile_sd = [\"{}/*.json\"]\n",
        dir.path().display()
    ));
    let found = eventually(|| names(&proxy), |names| names.len() == 3);
    assert_eq!(found, addresses[..3]);
    let state = || listed(&proxy).1.remove(0);
    assert_eq!(state()["rejected"], 6);
    assert_eq!(
        state()["rejections"],
        json!(["6 targets are beyond the limit of 3 (poll_external.max_targets)"])
    );
    let problem = format!("{}: not a regular file", path("a.json").display());
    eventually(state, |state| state["lastProblem"]["reason"] == *problem);
    // The read of the pipe has ended, so changes are noticed. Now there is room for other targets.
    write(
        &path("b.json"),
        &json!([{ "targets": addresses[7..] }]).to_string(),
    );
    write(
        &path("c.json"),
        &json!([{ "targets": ["127.0.0.1:90"] }]).to_string(),
    );
    fs::remove_file(path("a.json")).unwrap();
    let found = eventually(
        || names(&proxy),
        |names| names.contains(&"127.0.0.1:90".to_owned()) && !names.contains(&addresses[0]),
    );
    assert_eq!(found, ["127.0.0.1:8", "127.0.0.1:9", "127.0.0.1:90"]);
    eventually(state, |state| {
        state["rejected"] == 0 && state["lastProblem"].is_null()
    });
}

fn json_path(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn labels_are_on_samples_in_merged_mode_too() {
    let upstream = Upstream::start(|_| {
        ok(
            "# TYPE m gauge\nm{env=\"own\"} 1\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 2\n",
        )
    });
    let address = &upstream.address;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    let group = |name: &str, instance: &str| {
        format!(
            "- targets: ['{address}']\n  labels: {{env: prod, instance: {instance}, __metrics_path__: /{name}}}\n"
        )
    };
    write(&file, &(group("a", "one") + &group("b", "two")));
    let proxy = Proxy::start(&format!(
        "[exposition]\nmode = \"merged\"\napp_label = \"app\"\n[exporter]\nown_metrics = false\n\
         [poll_external]\npoll_interval = \"50ms\"\nfile_sd = [{{ files = [\"{}\"] }}]\n\
         [[poll_external.targets]]\nname = \"configured\"\nurl = \"http://{address}/c\"\n\
         labels = {{ app = \"mine\", env = \"test\" }}\nhonor_labels = true\n",
        file.display()
    ));
    let all = eventually(
        || proxy.metrics(),
        |text| text.matches("h_count").count() == 3,
    );
    let app = |name: &str| format!("app=\"{address}/{name}\"");
    for expected in [
        format!(
            "m{{{},env=\"prod\",exported_env=\"own\",instance=\"one\"}} 1\n",
            app("a")
        ),
        format!(
            "m{{{},env=\"prod\",exported_env=\"own\",instance=\"two\"}} 1\n",
            app("b")
        ),
        "m{app=\"mine\",env=\"own\"} 1\n".to_owned(),
        format!(
            "h_bucket{{{},env=\"prod\",instance=\"one\",le=\"+Inf\"}} 2\n",
            app("a")
        ),
        "h_count{app=\"mine\",env=\"test\"} 2\n".to_owned(),
    ] {
        assert!(all.contains(&expected), "{expected} in {all}");
    }
    assert_eq!(all.matches("# TYPE m gauge").count(), 1);
}

#[test]
fn lists_of_servers_are_requested_with_credentials_and_the_last_good_one_stays() {
    let upstream = exporter();
    let address = upstream.address.clone();
    let list = move |paths: &[&str]| {
        let groups: Vec<Value> = paths
            .iter()
            .map(|path| json!({ "targets": [address], "labels": { "__metrics_path__": path } }))
            .collect();
        json!(groups).to_string()
    };
    let one = list(&["/one"]);
    let lists = Upstream::start(move |request| {
        let is_known = request.header("authorization") == Some("Basic dTpodXNo");
        let is_asked = request.header("accept") == Some("application/json")
            && request.header("x-prometheus-refresh-interval-seconds") == Some("0.05");
        match is_known && is_asked && request.path == "/sd?token=hush" {
            true => ok(&one),
            false => reply("403 Forbidden", &[], b""),
        }
    });
    let config = |more: &str| {
        format!(
            "[poll_external]\npoll_interval = \"1h\"\nclient_timeout = \"30s\"\n{more}\n\
             [[poll_external.http_sd]]\n\
             url = \"http://{}/sd?token=hush\"\nrefresh_interval = \"50ms\"\n\
             basic_auth = {{ username = \"u\", password = \"hush\" }}\n",
            lists.address
        )
    };
    let proxy = Proxy::start(&config(""));
    let (one, two) = (
        format!("{}/one", upstream.address),
        format!("{}/two", upstream.address),
    );
    eventually(|| polls(&proxy, &one), |polls| *polls == 1.0);
    assert_eq!(names(&proxy), [&*one]);

    for (behaviour, result) in [
        ("500 Internal Server Error", "status"),
        ("200 OK", "malformed"),
    ] {
        lists.change(move |_| reply(behaviour, &[], b"no list"));
        let series = format!(
            "exporter_proxy_discovery_updates_total{{discovery=\"http_sd[0]\",result=\"{result}\"}}"
        );
        eventually(|| value(&proxy, &series), |count| *count >= 2.0);
        assert_eq!(names(&proxy), [&*one]);
    }
    let (_, discoveries) = listed(&proxy);
    assert!(discoveries[0]["lastProblem"]["reason"].is_string());

    let both = list(&["/two", "/one"]);
    lists.change(move |_| ok(&both));
    eventually(|| polls(&proxy, &two), |polls| *polls == 1.0);
    assert_eq!(names(&proxy), [&*one, &*two]);
    assert_eq!(polls(&proxy, &one), 1.0);

    // Targets beyond the limit are left out, in the order of the list.
    reload(&proxy, &config("max_targets = 1"));
    eventually(|| names(&proxy), |names| *names == [&*two]);
    let rejected = "exporter_proxy_discovery_rejected_entries{discovery=\"http_sd[0]\"}";
    assert_eq!(value(&proxy, rejected), 1.0);
    assert_eq!(value(&proxy, "exporter_proxy_targets_max"), 1.0);
    let (_, discoveries) = listed(&proxy);
    assert_eq!(
        discoveries[0]["rejections"][0],
        "1 target is beyond the limit of 1 (poll_external.max_targets)"
    );
    assert!(
        discoveries[0]["source"]
            .as_str()
            .unwrap()
            .contains("token=***")
    );
    let shown = proxy.log() + &proxy.metrics() + &proxy.get("/api/v1/targets").text();
    assert!(!shown.contains("hush"), "{shown}");
}

#[test]
fn a_reload_keeps_what_was_found() {
    let upstream = exporter();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.json");
    let list = json!([{ "targets": [upstream.address] }]).to_string();
    write(&file, &list);
    let config = |more: &str| {
        format!(
            "[poll_external]\npoll_interval = \"1h\"\nclient_timeout = \"30s\"\n\
             file_sd = [{{ files = [\"{}\"], targets = {{ {more} }} }}]\n",
            file.display()
        )
    };
    let proxy = Proxy::start(&config(""));
    let name = &upstream.address;
    eventually(|| polls(&proxy, name), |polls| *polls == 1.0);
    // The same discovery continues, and so does its target.
    let report = reload(&proxy, &(config("") + "max_body = 100\n"));
    assert!(
        report.contains("changed poll_external.max_body"),
        "{report}"
    );
    reload(&proxy, &config(""));
    assert_eq!(polls(&proxy, name), 1.0);
    // Found targets are polled at once with their new settings.
    let report = reload(&proxy, &config("labels = { env = \"prod\" }"));
    assert!(report.contains("changed poll_external.file_sd"), "{report}");
    let labels = format!("m{{env=\"prod\",instance=\"{name}\",path=\"/metrics\"}} 1\n");
    eventually(
        || text_of(&proxy, name),
        |text| text.as_deref() == Some(&*labels),
    );
    // Without the discovery, its targets and metrics disappear.
    reload(&proxy, "");
    eventually(|| names(&proxy), Vec::is_empty);
    assert!(!proxy.metrics().contains("exporter_proxy_discovery"));
    reload(&proxy, &config(""));
    eventually(|| names(&proxy), |names| *names == [&**name]);
    reload(
        &proxy,
        &config("").replace(
            "[poll_external]",
            "[poll_external]\npoll_other_scrape_endpoints = false",
        ),
    );
    eventually(|| names(&proxy), Vec::is_empty);
}

#[test]
fn a_reload_keeps_the_targets_of_a_list_that_cannot_be_read() {
    let upstream = exporter();
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("a.json"), dir.path().join("b.json"));
    let list = |path: &str| {
        let labels = json!({ "__metrics_path__": path });
        json!([{ "targets": [upstream.address], "labels": labels }]).to_string()
    };
    write(&good, &list("/good"));
    write(&bad, &list("/bad"));
    let config = |targets: &str| {
        format!(
            "[poll_external]\npoll_interval = \"50ms\"\n\
             file_sd = [{{ files = [\"{}/*.json\"], targets = {{ {targets} }} }}]\n",
            dir.path().display()
        )
    };
    let proxy = Proxy::start(&config(""));
    let name = |path: &str| format!("{}{path}", upstream.address);
    let await_text = |path: &str, label: &str| {
        let address = &upstream.address;
        let text = format!("m{{{label}instance=\"{address}\",path=\"{path}\"}} 1\n");
        eventually(
            || text_of(&proxy, &name(path)),
            |found| found.as_deref() == Some(&*text),
        );
    };
    await_text("/good", "");
    await_text("/bad", "");
    write(&bad, "[");
    let failed =
        "exporter_proxy_discovery_updates_total{discovery=\"file_sd[0]\",result=\"malformed\"}";
    eventually(|| value(&proxy, failed), |count| *count >= 1.0);
    // The readable list gets the new settings, and the other keeps the old ones.
    reload(&proxy, &config("labels = { env = \"prod\" }"));
    await_text("/good", "env=\"prod\",");
    await_text("/bad", "");
    assert_eq!(names(&proxy), [name("/bad"), name("/good")]);
    write(&bad, &list("/bad"));
    await_text("/bad", "env=\"prod\",");
    fs::remove_file(&bad).unwrap();
    eventually(|| names(&proxy), |names| *names == [name("/good")]);
}

/// The rules for targets, in a file. They keep targets with `env="prod"`.
const TARGET_RULES: &str = "- {action: keep, source_labels: [env], regex: prod}\n\
    - {source_labels: [__meta_filepath], regex: '.*/([^/]+)', target_label: list}\n\
    - {source_labels: [__param_q], target_label: __metrics_path__, replacement: /$1}\n\
    - {action: labelmap, regex: __meta_(zone)}\n";

#[test]
fn rules_of_targets_are_reloaded() {
    let upstream = exporter();
    let address = &upstream.address;
    let dir = tempfile::tempdir().unwrap();
    let (list, rules) = (dir.path().join("a.json"), dir.path().join("rules.yml"));
    let entry = |env: &str, q: &str| {
        let labels = json!({ "env": env, "__param_q": q, "__meta_zone": "z", "extra": "x" });
        json!({ "targets": [address], "labels": labels })
    };
    let lists = json!([entry("prod", "one"), entry("test", "two")]);
    write(&list, &lists.to_string());
    fs::write(&rules, TARGET_RULES).unwrap();
    let config = |own: &str, of_all: &str| {
        format!(
            "[poll_external]\n{of_all}\nfile_sd = [{{ files = [{list:?}], targets = {{ {own} }} }}]\n\
             [[poll_external.targets]]\nname = \"static\"\nurl = \"http://{address}/static\"\n\
             labels = {{ env = \"prod\" }}\n"
        )
    };
    let own = format!("relabel_file = {rules:?}");
    let of_all = "relabel = [{ action = \"labeldrop\", regex = \"extra\" }, \
                  { source_labels = [\"__address__\"], target_label = \"at\" }]";
    let proxy = Proxy::start(&config(&own, of_all));
    let one = format!(
        "m{{at=\"{address}\",env=\"prod\",instance=\"{address}\",list=\"a.json\",path=\"/one?q=one\",zone=\"z\"}}"
    );
    let configured = format!("m{{at=\"{address}\",env=\"prod\",path=\"/static\"}}");
    eventually(|| proxy.sample(&one), |value| *value == Some(1.0));
    eventually(|| proxy.sample(&configured), |value| *value == Some(1.0));
    let count = |what: &str| {
        let series = format!("exporter_proxy_discovery_{what}{{discovery=\"file_sd[0]\"}}");
        value(&proxy, &series)
    };
    assert_eq!((count("targets"), count("dropped_entries")), (1.0, 1.0));
    assert_eq!(listed(&proxy).1[0]["dropped"], 1);

    // Rules for all targets also drop targets of the configuration.
    let drop = "relabel = [{ action = \"drop\", source_labels = [\"env\"], regex = \"prod\" }]";
    reload(&proxy, &config("", drop));
    let path = "path=\"/metrics?q=two\"";
    let two = format!("m{{env=\"test\",extra=\"x\",instance=\"{address}\",{path}}}");
    eventually(|| proxy.sample(&two), |value| *value == Some(1.0));
    let only = [format!("{address}/metrics?q=two")];
    eventually(|| names(&proxy), |names| *names == only);

    // Mistakes are found when the settings are read.
    let wrong = "relabel = [{ target_label = \"__scheme__\", replacement = \"ftp\" }]";
    let answer = try_reload(&proxy, &config("", wrong));
    assert_eq!(answer.status, 500);
    let text = answer.text();
    let problem =
        "target \"static\" after `poll_external.relabel`: __scheme__ must be http or https";
    assert!(text.contains(problem), "{text}");
    assert_eq!(proxy.sample(&two), Some(1.0));
}

#[test]
fn a_list_of_the_proxy_itself_is_refused() {
    let proxy = Proxy::start("");
    assert_eq!(proxy.push_tcp(b"{\"a\":\"m 1\"}"), "");
    let config = format!(
        "[poll_external]\npoll_interval = \"50ms\"\n[[poll_external.http_sd]]\n\
         url = \"http://{}/api/v1/sd\"\nrefresh_interval = \"50ms\"\n",
        proxy.http
    );
    reload(&proxy, &config);
    let failed =
        "exporter_proxy_discovery_updates_total{discovery=\"http_sd[0]\",result=\"status\"}";
    eventually(|| value(&proxy, failed), |count| *count >= 3.0);
    let (targets, discoveries) = listed(&proxy);
    assert_eq!(targets, [Value::Null; 0]);
    let problem = discoveries[0]["lastProblem"]["reason"].as_str().unwrap();
    assert!(problem.contains("508 Loop Detected"), "{problem}");
    // Another proxy takes what is here, once.
    let other = Proxy::start(&config);
    let name = format!("{}/apps/a/metrics?kind=app", proxy.http);
    eventually(|| polls(&other, &name), |polls| *polls >= 2.0);
    assert_eq!(names(&other), [&*name]);
}
