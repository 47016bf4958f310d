use super::*;
use crate::config;
use crate::inputs::operations::framing::Framer;

fn translator() -> Translator {
    Translator::new(&config::Config::default().operations, true)
}

/// The changes of a message, or the other action that it asks for.
fn read(text: &str) -> Result<(Vec<Update>, Option<String>), Rejection> {
    let translator = translator();
    let mut updates = Vec::new();
    let mut result = None;
    Framer::new(1 << 20).feed(text.as_bytes(), true, |frame| {
        let names = &mut NameCache::default();
        let action = translator.translate(&frame, &[], names, &mut updates);
        result = Some(action.map(|action| match action {
            Action::Update { .. } | Action::Line { .. } => None,
            Action::AddMember(member) => Some(member.value.to_owned()),
            Action::Event { draft, .. } => Some(draft.kind.as_str().to_owned()),
            Action::Shutdown => Some("shutdown".to_owned()),
        }));
    });
    let other = result.expect("a frame is found")?;
    Ok((updates, other))
}

#[track_caller]
fn changes(text: &str) -> Vec<(Kind, Change)> {
    let (updates, other) = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(other, None);
    updates
        .into_iter()
        .map(|update| (update.kind, update.change))
        .collect()
}

#[test]
fn each_op_makes_a_change() {
    let message = |op: &str| changes(&format!(r#"{{"name":"m","op":"{op}","value":2}}"#));
    assert_eq!(message("inc"), [(Kind::Counter, Change::Add(2.0))]);
    assert_eq!(message("set"), [(Kind::Gauge, Change::Set(2.0))]);
    assert_eq!(message("add"), [(Kind::Gauge, Change::Add(2.0))]);
    assert_eq!(message("del"), [(Kind::Untyped, Change::Delete)]);
    let [
        (
            Kind::Histogram,
            Change::Observe {
                value,
                times,
                buckets,
                native: None,
            },
        ),
    ] = &message("obs")[..]
    else {
        panic!("an observation");
    };
    assert_eq!((*value, *times, buckets.len()), (2.0, 1.0, 20));
    assert_eq!(
        changes(r#"{"name":"m","op":"inc"}"#),
        [(Kind::Counter, Change::Add(0.0))]
    );
    assert_eq!(read(r#"{"op":"shutdown"}"#).unwrap().1.unwrap(), "shutdown");
}

#[test]
fn each_value_of_a_line_makes_a_change() {
    assert_eq!(
        changes("a.b:1:2|c|@0.5"),
        [
            (Kind::Counter, Change::Add(2.0)),
            (Kind::Counter, Change::Add(4.0))
        ]
    );
    assert_eq!(
        changes("g:+1:5|g"),
        [
            (Kind::Gauge, Change::Add(1.0)),
            (Kind::Gauge, Change::Set(5.0))
        ]
    );
    for (line, expected) in [("t:250|ms|@0.1", (0.25, 10.0)), ("t:0.5|h", (0.5, 1.0))] {
        let [
            (
                Kind::Histogram,
                Change::Observe {
                    value,
                    times,
                    buckets,
                    native: None,
                },
            ),
        ] = &changes(line)[..]
        else {
            panic!("an observation");
        };
        assert_eq!((*value, *times), expected);
        assert_eq!(buckets.len(), 11);
    }
    assert_eq!(read("u:alice|s").unwrap().1.unwrap(), "alice");
}

#[test]
fn labels_and_help_are_kept() {
    let (updates, _) =
        read(r#"{"name":"m","op":"set","labels":{"b":"1","a":"\""},"help":"two\nlines \\"}"#)
            .unwrap();
    assert_eq!(updates[0].labels.as_str(), "a=\"\\\"\",b=\"1\"");
    assert_eq!(updates[0].help.as_deref(), Some(r"two\nlines \\"));
    assert_eq!(updates[0].ttl, None);
    let (updates, _) = read(r#"{"name":"m","op":"set","help":"a\rb\r"}"#).unwrap();
    assert_eq!(updates[0].help.as_deref(), Some("a\rb"));
    let (updates, _) = read("m:1|g|#b:1,a:2").unwrap();
    assert_eq!(updates[0].labels.as_str(), "a=\"2\",b=\"1\"");
}

/// Each of these crashes metrics-server, or is silently lost there.
#[test]
fn meaningless_messages_are_rejected() {
    let message = |rest: &str| format!("{{\"name\":\"m\",{rest}}}");
    for (text, reason) in [
        (message(r#""op":"inc","value":-1"#), Reason::BadValue),
        (
            message(r#""op":"obs","bucket_factor":0.5"#),
            Reason::BadBuckets,
        ),
        (
            message(r#""op":"obs","bucket_factor":1"#),
            Reason::BadBuckets,
        ),
        (message(r#""op":"obs","buckets":-1"#), Reason::BadBuckets),
        (
            message(r#""op":"obs","bucket_min":2,"bucket_max":1"#),
            Reason::BadBuckets,
        ),
        (
            message(r#""op":"obs","bucket_width":-1"#),
            Reason::BadBuckets,
        ),
        (
            message(r#""op":"obs","bucket_custom":[2,1]"#),
            Reason::BadBuckets,
        ),
        (
            message(r#""op":"obs","bucket_custom":[1,1]"#),
            Reason::BadBuckets,
        ),
        (
            message(r#""op":"obs","labels":{"le":"1"}"#),
            Reason::BadLabels,
        ),
        (message(r#""op":"index""#), Reason::Unsupported),
        (message(r#""op":"raw""#), Reason::Unsupported),
        (message(r#""op":"event""#), Reason::Unsupported),
        (message(r#""op":"set","value":"1""#), Reason::Malformed),
        (message(r#""op":"""#), Reason::BadOperation),
        (message(r#""op":"multiply""#), Reason::BadOperation),
        (message(r#""op":"inc","hops":9"#), Reason::BadOperation),
        (message(r#""op":"inc","hops":-1"#), Reason::BadOperation),
        (r#"{"op":"inc"}"#.to_owned(), Reason::BadName),
        (r#"{"name":"a b","op":"inc"}"#.to_owned(), Reason::BadName),
        (r#"{"name":"9","op":"inc"}"#.to_owned(), Reason::BadName),
        (
            r#"{"name":"exporter_proxy_x","op":"inc"}"#.to_owned(),
            Reason::ReservedName,
        ),
        ("{}".to_owned(), Reason::BadOperation),
        ("m:-1|c".to_owned(), Reason::BadValue),
        ("m:1|c|@0".to_owned(), Reason::BadValue),
        ("m:1|c|#a b:c,__x:1".to_owned(), Reason::BadLabels),
    ] {
        let error = read(&text).unwrap_err();
        assert_eq!(error.reason, reason, "{text}: {error}");
    }
    // metrics-server crashes on labels that are `null`.
    assert!(read(&message(r#""op":"inc","labels":null"#)).is_ok());
}

/// The event of a message, if events of every kind are accepted.
fn event(text: &str) -> Result<String, Rejection> {
    let mut translator = translator();
    translator.accept_events(|_| true);
    let added = [("site".to_owned(), "here".to_owned())];
    let mut result = None;
    Framer::new(1 << 20).feed(text.as_bytes(), true, |frame| {
        let names = &mut NameCache::default();
        result = Some(translator.translate(&frame, &added, names, &mut Vec::new()));
    });
    let Action::Event { draft, .. } = result.expect("a frame is found")? else {
        panic!("no event: {text}");
    };
    let mut json = Vec::new();
    draft.content().unwrap().write_json(None, &mut json);
    Ok(String::from_utf8(json).unwrap())
}

#[test]
fn an_event_keeps_what_its_sender_wrote() {
    let message = r#"{"name":"a b","op":"event","value":2,"labels":{"x-y":"1","site":"there"},"timestamp":"2026-01-31T13:00:00.5+01:00","buckets":3}"#;
    let expected = r#"{"name":"a b","labels":{"site":"here","x-y":"1"},"op":"event","buckets":3,"value":2,"timestamp":"2026-01-31T12:00:00.500Z"}"#;
    assert_eq!(event(message).unwrap(), expected);
    let document = r#"{"name":"a","op":"index","index":"views"}"#;
    let expected =
        r#"{"name":"a","labels":{"site":"here"},"op":"index","index":"views","value":0}"#;
    assert_eq!(event(document).unwrap(), expected);
    assert!(event(r#"{"op":"raw","index":5,"timestamp":null}"#).is_ok());
}

#[test]
fn bad_events_are_rejected() {
    let long = format!(r#""name":"{}","op":"event""#, "x".repeat(5000));
    for (fields, reason) in [
        (r#""op":"event","timestamp":"today""#, Reason::BadValue),
        (r#""op":"event","timestamp":5"#, Reason::BadValue),
        (r#""op":"index","index":"Big""#, Reason::BadName),
        (r#""op":"index","index":[1,{"a":2}]"#, Reason::BadName),
        (r#""op":"event","hops":99"#, Reason::BadOperation),
        (&long, Reason::TooLarge),
    ] {
        let error = event(&format!("{{{fields}}}")).unwrap_err();
        assert_eq!(error.reason, reason, "{fields}: {error}");
    }
    let ignored = changes(r#"{"name":"m","op":"inc","index":[1],"timestamp":{"a":true}}"#);
    assert_eq!(ignored.len(), 1, "other ops ignore these keys");
}
