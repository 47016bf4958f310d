//! Polls through HTTP proxies, which only the settings switch on.

use crate::harness::{Proxy, eventually};
use crate::support::text_of;
use crate::upstream::{Upstream, ok};

/// An HTTP proxy that answers in place of every server.
fn middle() -> Upstream {
    Upstream::start(|_| ok("by_proxy 1\n"))
}

/// Polls `up` with these settings and variables, and returns the text.
fn polled(up: &Upstream, settings: &str, variables: &[(&str, &str)]) -> String {
    let config = format!(
        "[poll_external]\n{settings}\n[[poll_external.targets]]\nname = \"t\"\nurl = \"http://{}/m\"\n",
        up.address
    );
    let proxy = Proxy::launch(&config, &[], |command| {
        for name in [
            "HTTP_PROXY",
            "http_proxy",
            "ALL_PROXY",
            "NO_PROXY",
            "no_proxy",
        ] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied())
    });
    let text = eventually(
        || text_of(&proxy, "t"),
        |text| text.as_ref().is_some_and(|text| !text.is_empty()),
    );
    text.unwrap()
}

#[test]
fn proxies_of_the_environment_are_ignored_by_default() {
    let (up, middle) = (Upstream::start(|_| ok("direct 1\n")), middle());
    let address = format!("http://{}", middle.address);
    let variables = ["HTTP_PROXY", "http_proxy", "ALL_PROXY"].map(|name| (name, &*address));
    assert_eq!(polled(&up, "", &variables), "direct 1\n");
    assert_eq!(middle.requests().len(), 0);
}

#[test]
fn a_proxy_that_is_named_is_used_but_for_hosts_in_no_proxy() {
    let (up, middle) = (Upstream::start(|_| ok("direct 1\n")), middle());
    let setting = format!("proxy_url = \"http://ada:pw@{}\"", middle.address);
    assert_eq!(polled(&up, &setting, &[]), "by_proxy 1\n");
    let request = &middle.requests()[0];
    assert_eq!(request.path, format!("http://{}/m", up.address));
    assert_eq!(
        request.header("proxy-authorization"),
        Some("Basic YWRhOnB3")
    );
    assert_eq!(up.requests().len(), 0);

    let asked = middle.requests().len();
    for excluded in ["127.0.0.1", "a.example, 127.0.0.0/8", "*"] {
        let text = polled(&up, &setting, &[("NO_PROXY", excluded)]);
        assert_eq!(text, "direct 1\n", "{excluded}");
    }
    assert_eq!(middle.requests().len(), asked);
}

#[test]
fn the_environments_proxy_is_used_where_the_settings_say_so() {
    let (up, middle) = (Upstream::start(|_| ok("direct 1\n")), middle());
    let address = format!("http://{}", middle.address);
    let setting = "proxy_from_environment = true";
    let variable = ("HTTP_PROXY", &*address);
    assert_eq!(polled(&up, setting, &[variable]), "by_proxy 1\n");
    let excluded = ("NO_PROXY", "127.0.0.1");
    assert_eq!(polled(&up, setting, &[variable, excluded]), "direct 1\n");
    // Without the setting, no proxy is used.
    assert_eq!(polled(&up, setting, &[]), "direct 1\n");
}
