//! Settings of targets that have the names of Prometheus: limits, parameters, proxies.

use std::fs;

use serde_json::json;

use crate::harness::{Proxy, eventually};
use crate::support::{detail, text_of};
use crate::upstream::{Upstream, ok};

const TEXT: &str = "# TYPE m gauge\nm{a=\"1\",bb=\"xyz\"} 1\nm{a=\"2\",bb=\"xyz\"} 2\n";

fn target(name: &str, address: &str, more: &str) -> String {
    format!("[[poll_external.targets]]\nname = \"{name}\"\nurl = \"http://{address}/m\"\n{more}\n")
}

/// Why the last poll of a target failed.
fn problem(proxy: &Proxy, name: &str) -> String {
    let shown = eventually(
        || detail(proxy, name).unwrap(),
        |it| it["state"] == "failing",
    );
    shown["last_problem"]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn a_text_beyond_a_limit_fails_the_poll_and_one_within_does_not() {
    let upstream = Upstream::start(|_| ok(TEXT));
    let limits = [
        (
            "sample_limit",
            2,
            "too_many_samples: target \"bad0\": 2 samples; sample_limit is 1",
        ),
        (
            "label_limit",
            4,
            "too_many_samples: target \"bad1\": a sample of m has 4 labels with its name; label_limit is 3",
        ),
        (
            "label_name_length_limit",
            3,
            "too_many_samples: target \"bad2\": a label of m has a name of 3 bytes; label_name_length_limit is 2",
        ),
        (
            "label_value_length_limit",
            4,
            "too_many_samples: target \"bad3\": label env of m has a value of 4 bytes; label_value_length_limit is 3",
        ),
        (
            "body_size_limit",
            TEXT.len(),
            "too_large: the response exceeds the limit of 54 bytes (body_size_limit of the target)",
        ),
    ];
    assert_eq!(TEXT.len(), 55);
    for mode in ["verbatim", "merged"] {
        let mut config =
            format!("[exposition]\nmode = \"{mode}\"\n[poll_external]\nclient_timeout = \"50s\"\n");
        for (at, (setting, limit, _)) in limits.iter().enumerate() {
            let labels = "labels = { env = \"prod\" }\n";
            let of = |limit: usize| format!("{labels}{setting} = {limit}");
            let name = |kind: &str| format!("{kind}{at}");
            if mode == "merged" {
                // Two targets with the same series would conflict.
                config += &target(&name("bad"), &upstream.address, &of(limit - 1));
                continue;
            }
            config += &target(&name("good"), &upstream.address, &of(*limit));
            config += &target(&name("unlimited"), &upstream.address, &of(0));
            config += &target(&name("bad"), &upstream.address, &of(limit - 1));
        }
        let proxy = Proxy::start(&config);
        for (at, (.., expected)) in limits.iter().enumerate() {
            // The setting adds the label that is too long.
            let found = problem(&proxy, &format!("bad{at}"));
            assert_eq!(&found, expected, "{mode}");
            if mode == "verbatim" {
                for kind in ["good", "unlimited"] {
                    let name = format!("{kind}{at}");
                    let sample = "m{env=\"prod\",a=\"2\",bb=\"xyz\"} 2\n";
                    eventually(
                        || text_of(&proxy, &name),
                        |text| text.as_ref().is_some_and(|text| text.contains(sample)),
                    );
                }
            }
        }
    }
}

#[test]
fn limits_of_all_targets_are_those_of_each_that_has_none() {
    let upstream = Upstream::start(|_| ok(TEXT));
    let proxy = Proxy::start(&format!(
        "[poll_external]\nsample_limit = 1\nclient_timeout = \"50s\"\n{}{}",
        target("of all", &upstream.address, ""),
        target("own", &upstream.address, "sample_limit = 0"),
    ));
    let expected = "too_many_samples: target \"of all\": 2 samples; sample_limit is 1";
    assert_eq!(problem(&proxy, "of all"), expected);
    eventually(
        || detail(&proxy, "own").unwrap(),
        |it| it["state"] == "fresh",
    );
}

#[test]
fn params_are_in_the_url_and_secret_ones_are_hidden() {
    let upstream = Upstream::start(|request| ok(&format!("m{{path=\"{}\"}} 1\n", request.path)));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.json");
    let found = json!([{
        "targets": [upstream.address],
        "labels": { "__param_module": "own", "__param_target": "x y" },
    }]);
    fs::write(&file, found.to_string()).unwrap();
    let params = "params = { module = [\"if_mib\", \"ucd\"], token = \"hush\" }";
    let proxy = Proxy::start(&format!(
        "[[poll_external.file_sd]]\nfiles = [\"{}\"]\ntargets = {{ {params} }}\n{}",
        file.display(),
        target("t", &upstream.address, params).replace("/m\"", "/m?a=b\""),
    ));
    let url = "/m?a=b&module=if_mib&module=ucd&token=hush";
    eventually(
        || text_of(&proxy, "t"),
        |text| text.as_deref() == Some(&*format!("m{{path=\"{url}\"}} 1\n")),
    );
    // The label replaces the first value, as in Prometheus.
    let query = "module=own&module=ucd&target=x+y&token=hush";
    eventually(
        || upstream.requests(),
        |all| all.iter().any(|it| it.path == format!("/metrics?{query}")),
    );
    let shown = proxy.get("/api/v1/targets").text() + &proxy.get("/apps?wide=1").text();
    assert!(shown.contains("token=***"), "{shown}");
    assert!(!(shown + &proxy.log()).contains("hush"));
}

#[test]
fn a_target_has_a_proxy_of_its_own() {
    let upstream = Upstream::start(|_| ok("direct 1\n"));
    let one = Upstream::start(|_| ok("by_one 1\n"));
    let other = Upstream::start(|_| ok("by_other 1\n"));
    let proxy = Proxy::launch(
        &format!(
            "[poll_external]\nproxy_url = \"http://{}\"\n{}{}",
            one.address,
            target("of all", &upstream.address, ""),
            target(
                "own",
                &upstream.address,
                &format!("proxy_url = \"http://{}\"", other.address)
            ),
        ),
        &[],
        |command| command.env_remove("NO_PROXY").env_remove("no_proxy"),
    );
    for (name, text) in [("of all", "by_one 1\n"), ("own", "by_other 1\n")] {
        eventually(
            || text_of(&proxy, name),
            |found| found.as_deref() == Some(text),
        );
    }
}
