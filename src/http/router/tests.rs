use hyper::Request as HyperRequest;

use super::*;

fn head(method: &str, uri: &str) -> Parts {
    let request = HyperRequest::builder().method(method).uri(uri);
    request.body(()).unwrap().into_parts().0
}

/// A table with one route of each kind. `?add` is a condition.
fn table(accepts_pushes: bool) -> Table {
    let state = Arc::new(());
    let read = |name, pattern| Route::read(name, pattern, "", &state, |(), _| unreachable!());
    let write = |name, methods, pattern| {
        Route::write(name, methods, pattern, "", &state, |(), _| unreachable!())
    };
    let add: Condition = Arc::new(|head, _| head.uri.query() == Some("add"));
    let group: Condition = Arc::new(|_, rest| rest.starts_with("job/"));
    let routes = [
        write("add", "POST", "/metrics[/{*labels}]").when("add", add),
        write("put", "PUT", "/metrics/{*group}").when("group", Arc::clone(&group)),
        write("delete", "DELETE", "/metrics/{*group}").when("group", group),
        read("metrics", "/metrics"),
        read("app", "/apps/{name}"),
        write("remove", "DELETE", "/apps/{name}"),
        read("text", "/apps/{name}/metrics"),
        read("groups", "/api/v1/groups").on_push_listener(),
        read("alive", "/alive").on_push_listener().elsewhere("/ok"),
        read("index", "/"),
    ];
    Table::new(&routes, accepts_pushes)
}

/// The name and captures of the matching route, or why none matches.
fn found(accepts_pushes: bool, method: &str, uri: &str) -> String {
    let table = table(accepts_pushes);
    let head = head(method, uri);
    match table.find(&head, false) {
        Ok(Matched { resource, captured }) => match resource.route(&head.method) {
            Some(route) => format!("{}:{captured}", route.name),
            None => format!("allowed: {}", resource.allowed()),
        },
        Err(NoRoute::PushListenerOnly { is_read, elsewhere }) => {
            let what = if is_read { "reads" } else { "pushes" };
            format!("{what} elsewhere, here {elsewhere:?}")
        }
        Err(no_route) => format!("{no_route:?}"),
    }
}

#[test]
fn paths_are_split_before_they_are_decoded() {
    let cases: [(&str, Option<&[&str]>); 8] = [
        ("/", Some(&[])),
        ("", Some(&[])),
        ("/metrics", Some(&["metrics"])),
        ("/metrics/", Some(&["metrics"])),
        ("/metrics//", Some(&["metrics", ""])),
        (
            "/apps/a%2Fb%20c/metrics",
            Some(&["apps", "a/b c", "metrics"]),
        ),
        ("/apps/%zz", Some(&["apps", "%zz"])),
        ("/apps/%ff", None),
    ];
    for (path, expected) in cases {
        let found = segments(path);
        let found: Option<Vec<&str>> = found
            .as_ref()
            .map(|parts| parts.iter().map(AsRef::as_ref).collect());
        assert_eq!(found.as_deref(), expected, "{path}");
    }
}

#[test]
fn the_first_matching_pattern_wins() {
    for (method, uri, expected) in [
        ("GET", "/", "index:"),
        ("GET", "/metrics", "metrics:"),
        ("GET", "/metrics/", "metrics:"),
        ("GET", "/metrics//", "Unknown"),
        ("POST", "/metrics?add", "add:"),
        ("POST", "/metrics/a/b?add", "add:a/b"),
        ("POST", "/metrics", "allowed: GET, HEAD"),
        ("PUT", "/metrics/job/x", "put:job/x"),
        ("PUT", "//metrics//job/x%2Fy", "put:job/x%2Fy"),
        ("DELETE", "/metrics/job//a", "delete:job//a"),
        ("GET", "/metrics/job/x", "allowed: PUT, DELETE, OPTIONS"),
        ("PUT", "/metrics/other", "Unknown"),
        ("PUT", "/metricsjob/x", "Unknown"),
        ("GET", "/apps/a%2Fb%20c", "app:a/b c"),
        ("DELETE", "/apps/a", "remove:a"),
        ("POST", "/apps/a", "allowed: GET, HEAD, DELETE, OPTIONS"),
        ("GET", "/apps/a/metrics", "text:a"),
        ("GET", "/apps/a/metrics/b", "Unknown"),
        ("GET", "/apps/%ff", "NotUtf8"),
        ("GET", "//api/v1/groups/", "groups:"),
        ("GET", "/api/v1/%67roups", "Unknown"),
        ("GET", "/%6detrics", "metrics:"),
    ] {
        assert_eq!(found(true, method, uri), expected, "{method} {uri}");
    }
}

#[test]
fn other_listeners_recognize_paths_of_the_push_listener() {
    for (method, uri, expected) in [
        ("GET", "/metrics", "metrics:"),
        ("POST", "/metrics?add", "allowed: GET, HEAD"),
        ("PUT", "/metrics/job/x", "pushes elsewhere, here None"),
        ("GET", "/api/v1/groups", "reads elsewhere, here None"),
        ("GET", "/api/v2", "pushes elsewhere, here None"),
        ("GET", "/alive", "reads elsewhere, here Some(\"/ok\")"),
        ("DELETE", "/apps/a", "allowed: GET, HEAD"),
        ("GET", "/apps/a/b", "Unknown"),
        ("GET", "/other", "Unknown"),
    ] {
        assert_eq!(found(false, method, uri), expected, "{method} {uri}");
    }
}

#[test]
fn conditions_hold_for_preflight_requests() {
    let table = table(true);
    let matched = table.find(&head("OPTIONS", "/metrics"), true).unwrap();
    assert_eq!(matched.resource.first().name, "add");
    assert!(matched.resource.answers_preflight());
    let matched = table.find(&head("OPTIONS", "/apps/a"), true).unwrap();
    assert!(matched.resource.answers_preflight());
    let pages = |method| matched.resource.pages(&method);
    assert_eq!(pages(Method::GET), Pages::None);
    assert_eq!(pages(Method::DELETE), Pages::Listed);
    assert_eq!(pages(Method::OPTIONS), Pages::Listed);
    let matched = table.find(&head("OPTIONS", "/"), true).unwrap();
    assert!(!matched.resource.answers_preflight() && !matched.resource.answers_options());
}

#[test]
fn unknown_and_repeated_parameters_are_rejected_with_the_nearest_name() {
    const GROUP: &str = "mode ttl";
    const SCRAPE: &str = "app* name[]*";
    let check = |parameters, query: &str| match check_parameters(parameters, query) {
        Ok(()) => "fine".to_owned(),
        Err(problem) => problem,
    };
    for (parameters, query, expected) in [
        (GROUP, "", "fine"),
        (GROUP, "&&", "fine"),
        (GROUP, "ttl=1m&mode=replace", "fine"),
        (
            GROUP,
            "tll=10m",
            "unknown parameter \"tll\"; did you mean ttl?",
        ),
        (
            GROUP,
            "mod=aggregate",
            "unknown parameter \"mod\"; did you mean mode?",
        ),
        (
            GROUP,
            "ttl=1m&t%74l=2m",
            "the parameter ttl is given more than once",
        ),
        (
            SCRAPE,
            "name=a",
            "unknown parameter \"name\"; did you mean name[]?",
        ),
        (SCRAPE, "name[]=a&name%5B%5D=b&app=c", "fine"),
        (
            SCRAPE,
            "zzz",
            "unknown parameter \"zzz\"; known here: app, name[]",
        ),
        (
            "",
            "a=b",
            "unknown parameter \"a\"; no parameters are known here",
        ),
        (
            "match[]* match* older_than dry_run",
            "limit=5",
            "unknown parameter \"limit\"; known here: match[], match, older_than, dry_run",
        ),
        (ANY_PARAMETER, "a=1&a=2", "fine"),
    ] {
        assert_eq!(check(parameters, query), expected, "{query}");
    }
    let long = check(SCRAPE, &"x".repeat(60_000));
    assert!(long.len() < 200, "{long}");
}
