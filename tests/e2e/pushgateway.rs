//! The same requests to the proxy and to the real Pushgateway: the status, the `/metrics` after it
//! and `/api/v1/metrics` must be the same, or a list here must have the difference with its reason.

mod bodies;
mod cases;
mod differences;
mod tables;

use std::fmt::Debug;

use serde_json::Value;

use self::cases::{Case, HELP_BY_CHANCE, cases};
use self::differences::{DIFFERENCES, Difference};
use crate::gateway::{Gateway, Page, groups, is_push_time, send};
use crate::harness::{eventually, http_request};
use crate::tools::{self, Tool};

/// The parts in which two gateways may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// The status of an answer.
    Status,
    /// `/metrics`.
    Page,
    /// `/api/v1/metrics`.
    Groups,
}

#[derive(Debug)]
struct Finding {
    part: Part,
    text: String,
}

/// The results of a case on a gateway.
struct Seen {
    statuses: Vec<u16>,
    /// The page at the end.
    page: Result<Page, u16>,
}

/// Runs a case on both gateways. Compares them after each of its requests.
fn compare(case: &Case, ours: &Gateway, reference: &Gateway) -> (Seen, Vec<Finding>) {
    let both = [ours, reference];
    for gateway in both {
        wipe(gateway);
    }
    let mut findings = Vec::new();
    let mut seen = Seen {
        statuses: Vec::new(),
        page: Err(0),
    };
    for (at, request) in case.requests.iter().enumerate() {
        let mut found = |part, ours: &dyn Debug, reference: &dyn Debug| {
            findings.push(Finding {
                part,
                text: format!(
                    "{}, request {}, {} {}, {part:?}:\n  here: {ours:?}\n  there: {reference:?}",
                    case.name,
                    at + 1,
                    request.method,
                    request.path,
                ),
            });
        };
        let statuses = both.map(|gateway| {
            let headers: Vec<_> = request.headers.iter().map(|(n, v)| (*n, *v)).collect();
            let path = &request.path;
            send(&gateway.push, request.method, path, &headers, &request.body).status
        });
        if statuses[0] != statuses[1] {
            found(Part::Status, &statuses[0], &statuses[1]);
        }
        seen.statuses.push(statuses[0]);
        for gateway in both {
            settle(gateway);
        }
        let [ours, reference] = both.map(|gateway| {
            let mut page = page(gateway)?;
            for (name, family) in &mut page.families {
                // Each program has its own help texts for these.
                if HELP_BY_CHANCE.contains(&case.name) || is_push_time(name) {
                    family.help = None;
                }
            }
            Ok(page)
        });
        if ours != reference {
            let (ours, reference) = (lacking(&ours, &reference), lacking(&reference, &ours));
            found(Part::Page, &ours, &reference);
        }
        seen.page = ours;
        let [ours, reference] = both.map(settled_groups);
        if ours != reference {
            let (ours, reference) = (others(&ours, &reference), others(&reference, &ours));
            found(Part::Groups, &ours, &reference);
        }
    }
    (seen, findings)
}

/// A group of this test, which is not compared.
const BARRIER: &str = "job=\"barrier\"";

/// Waits until everything that was accepted before is done: pushes are done in order, and this one
/// is answered when it is done.
fn settle(gateway: &Gateway) {
    send(&gateway.push, "POST", "/metrics/job/barrier", &[], b"");
}

fn wipe(gateway: &Gateway) {
    send(&gateway.push, "PUT", "/api/v1/admin/wipe", &[], b"");
    settle(gateway);
    // Without its checks, Pushgateway answers before it has applied anything.
    let _ = eventually(
        || page(gateway),
        |left| left.as_ref().is_ok_and(|it| it.families.is_empty()),
    );
}

fn page(gateway: &Gateway) -> Result<Page, u16> {
    let answer = gateway.get("/metrics");
    if answer.status != 200 {
        return Err(answer.status);
    }
    Ok(Page::parse(&answer.text()).without(BARRIER))
}

/// The parts of a page that another page lacks or has differently.
fn lacking(page: &Result<Page, u16>, other: &Result<Page, u16>) -> Result<Page, u16> {
    let mut page = page.clone()?;
    if let Ok(other) = other {
        page.families
            .retain(|name, family| other.families.get(name) != Some(family));
    }
    Ok(page)
}

/// The groups that another list lacks or has differently.
fn others(groups: &[Value], other: &[Value]) -> Vec<String> {
    let groups = groups.iter().filter(|group| !other.contains(group));
    groups.map(Value::to_string).collect()
}

fn settled_groups(gateway: &Gateway) -> Vec<Value> {
    let mut groups = groups(gateway);
    groups.retain(|group| group["labels"]["job"] != "barrier");
    groups
}

/// Runs all cases. The differences found must be those listed.
fn check(ours: &Gateway, reference: &Gateway, list: &[Difference]) -> Vec<String> {
    let mut faults = Vec::new();
    for case in cases() {
        let (seen, findings) = compare(&case, ours, reference);
        let Some(difference) = list.iter().find(|it| it.cases.contains(&case.name)) else {
            faults.extend(findings.into_iter().map(|finding| finding.text));
            continue;
        };
        let Difference { name, parts, .. } = difference;
        for part in *parts {
            if !findings.iter().any(|finding| finding.part == *part) {
                faults.push(format!("{name}: {} does not differ in {part:?}", case.name));
            }
        }
        let unlisted = findings.into_iter().filter(|it| !parts.contains(&it.part));
        faults.extend(unlisted.map(|finding| finding.text));
        if seen.statuses != difference.statuses {
            faults.push(format!(
                "{name}: {} is answered with {:?}, not {:?}",
                case.name, seen.statuses, difference.statuses
            ));
        }
        for (series, value) in difference.shows {
            let shown = seen.page.as_ref().ok().and_then(|page| page.value(series));
            if shown != Some(*value) {
                faults.push(format!("{name}: {} shows {series} {shown:?}", case.name));
            }
        }
    }
    faults
}

#[test]
fn requests_have_the_same_effect_as_on_pushgateway() {
    if !tools::here(&[Tool::Pushgateway]) {
        return;
    }
    let reference = Gateway::pushgateway(&["--web.enable-admin-api"]);
    let ours = Gateway::proxy("[push]\nenable_admin_api = true\n");
    let faults = check(&ours, &reference, DIFFERENCES);
    let number = faults.len();
    assert!(
        faults.is_empty(),
        "{number} differences:\n{}",
        faults.join("\n")
    );
}

/// The comparison itself: two gateways of one kind have no differences.
#[test]
fn two_pushgateways_do_not_differ() {
    if !tools::here(&[Tool::Pushgateway]) {
        return;
    }
    let [one, other] = [(), ()].map(|()| Gateway::pushgateway(&["--web.enable-admin-api"]));
    assert_eq!(check(&one, &other, &[]), [""; 0]);
}

/// The comparison also finds differences in each part.
#[test]
fn a_pushgateway_without_its_checks_is_recognized() {
    if !tools::here(&[Tool::Pushgateway]) {
        return;
    }
    let with = Gateway::pushgateway(&["--web.enable-admin-api"]);
    let without =
        Gateway::pushgateway(&["--web.enable-admin-api", "--push.disable-consistency-check"]);
    let case = |name| cases().into_iter().find(|case| case.name == name);
    let case = case("kind-conflict").expect("the case is there");
    // Pushgateway answers before a push is done, so the test asks until it is.
    let mut parts = Vec::new();
    eventually(
        || {
            let found = compare(&case, &without, &with).1;
            parts.extend(found.iter().map(|finding| finding.part));
            parts.sort();
            parts.dedup();
            parts.clone()
        },
        |parts| *parts == [Part::Status, Part::Page, Part::Groups],
    );
    // A listed difference that is not found is also an error.
    let untrue = Difference {
        name: "untrue",
        cases: &["gauge"],
        parts: &[Part::Status],
        statuses: &[202],
        shows: &[("m", 2.0)],
        reason: "",
    };
    let faults = check(&with, &with, &[untrue]);
    assert_eq!(faults.len(), 3, "{faults:#?}");
}

#[test]
fn every_difference_names_cases_that_there_are() {
    let cases = cases();
    assert!(cases.len() >= 70, "{} cases", cases.len());
    let mut names: Vec<_> = cases.iter().map(|case| case.name).collect();
    names.sort_unstable();
    let number = names.len();
    names.dedup();
    assert_eq!(names.len(), number, "a name stands twice");
    let mut listed = Vec::new();
    for difference in DIFFERENCES {
        assert!(!difference.reason.is_empty(), "{}", difference.name);
        for case in difference.cases {
            let there = cases.iter().find(|it| it.name == *case);
            let there = there.unwrap_or_else(|| panic!("{}: no case {case}", difference.name));
            assert_eq!(there.requests.len(), difference.statuses.len(), "{case}");
            assert!(!listed.contains(case), "{case} is listed twice");
            listed.push(case);
        }
    }
}

/// `docs/migrating.md` has one row for each difference.
#[test]
fn every_difference_has_its_row_in_the_document() {
    let document = include_str!("../../docs/migrating.md");
    let after = document.split_once("\n### Differences found by the tests\n");
    let section = after.expect("the section is there").1;
    let section = section.split_once("\n## ").map_or(section, |it| it.0);
    let rows = section.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("| `")?.split_once('`')?;
        Some(name)
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable();
    let mut names: Vec<_> = DIFFERENCES.iter().map(|it| it.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(rows, names);
}

/// Paths that remove things are off by default.
fn wipe_and_quit_are_off(gateway: &Gateway) {
    for (method, path, status) in [
        ("PUT", "/api/v1/admin/wipe", 404),
        ("POST", "/api/v1/admin/wipe", 404),
        ("PUT", "/-/quit", 403),
        ("POST", "/-/quit", 403),
        ("GET", "/-/quit", 405),
    ] {
        gateway.put("/metrics/job/x", "m 1\n");
        let answer = send(&gateway.push, method, path, &[], b"");
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        let page = gateway.page();
        page.expect(&[("m{instance=\"\",job=\"x\"}", 1.0)]);
    }
}

#[test]
fn wipe_and_quit_are_off_by_default() {
    wipe_and_quit_are_off(&Gateway::proxy(""));
}

#[test]
fn wipe_and_quit_are_off_by_default_on_pushgateway() {
    if tools::here(&[Tool::Pushgateway]) {
        wipe_and_quit_are_off(&Gateway::pushgateway(&[]));
    }
}

/// Documents whose contents differ between programs, but not their shape.
fn status_and_health_have_their_shape(gateway: &Gateway) {
    for path in ["/-/healthy", "/-/ready"] {
        let answer = http_request(&gateway.push, "GET", path, &[]);
        assert_eq!((answer.status, answer.text().trim()), (200, "OK"), "{path}");
    }
    let answer = send(&gateway.push, "GET", "/api/v1/status", &[], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let content_type = answer.header("content-type").unwrap_or_default();
    assert!(content_type.starts_with("application/json"), "{answer:?}");
    let origins = answer.header("access-control-allow-origin");
    assert_eq!(origins, Some("*"), "{answer:?}");
    let document = answer.json();
    assert_eq!(document["status"], "success", "{document}");
    let data = &document["data"];
    for word in ["version", "revision"] {
        let value = &data["build_information"][word];
        assert!(value.is_string(), "{word}: {document}");
    }
    let flags = data["flags"].as_object().expect("flags are an object");
    assert!(flags.values().all(Value::is_string), "{document}");
    let start = data["start_time"].as_str().expect("a start time");
    assert_eq!(start.as_bytes()[10], b'T', "no time of RFC 3339: {start}");
}

#[test]
fn status_and_health_have_pushgateways_shape() {
    status_and_health_have_their_shape(&Gateway::proxy(""));
}

#[test]
fn status_and_health_have_their_shape_on_pushgateway() {
    if tools::here(&[Tool::Pushgateway]) {
        status_and_health_have_their_shape(&Gateway::pushgateway(&[]));
    }
}
