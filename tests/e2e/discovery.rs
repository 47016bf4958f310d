//! Prometheus with the job of `docs/discovery.md`, which discovers what the proxy holds.

use crate::documents::blocks;
use crate::harness::{Proxy, eventually};
use crate::readers::{expect_query, prometheus};
use crate::tools::{self, Tool};
use crate::upstreams::page_server;

const DOCUMENT: &str = include_str!("../../docs/discovery.md");

#[test]
fn prometheus_discovers_each_app_target_and_group_with_an_up_of_its_own() {
    if !tools::here(&[Tool::Prometheus, Tool::Python]) {
        return;
    }
    let pages = page_server();
    let target = |name: &str, url: &str| {
        format!(
            "[[poll_external.targets]]\nname = \"{name}\"\nurl = \"http://{url}\"\n\
             labels = {{ env = \"prod\" }}\n"
        )
    };
    let proxy = Proxy::start(&format!(
        "[poll_external]\npoll_interval = \"200ms\"\nclient_timeout = \"20s\"\n{}{}",
        target("pages", &format!("{}/1025.html", pages.address)),
        target("a target", "127.0.0.1:1/")
    ));
    assert_eq!(proxy.push_tcp(b"{\"shop\":\"orders 3\"}"), "");
    let group = "/metrics/job/backup/instance/db";
    assert_eq!(proxy.push("PUT", group, "size 7\n").status, 200);
    // Targets are discovered once they have been polled.
    let listed = || proxy.get("/api/v1/sd?kind=target").json();
    eventually(listed, |list| {
        list.as_array().is_some_and(|it| it.len() == 2)
    });

    let blocks = blocks(DOCUMENT);
    let job = blocks
        .iter()
        .find(|it| it.text.starts_with("scrape_configs:"));
    let job = job.expect("the document has a job").text;
    let job = job.trim_start_matches("scrape_configs:\n");
    let job = job
        .replace("exporter-proxy:6555", &proxy.http)
        .replace("30s", "1s");
    let prometheus = prometheus(&job, &[]);
    for (query, value) in [
        ("up{job=\"apps\",app=\"shop\",instance=\"shop\"}", "1"),
        (
            "up{job=\"apps\",target=\"pages\",instance=\"pages\",env=\"prod\"}",
            "1",
        ),
        (
            "up{job=\"apps\",target=\"a target\",instance=\"a target\"}",
            "0",
        ),
        ("up{job=\"backup\",instance=\"db\"}", "1"),
        ("count(up)", "4"),
        ("orders{job=\"apps\",app=\"shop\"}", "3"),
        ("size{job=\"backup\",instance=\"db\"}", "7"),
    ] {
        expect_query(&prometheus, query, value);
    }
    // A target that begins to fail, and a new app.
    drop(pages);
    expect_query(&prometheus, "up{target=\"pages\"}", "0");
    assert_eq!(proxy.push_tcp(b"{\"late\":\"m 1\"}"), "");
    expect_query(&prometheus, "up{app=\"late\"}", "1");
}
