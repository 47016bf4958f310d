use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn told(kind: WebhookKind, body: &Value) -> (String, AlertStatus, Vec<(String, AlertStatus)>) {
    let notification = Notification::of(kind, body);
    (
        notification.receiver,
        notification.status,
        notification.alerts,
    )
}

fn alerts(expected: &[(&str, AlertStatus)]) -> Vec<(String, AlertStatus)> {
    let owned = |(name, status): &(&str, AlertStatus)| ((*name).to_owned(), *status);
    expected.iter().map(owned).collect()
}

#[test]
fn alertmanagers_webhook_names_its_receiver_and_alerts() {
    let body = json!({
        "version": "4", "receiver": "team", "status": "firing",
        "groupLabels": {"zone": "a"}, "commonLabels": {"zone": "a"},
        "alerts": [
            {"status": "firing", "labels": {"alertname": "DiskFull", "host": "a"}},
            {"status": "firing", "labels": {"alertname": "DiskFull", "host": "b"}},
            {"status": "resolved", "labels": {"alertname": "Slow"}},
            {"labels": {}},
        ],
    });
    let expected = alerts(&[
        ("DiskFull", AlertStatus::Firing),
        ("Slow", AlertStatus::Resolved),
    ]);
    let expected = ("team".to_owned(), AlertStatus::Firing, expected);
    assert_eq!(told(WebhookKind::Webhook, &body), expected);
}

#[test]
fn common_labels_name_the_alert_if_there_is_no_list() {
    for labels in ["commonLabels", "groupLabels"] {
        let body = json!({"status": "resolved", labels: {"alertname": "Gone"}});
        let (_, status, found) = told(WebhookKind::Webhook, &body);
        assert_eq!(status, AlertStatus::Resolved);
        assert_eq!(
            found,
            alerts(&[("Gone", AlertStatus::Resolved)]),
            "{labels}"
        );
    }
}

#[test]
fn alertmanagers_titles_for_slack_are_read() {
    let link = "http://am:9093/#/alerts?receiver=team+%2F+web";
    for (title, status, name) in [
        (
            "[FIRING:1] DiskFull (a critical)",
            AlertStatus::Firing,
            "DiskFull",
        ),
        ("[FIRING:2]  (zone-a critical)", AlertStatus::Firing, ""),
        ("[FIRING:2] DiskFull", AlertStatus::Firing, "DiskFull"),
        (
            "[RESOLVED] DiskFull zone-a ()",
            AlertStatus::Resolved,
            "DiskFull",
        ),
        (
            "[FIRING:1, RESOLVED:1] DiskFull",
            AlertStatus::Firing,
            "DiskFull",
        ),
        ("[FIRING:1]", AlertStatus::Firing, ""),
        ("[shop] sold out", AlertStatus::Resolved, ""),
        ("sold out", AlertStatus::Resolved, ""),
        ("[FIRING", AlertStatus::Resolved, ""),
        ("", AlertStatus::Resolved, ""),
    ] {
        let named = (!name.is_empty()).then_some((name, status));
        let expected = alerts(named.as_slice());
        for key in ["title", "fallback"] {
            let attachment = json!({key: title, "title_link": link, "color": "good"});
            let body = json!({"channel": "#ops", "attachments": [attachment]});
            let expected = ("team / web".to_owned(), status, expected.clone());
            assert_eq!(told(WebhookKind::Slack, &body), expected, "{title}");
        }
    }
    let plain = json!({"text": "[RESOLVED] DiskFull"});
    let expected = alerts(&[("DiskFull", AlertStatus::Resolved)]);
    assert_eq!(told(WebhookKind::Slack, &plain).2, expected);
}

#[test]
fn pagerdutys_events_are_read() {
    let firing = "Labels:\n - alertname = DiskFull\n - host = a\nAnnotations:\nSource: \n\
                  Labels:\n - alertname = Very Slow\n";
    let body = json!({
        "routing_key": "***", "dedup_key": "x", "event_action": "trigger",
        "client_url": "http://am/#/alerts?receiver=pager",
        "payload": {
            "summary": "[FIRING:2]  (a)", "severity": "error",
            "custom_details": {"firing": firing, "resolved": "", "num_firing": "2"},
        },
    });
    let both = [
        ("DiskFull", AlertStatus::Firing),
        ("Very Slow", AlertStatus::Firing),
    ];
    let expected = ("pager".to_owned(), AlertStatus::Firing, alerts(&both));
    assert_eq!(told(WebhookKind::PagerDuty, &body), expected);

    for (action, status) in [
        ("trigger", AlertStatus::Firing),
        ("acknowledge", AlertStatus::Acknowledged),
        ("resolve", AlertStatus::Resolved),
        ("snooze", AlertStatus::Unknown),
    ] {
        let body = json!({"event_action": action, "payload": {"summary": "disk is full"}});
        let expected = (String::new(), status, Vec::new());
        assert_eq!(told(WebhookKind::PagerDuty, &body), expected);
    }
    let old = json!({"event_type": "resolve", "description": "[RESOLVED] DiskFull"});
    let expected = alerts(&[("DiskFull", AlertStatus::Resolved)]);
    let expected = (String::new(), AlertStatus::Resolved, expected);
    assert_eq!(told(WebhookKind::PagerDuty, &old), expected);
}

#[test]
fn on_the_general_path_the_body_decides_the_kind() {
    for (body, kind) in [
        (
            json!({"alerts": [], "attachments": []}),
            WebhookKind::Webhook,
        ),
        (json!({"attachments": []}), WebhookKind::Slack),
        (json!({"event_action": "resolve"}), WebhookKind::PagerDuty),
        (json!({"event_type": "resolve"}), WebhookKind::PagerDuty),
        (json!({"hello": "world"}), WebhookKind::Webhook),
        (json!([1, 2]), WebhookKind::Webhook),
    ] {
        assert_eq!(
            Notification::of(WebhookKind::Webhook, &body).kind,
            kind,
            "{body}"
        );
        // Other paths determine the kind.
        assert_eq!(
            Notification::of(WebhookKind::Slack, &body).kind,
            WebhookKind::Slack
        );
    }
}

#[test]
fn names_and_their_number_are_bounded() {
    assert_eq!(name(" a\nb\u{9b} "), "a\\nb\\u{9b}");
    let long = name(&"é".repeat(1000));
    assert_eq!(long.len(), LONGEST_NAME + 3, "{long}");

    let many = |count: usize| {
        let alert = |n| json!({"labels": {"alertname": format!("A{n}")}});
        let all: Vec<Value> = (0..count).chain(0..count).map(alert).collect();
        Notification::of(
            WebhookKind::Webhook,
            &json!({"status": "firing", "alerts": all}),
        )
    };
    assert!(!many(MOST_ALERTS).more);
    let notification = many(MOST_ALERTS + 1);
    assert!(notification.more && notification.alerts.len() == MOST_ALERTS);
    assert!(notification.size() > MOST_ALERTS * 2);
}

/// JSON whose keys are often known ones.
fn any_json() -> impl Strategy<Value = Value> {
    const KEYS: &str = "receiver|status|alerts|labels|alertname|commonLabels|groupLabels|\
        attachments|title|fallback|title_link|color|text|event_action|event_type|client_url|\
        payload|custom_details|details|firing|resolved|summary|description|[a-z]{0,3}";
    let texts = "firing|resolve|good|\\[FIRING:1\\] A (.{0,5})|\\[.{0,9}\\].{0,9}|\
        .{0,5}\\?receiver=.{0,9}|( - alertname = .{0,9}\n){0,3}|(?s:.{0,20})";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        texts.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map(KEYS, inner, 0..6).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn names_of_any_body_are_clean_and_bounded(body in any_json()) {
        for kind in WebhookKind::ALL {
            let notification = Notification::of(kind, &body);
            let names = notification.alerts.iter().map(|alert| &alert.0);
            for name in names.chain([&notification.receiver]) {
                prop_assert!(name.len() <= LONGEST_NAME + 13, "{}", name);
                prop_assert!(!name.contains(char::is_control), "{:?}", name);
            }
            prop_assert!(notification.alerts.iter().all(|alert| !alert.0.is_empty()));
        }
    }
}
