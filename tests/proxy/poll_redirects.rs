//! Redirects of polled exporters: which headers follow, and where polls never go.

use tempfile::tempdir;

use crate::harness::{Proxy, eventually};
use crate::support::{detail, text_of};
use crate::upstream::{Request, Upstream, ok, reply};

/// A target that is polled once, with credentials of every kind.
fn target(url: &str, settings: &str) -> Proxy {
    Proxy::start(&format!(
        "[[poll_external.targets]]\nname = \"t\"\nurl = \"{url}\"\ninterval = \"1h\"\n\
         timeout = \"50s\"\n{settings}\n"
    ))
}

const OWN: &str = "headers = { X-Api-Key = \"key\", Cookie = \"a=b\", Host = \"inner.example\", Accept = \"text/x\" }\n\
                   basic_auth = { username = \"ada\", password = \"pw\" }";

/// A server that redirects to `location`, and answers only `/end`.
fn redirecting(location: String) -> Upstream {
    Upstream::start(move |request| match &*request.path {
        "/end" => ok("end 1\n"),
        _ => reply("302 Found", &[("Location", &location)], b""),
    })
}

fn await_text(proxy: &Proxy, text: &str) {
    eventually(|| text_of(proxy, "t"), |seen| seen.as_deref() == Some(text));
}

fn await_problem(proxy: &Proxy) -> String {
    let problem = eventually(
        || detail(proxy, "t").map(|it| it["last_problem"]["reason"].clone()),
        |problem| problem.as_ref().is_some_and(serde_json::Value::is_string),
    );
    problem.unwrap().as_str().unwrap().to_owned()
}

fn has_own(request: &Request) -> [bool; 5] {
    [
        request.header("x-api-key") == Some("key"),
        request.header("cookie") == Some("a=b"),
        request.header("host") == Some("inner.example"),
        request.header("accept") == Some("text/x"),
        request.header("authorization") == Some("Basic YWRhOnB3"),
    ]
}

#[test]
fn configured_headers_and_credentials_stay_with_the_targets_server() {
    let other = Upstream::start(|_| ok("there 1\n"));
    let first = redirecting(format!("http://{}/there", other.address));
    let proxy = target(&format!("http://{}/m?token=hush", first.address), OWN);
    await_text(&proxy, "there 1\n");
    assert_eq!(has_own(&first.requests()[0]), [true; 5]);
    let there = &other.requests()[0];
    assert_eq!(has_own(there), [false; 5], "{there:?}");
    assert_eq!(there.header("host"), Some(&*other.address));
    assert_eq!(there.header("referer"), None);
    assert_eq!(there.header("authorization"), None);
    assert!(!format!("{there:?}").contains("hush"), "{there:?}");
    let accept = there.header("accept").unwrap();
    assert!(accept.starts_with("text/plain"), "{accept}");
}

#[test]
fn a_redirect_on_the_targets_own_server_has_all_headers() {
    let upstream = redirecting("/end".to_owned());
    let proxy = target(&format!("http://{}/m", upstream.address), OWN);
    await_text(&proxy, "end 1\n");
    let requests = upstream.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| has_own(request) == [true; 5]));
    assert_eq!(requests[1].header("referer"), None);
}

#[test]
fn user_info_of_a_url_stays_with_its_server_too() {
    let other = Upstream::start(|_| ok("there 1\n"));
    let away = redirecting(format!("http://{}/there", other.address));
    let proxy = target(&format!("http://ada:pw@{}/m", away.address), "");
    await_text(&proxy, "there 1\n");
    assert_eq!(other.requests()[0].header("authorization"), None);

    let first = Upstream::start(|request| match &*request.path {
        "/end" => ok("end 1\n"),
        _ => {
            let host = request.header("host").unwrap();
            let location = format!("http://{host}/end");
            reply("301 Moved", &[("Location", &location)], b"")
        }
    });
    let proxy = target(&format!("http://ada:pw@{}/m", first.address), "");
    await_text(&proxy, "end 1\n");
    for request in first.requests() {
        assert_eq!(request.header("authorization"), Some("Basic YWRhOnB3"));
    }
}

#[test]
fn redirects_are_followed_unless_a_setting_says_otherwise() {
    let location = "http://other.example/x?api_key=hush";
    let upstream = redirecting(location.to_owned());
    let url = format!("http://{}/m", upstream.address);
    let own = target(&url, "follow_redirects = false");
    let all = Proxy::start(&format!(
        "[poll_external]\nfollow_redirects = false\nclient_timeout = \"50s\"\n\
         [[poll_external.targets]]\nname = \"t\"\nurl = \"{url}\"\n"
    ));
    for proxy in [own, all] {
        assert_eq!(
            await_problem(&proxy),
            "redirect: redirected (302 Found) to http://other.example/x?api_key=***, and follow_redirects is false"
        );
    }
    // A target's own setting takes precedence.
    let upstream = redirecting("/end".to_owned());
    let proxy = Proxy::start(&format!(
        "[poll_external]\nfollow_redirects = false\nclient_timeout = \"50s\"\n\
         [[poll_external.targets]]\nname = \"t\"\n\
         url = \"http://{}/m\"\nfollow_redirects = true\n",
        upstream.address
    ));
    await_text(&proxy, "end 1\n");
}

#[test]
fn a_failure_after_a_redirect_says_where_it_led() {
    let other = Upstream::start(|_| reply("404 Not Found", &[], b""));
    let location = format!("http://{}/x?api_key=hush", other.address);
    let upstream = redirecting(location);
    let proxy = target(&format!("http://{}/m", upstream.address), "");
    assert_eq!(
        await_problem(&proxy),
        format!(
            "status: redirected to http://{}/x?api_key=***: answered 404 Not Found",
            other.address
        )
    );
}

#[test]
fn no_other_scheme_is_followed() {
    for location in ["ftp://a.example/x", "file:///etc/passwd", "unix:///x.sock"] {
        let upstream = redirecting(location.to_owned());
        let proxy = target(&format!("http://{}/m", upstream.address), "");
        assert_eq!(
            await_problem(&proxy),
            format!(
                "redirect: redirected (302 Found) to {location}; only http and https are followed"
            )
        );
    }
}

#[test]
fn a_unix_socket_redirects_to_itself_alone() {
    let dir = tempdir().unwrap();
    let other = Upstream::start(|_| ok("there 1\n"));
    let location = format!("http://{}/there", other.address);
    let socket = dir.path().join("up.sock");
    let _upstream = Upstream::unix(&socket, move |request| match &*request.path {
        "/end" => ok("end 1\n"),
        "/here" => reply("308 Permanent Redirect", &[("Location", "/end")], b""),
        _ => reply("307 Temporary Redirect", &[("Location", &location)], b""),
    });
    let url = |path: &str| format!("unix://{}:{path}", socket.display());
    await_text(&target(&url("/here"), ""), "end 1\n");
    let problem = await_problem(&target(&url("/away"), ""));
    assert!(
        problem.ends_with("a target on a Unix socket can redirect only to itself"),
        "{problem}"
    );
    assert_eq!(other.requests().len(), 0);
}
