use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::send::{BOUNDARY, body, url};
use super::*;
use crate::profiler::Profile;
use crate::settings::document;
use crate::settings::reader::{Faults, Table};

fn parse(text: &str) -> Result<Option<Settings>, Vec<String>> {
    let mut errors = Vec::new();
    let entries = document::parse_toml("test", text, &mut errors);
    assert!(errors.is_empty());
    let faults = Faults::default();
    let read = config::take(&mut Table::root(entries, &faults));
    let (errors, _) = faults.into_inner();
    match errors.is_empty() {
        true => Ok(read),
        false => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

fn profile() -> Profile {
    Profile {
        start: SystemTime::UNIX_EPOCH + Duration::from_millis(100_900),
        duration: Duration::from_millis(15_050),
        body: Bytes::from_static(b"\x1f\x8bprofile"),
    }
}

#[test]
fn a_profile_is_a_part_of_a_form_with_its_times() {
    let settings = parse("[profiling]\nurl = \"http://pyroscope:4040/base/\"\n");
    let settings = settings.unwrap().unwrap();
    assert_eq!(
        url(&settings, &profile()).as_str(),
        "http://pyroscope:4040/base/ingest?name=exporter-proxy%7B%7D&from=100&until=116\
         &format=pprof&sampleRate=100&spyName=exporter-proxy"
    );
    let body = body(&profile());
    let (head, rest) = body.split_at(body.windows(4).position(|it| it == b"\r\n\r\n").unwrap());
    assert!(String::from_utf8_lossy(head).contains("name=\"profile\"; filename="));
    let end = format!("\r\n--{BOUNDARY}--\r\n");
    assert_eq!(rest, [b"\r\n\r\n\x1f\x8bprofile", end.as_bytes()].concat());
    let settings = parse(
        "[profiling]\nurl = \"https://p/ingest\"\nname = \"shop.proxy\"\ninterval = \"1m\"\n\
         labels = { zone = \"a b\", host = \"h\" }\n",
    );
    let settings = settings.unwrap().unwrap();
    assert_eq!(settings.interval, Duration::from_secs(60));
    assert!(
        url(&settings, &profile())
            .as_str()
            .starts_with("https://p/ingest?name=shop.proxy%7Bhost%3Dh%2Czone%3Da+b%7D&from=100")
    );
}

#[test]
fn wrong_settings_are_named() {
    assert_eq!(parse(""), Ok(None));
    for (text, expected) in [
        ("interval = \"15s\"\n", "`profiling` needs a `url`"),
        ("url = \"p:4040\"\n", "must start with http"),
        (
            "url = \"http://p\"\ninterval = \"0s\"\n",
            "`profiling.interval` must be from \"1s\" to \"10m\"",
        ),
        (
            "url = \"http://p\"\ninterval = \"1h\"\n",
            "`profiling.interval` must be from",
        ),
        (
            "url = \"http://p\"\nname = \"a{b}\"\n",
            "`profiling.name` must have 1 to 128 letters",
        ),
        (
            "url = \"http://p\"\nlabels = { a-b = \"x\" }\n",
            "`profiling.labels` must have names",
        ),
        (
            "url = \"http://p\"\nlabels = { a = \"x,y\" }\n",
            "`profiling.labels` must have values",
        ),
        (
            "url = \"http://p\"\nlabels = { a = \"\" }\n",
            "`profiling.labels` must have values",
        ),
        ("url = \"http://p\"\nmore = 1\n", "more"),
    ] {
        let errors = parse(&format!("[profiling]\n{text}"))
            .unwrap_err()
            .join("\n");
        assert!(errors.contains(expected), "{text}: {errors}");
    }
}
