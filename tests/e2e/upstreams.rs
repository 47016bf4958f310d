//! Upstream exporters that are polled.

use crate::harness::{Proxy, eventually};
use crate::original;
use crate::tools::{self, Server, Tool, command, logged_address, sample};

/// Python's own web server, serving the sample pages.
pub fn page_server() -> Server {
    Server::start(
        command(Tool::Python)
            .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"])
            .current_dir(sample("")),
        |log| {
            let (_, rest) = log.split_once("(http://")?;
            let (address, _) = rest.split_once("/)")?;
            Some(address.to_owned())
        },
    )
}

/// The original's configuration with polling on, with the addresses of `servers` in its three
/// URLs.
fn polling(servers: &[Server]) -> String {
    let mut config = original::CONFIG.replace(
        "poll_other_scrape_endpoints = false",
        "poll_other_scrape_endpoints = true",
    );
    for (port, server) in ["1025", "1026", "1027"].into_iter().zip(servers) {
        config = config.replace(
            &format!("http://127.0.0.1:{port}/"),
            &format!("http://{}/", server.address),
        );
    }
    config
}

/// Name and state in each row of `/apps`.
fn states(proxy: &Proxy) -> Vec<(String, String)> {
    let list = proxy.get("/apps?format=json").json();
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or("?").to_owned();
    let rows = list["apps"].as_array().expect("a list of apps");
    rows.iter()
        .map(|row| (text(row, "name"), text(row, "state")))
        .collect()
}

fn page(name: &str) -> String {
    std::fs::read_to_string(sample(name)).expect("the page is there")
}

#[test]
fn three_upstreams_are_polled_and_the_one_that_dies_goes_stale() {
    if !tools::here(&[Tool::Python]) {
        return;
    }
    let mut servers = [page_server(), page_server(), page_server()];
    let proxy = Proxy::start_with(
        &polling(&servers),
        &[
            ("POLL_EXTERNAL_POLL_INTERVAL", "200ms"),
            ("POLL_EXTERNAL_CLIENT_TIMEOUT", "20s"),
        ],
    );
    let names = [0, 1, 2].map(|at| format!("external_poll: {}", servers[at].address));
    let with_states = |states: [&str; 3]| {
        let mut rows: Vec<(String, String)> = names
            .iter()
            .zip(states)
            .map(|(name, state)| (name.clone(), state.to_owned()))
            .collect();
        rows.sort();
        rows
    };

    let all_fresh = with_states(["fresh"; 3]);
    eventually(|| states(&proxy), |seen| *seen == all_fresh);
    let metrics = proxy.metrics();
    for name in ["1025.html", "1026.html", "1027.html"] {
        assert!(metrics.contains(&page(name)), "{name} in {metrics}");
    }
    let table = proxy.get("/apps").text();
    for name in &names {
        // As in the original, name and source are the same.
        let row = format!("| {name} ");
        let row = table
            .lines()
            .find(|line| line.matches(&row).count() == 2)
            .unwrap_or_else(|| panic!("{name} in {table}"));
        assert!(!row.contains("http://"), "{table}");
    }
    let wide = proxy.get("/apps?wide=1").text();
    for (server, path) in servers.iter().zip(["1025.html", "1026.html", "1027.html"]) {
        assert!(
            wide.contains(&format!("| http://{}/{path} ", server.address)),
            "{wide}"
        );
    }

    servers[1].kill();
    let one_stale = with_states(["fresh", "stale", "fresh"]);
    eventually(|| states(&proxy), |seen| *seen == one_stale);
    let success =
        |name: &str| proxy.sample(&format!("exporter_proxy_poll_success{{target=\"{name}\"}}"));
    assert_eq!(success(&names[0]), Some(1.0));
    // It is set just after the state.
    eventually(|| success(&names[1]), |value| *value == Some(0.0));
    let wide = proxy.get("/apps?wide=1").text();
    let row = wide
        .lines()
        .find(|line| line.contains(&names[1]))
        .unwrap_or_else(|| panic!("{} in {wide}", names[1]));
    assert!(row.contains("| stale "), "{wide}");
    // Its last text is still served.
    assert!(proxy.metrics().contains(&page("1026.html")));
}

#[test]
fn node_exporter_is_polled_under_the_name_it_is_given() {
    if !tools::here(&[Tool::NodeExporter]) {
        return;
    }
    let exporter = Server::start(
        command(Tool::NodeExporter).arg("--web.listen-address=127.0.0.1:0"),
        logged_address,
    );
    let proxy = Proxy::start(&format!(
        "[poll_external]
         poll_other_scrape_endpoints = true
         [[poll_external.targets]]
         url = \"http://{}/metrics\"
         name = \"node\"
         interval = \"500ms\"
         timeout = \"20s\"",
        exporter.address
    ));
    let fresh = [("node".to_owned(), "fresh".to_owned())];
    eventually(|| states(&proxy), |seen| *seen == fresh);
    let metrics = proxy.metrics();
    assert!(metrics.contains("\nnode_exporter_build_info{"), "{metrics}");
    assert!(metrics.contains("\nnode_load1 "), "{metrics}");
}

/// Node's own HTTP server, whose idle timeout equals the polling interval.
const NODE_SERVER: &str = r#"
const server = require("http").createServer((_, answer) => {
    answer.setHeader("Content-Type", "text/plain; version=0.0.4");
    answer.end("from_node 1\n");
});
server.keepAliveTimeout = 100;
server.keepAliveTimeoutBuffer = 0;
server.listen(0, "127.0.0.1", () => console.log("at 127.0.0.1:" + server.address().port + "."));
"#;

#[test]
fn a_node_server_whose_idle_timer_is_the_interval_never_fails_a_poll() {
    if !tools::here(&[Tool::Node]) {
        return;
    }
    let server = Server::start(command(Tool::Node).args(["-e", NODE_SERVER]), |log| {
        let (_, rest) = log.split_once("at ")?;
        let (address, _) = rest.split_once(".\n")?;
        Some(address.to_owned())
    });
    let proxy = Proxy::start(&format!(
        "[[poll_external.targets]]\nurl = \"http://{}/metrics\"\nname = \"node\"\n\
         interval = \"100ms\"\ntimeout = \"20s\"\n",
        server.address
    ));
    let polls = |proxy: &Proxy| {
        let metrics = proxy.metrics();
        let of_polls = |line: &&str| line.starts_with("exporter_proxy_polls_total{");
        let lines = metrics.lines().filter(of_polls);
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        lines
    };
    let polls = eventually(
        || polls(&proxy),
        |polls| {
            let count = |line: &String| line.rsplit(' ').next()?.parse::<u64>().ok();
            polls.iter().filter_map(count).sum::<u64>() >= 60
        },
    );
    assert_eq!(polls.len(), 1, "{polls:?}");
    assert!(polls[0].contains("result=\"ok\""), "{polls:?}");
}
