//! Every endpoint, status, body, limit, delay and metric of the service.

#![allow(clippy::unwrap_used, reason = "a test that panics is one that fails")]

mod support;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use support::Service;

const PERSON: &str = r#"{"first_name":"Ada","last_name":"Lovelace","email":"a@example.com","address":"here","id":"77","created_at":"x","more":1}"#;

/// A service without delays.
fn quick() -> Service {
    Service::start(&["--delays", "0", "--seed", "1"])
}

#[test]
fn persons_are_created_read_changed_and_deleted() {
    let service = quick();
    let first = service.get("/person/0");
    assert_eq!(first.status, 200, "one person is there at the start");

    let created = service.request("POST", "/person", PERSON);
    assert_eq!(created.status, 201);
    assert!(created.head.contains("content-type: application/json\r\n"));
    assert!(created.body.ends_with("}\n"));
    let person = created.json();
    assert_eq!(person["id"], "1", "the id of the client is overwritten");
    assert_eq!(person["address"], "here");
    let time = person["created_at"].as_str().unwrap();
    assert_eq!((time.len(), &time[19..]), (20, "Z"), "{time}");
    assert_eq!(person["updated_at"], person["created_at"]);
    let keys: Vec<_> = person.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 7, "{keys:?}");

    for path in ["/person/1", "/persons/1"] {
        let read = service.get(path);
        assert_eq!(
            (read.status, read.body),
            (200, created.body.clone()),
            "{path}"
        );
    }
    let change = r#"{"first_name":"","last_name":"King","address":"there"}"#;
    let changed = service.request("PUT", "/person/1", change);
    assert_eq!(changed.status, 200);
    let changed = changed.json();
    for (key, value) in [
        ("first_name", "Ada"),
        ("last_name", "King"),
        ("address", "there"),
    ] {
        assert_eq!(changed[key], value);
    }

    let deleted = service.request("DELETE", "/persons/1", "");
    assert_eq!((deleted.status, deleted.body.as_str()), (204, ""));
    for (method, body) in [("GET", ""), ("PUT", change), ("DELETE", "")] {
        let answer = service.request(method, "/person/1", body);
        assert_eq!(answer.status, 404, "{method}");
        assert_eq!(answer.body, "there is no such person\n");
    }
    // Empty fields are left out, except the names.
    let short = service.request("POST", "/person", r#"{"first_name":"A","last_name":"B"}"#);
    assert!(
        short
            .body
            .starts_with(r#"{"id":"2","first_name":"A","last_name":"B","created_at""#)
    );
}

#[test]
fn lists_have_twenty_persons_from_an_id_on() {
    let service = quick();
    for _ in 0..30 {
        assert_eq!(service.request("POST", "/person", PERSON).status, 201);
    }
    let ids = |path: &str| -> Vec<String> {
        let list = service.get(path).json();
        let ids = list.as_array().unwrap().iter();
        ids.map(|person| person["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids("/person/list").len(), 20);
    assert_eq!(ids("/person/list?start=28"), ["28", "29", "30"]);
    assert_eq!(service.get("/person/list?start=1000").body, "[]\n");
    assert_eq!(service.get("/person/list?start=x").status, 400);
}

#[test]
fn wrong_bodies_are_answered_with_400_and_large_ones_with_413() {
    let service = quick();
    for body in [
        "",
        "{",
        "[]",
        r#"["Ann","Bee","e","addr"]"#,
        "null",
        "1",
        r#"{"first_name":1}"#,
        "{}",
        r#"{"first_name":"A"}"#,
    ] {
        let answer = service.request("POST", "/person", body);
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.head.contains("content-type: text/plain"));
        assert!(answer.body.ends_with('\n'));
        assert!(!answer.body.contains("Draft"), "{}", answer.body);
    }
    for body in ["{", r#"["Ann"]"#] {
        assert_eq!(service.request("PUT", "/person/0", body).status, 400);
    }
    let null = service.request("POST", "/person", "null");
    assert_eq!(
        null.body,
        "the body is not a person in JSON: it must be an object\n"
    );
    let large = "x".repeat((1 << 20) + 1);
    assert_eq!(service.request("POST", "/person", &large).status, 413);
    // Sizes are observed even of invalid bodies.
    assert_eq!(
        service.sample("person_payload_size_bytes_count"),
        Some(10.0)
    );
    assert_eq!(service.sample("person_created_total"), Some(0.0));
}

#[test]
fn other_methods_and_paths_are_answered_and_not_counted() {
    let service = quick();
    for (method, path) in [
        ("HEAD", "/person/list"),
        ("DELETE", "/person/list"),
        ("GET", "/person"),
        ("POST", "/person/0"),
        ("HEAD", "/persons/0"),
    ] {
        let answer = service.request(method, path, "");
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (405, ""),
            "{method} {path}"
        );
        assert!(answer.head.contains("\r\nallow: "), "{method} {path}");
    }
    for path in ["/", "/persons", "/person/", "/person/0/x"] {
        let answer = service.get(path);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (404, "404 page not found\n")
        );
    }
    for method in ["GET", "POST", "DELETE"] {
        let answer = service.request(method, "/health", "");
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
        assert_eq!(service.request(method, "/metrics", "").status, 200);
    }
    let moved = service.get("//person/./list?start=3");
    assert_eq!(moved.status, 301);
    assert!(
        moved.head.contains("\r\nlocation: /person/list?start=3"),
        "{}",
        moved.head
    );

    let metrics = service.get("/metrics").body;
    assert!(!metrics.contains("\nhttp_requests_total{"), "{metrics}");
}

#[test]
fn the_metrics_have_their_names_types_labels_and_buckets() {
    let service = quick();
    assert_eq!(
        service.sample("person_store_count"),
        Some(1.0),
        "before any request"
    );
    service.request("POST", "/person", PERSON);
    service.request("POST", "/person", PERSON);
    service.request("POST", "/person", "{");
    service.get("/person/list");
    service.get("/person/0");
    service.get("/persons/9");
    service.request("PUT", "/person/9", "{}");
    service.request("DELETE", "/person/9", "");
    service.request("DELETE", "/person/0", "");

    let metrics = service.get("/metrics").body;
    let types: BTreeMap<&str, &str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let expected = [
        ("app_cpu_usage_percent", "gauge"),
        ("app_memory_usage_megabytes", "gauge"),
        ("http_request_duration_seconds", "histogram"),
        ("http_requests_in_progress", "gauge"),
        ("http_requests_total", "counter"),
        ("http_status_code", "counter"),
        ("person_created_total", "counter"),
        ("person_deleted_total", "counter"),
        ("person_not_found_total", "counter"),
        ("person_payload_size_bytes", "histogram"),
        ("person_store_count", "gauge"),
        ("process_cpu_seconds_total", "counter"),
        ("process_max_fds", "gauge"),
        ("process_open_fds", "gauge"),
        ("process_resident_memory_bytes", "gauge"),
        ("process_start_time_seconds", "gauge"),
        ("process_threads", "gauge"),
        ("process_virtual_memory_bytes", "gauge"),
    ];
    assert_eq!(types.into_iter().collect::<Vec<_>>(), expected);
    for sample in [
        r#"http_requests_total{code="201",method="POST",path="/person"} 2"#,
        r#"http_requests_total{code="400",method="POST",path="/person"} 1"#,
        r#"http_requests_total{code="200",method="GET",path="/person/list"} 1"#,
        r#"http_requests_total{code="200",method="GET",path="/person/{id}"} 1"#,
        r#"http_requests_total{code="404",method="GET",path="/person/{id}"} 1"#,
        r#"http_requests_total{code="404",method="PUT",path="/person/{id}"} 1"#,
        r#"http_requests_total{code="404",method="DELETE",path="/person/{id}"} 1"#,
        r#"http_requests_total{code="204",method="DELETE",path="/person/{id}"} 1"#,
        r#"http_status_code{code="404"} 3"#,
        r#"http_requests_in_progress{method="GET"} 0"#,
        r#"http_request_duration_seconds_count{method="POST",path="/person"} 3"#,
        "person_store_count 2",
        "person_created_total 2",
        "person_deleted_total 1",
        // Requests to delete do not count.
        "person_not_found_total 2",
        r#"person_payload_size_bytes_bucket{le="100"} 1"#,
        "person_payload_size_bytes_count 3",
    ] {
        assert!(
            metrics.contains(&format!("\n{sample}\n")),
            "{sample}: {metrics}"
        );
    }
    let bounds = |family: &str| -> Vec<&str> {
        let bounds = metrics.lines().filter_map(|line| {
            let rest = line.strip_prefix(family)?;
            Some(rest.split_once("le=\"")?.1.split_once('"')?.0)
        });
        bounds.collect()
    };
    assert_eq!(
        bounds("person_payload_size_bytes_bucket"),
        [
            "100", "200", "400", "800", "1600", "3200", "6400", "12800", "25600", "51200", "+Inf"
        ]
    );
    assert_eq!(
        bounds("http_request_duration_seconds_bucket{method=\"POST\""),
        [
            "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"
        ]
    );
}

#[test]
fn delays_follow_the_seed_and_count_as_duration() {
    /// What a request may take beside its delay, in seconds. In this test, delays are below 0.2 s.
    const SPARE: f64 = 0.05;
    let run = || -> (Vec<f64>, f64) {
        let service = Service::start(&["--seed", "5", "--delays", "0.1"]);
        let mut durations = Vec::new();
        for _ in 0..8 {
            let start = Instant::now();
            assert_eq!(service.request("POST", "/person", PERSON).status, 201);
            durations.push(start.elapsed().as_secs_f64());
        }
        let series = r#"http_request_duration_seconds_sum{method="POST",path="/person"}"#;
        let sum = service.sample(series).unwrap();
        let seen: f64 = durations.iter().sum();
        assert!(sum > 0.0 && sum <= seen, "{sum} of {seen}");
        (durations, seen - sum)
    };
    // A busy machine adds time to some requests, so one of five pairs is enough. Without the seed, a
    // pair is as near in one of 700 cases.
    let pairs: Vec<_> = (0..5)
        .map(|_| [run(), run()])
        .take_while(|[(one, rest), (other, other_rest)]| {
            let mut both = one.iter().zip(other);
            let is_near = both.all(|(one, other)| (one - other).abs() < SPARE);
            let is_counted = rest.max(*other_rest) < 8.0 * SPARE;
            !(is_near && is_counted)
        })
        .collect();
    assert!(pairs.len() < 5, "{pairs:?}");
}

#[test]
fn requests_in_progress_are_answered_when_the_service_stops() {
    let mut service = Service::start(&["--seed", "1", "--delays", "0.5"]);
    let address = service.address.clone();
    let answer = std::thread::scope(|scope| {
        let request = scope.spawn(|| service_request(&address));
        let start = Instant::now();
        let series = r#"http_requests_in_progress{method="POST"}"#;
        while service.sample(series) != Some(1.0) && start.elapsed() < support::PATIENCE {}
        let stopped = Command::new("kill").arg(service.pid().to_string()).status();
        assert!(stopped.unwrap().success());
        request.join().unwrap()
    });
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert!(service.child().wait().unwrap().success());
}

/// The whole answer to a request that creates a person.
fn service_request(address: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let length = PERSON.len();
    let request = format!(
        "POST /person HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{PERSON}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
