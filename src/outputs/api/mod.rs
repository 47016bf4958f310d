//! `/api/v1/`: what Pushgateway tells of its groups, and what is ours.

pub mod groups;
pub mod metrics;
pub mod series;

use std::sync::Arc;

use hyper::StatusCode;
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

use crate::clock::Now;
use crate::http::reply::{self, Reply};
use crate::ingest::config::PushMode;
use crate::ingest::{Addition, Body, Fault, Group, Intake};
use crate::inputs::aggregate as push_aggregate;
use crate::inputs::push::config::Config as PushConfig;
use crate::inputs::push::http::{Call, after, unpacked, with_body, work_on};
use crate::reason::Reason;
use crate::store::Store;
use crate::telemetry::{PushMethod, dates};

/// What is wrong with a request, in the API's form.
pub fn wrong(status: StatusCode, kind: &str, message: &str) -> Reply {
    let value = json!({ "status": "error", "errorType": kind, "error": message });
    reply::json_with(status, &value)
}

/// `GET status`: settings under Pushgateway's names where it has them, all
/// others under ours, and what runs.
pub fn status(call: &Call<'_>) -> Reply {
    let config = &call.pushes.intake.config;
    let mut flags = Map::new();
    for (name, value) in [
        ("web.listen-address", call.pushes.source.to_string()),
        ("web.telemetry-path", "/metrics".to_owned()),
        ("web.route-prefix", String::new()),
        ("web.enable-admin-api", config.enable_admin_api.to_string()),
        ("web.enable-lifecycle", config.enable_lifecycle.to_string()),
        ("push.disable-consistency-check", "false".to_owned()),
        (
            "push.enable-utf8-names",
            config.enable_utf8_names.to_string(),
        ),
        ("persistence.file", String::new()),
    ] {
        flags.insert(name.to_owned(), Value::String(value));
    }
    for (key, value) in settings(config) {
        flags.insert(format!("push.{key}"), Value::String(value));
    }
    reply::json(&json!({
        "status": "success",
        "data": {
            "flags": flags,
            "start_time": dates::rfc3339(call.server.telemetry.started.wall),
            "build_information": {
                "version": env!("CARGO_PKG_VERSION"),
                "revision": "",
                "branch": "",
                "buildUser": "",
                "buildDate": "",
                "goVersion": "",
            },
        },
    }))
}

/// The settings of `[push]` as texts.
fn settings(config: &PushConfig) -> Vec<(String, String)> {
    let Ok(Value::Object(settings)) = serde_json::to_value(config) else {
        return Vec::new();
    };
    let shown = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    settings
        .into_iter()
        .map(|(key, value)| (key, shown(value)))
        .collect()
}

/// `POST batch`: several groups, all or none.
pub async fn batch(call: &Call<'_>, body: Incoming) -> Reply {
    let body = match call.read(PushMethod::Batch, body).await {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    let bytes = body.len();
    let origin = call.origin();
    let apply = move |intake: &Intake, store: &Store, body: Body<'_>| {
        let now = Now::read();
        let (write, groups) = intake.batch(store, body.bytes, &origin, now)?;
        store.apply(write, now).map_err(Fault::from)?;
        Ok(groups)
    };
    let done = match unpacked(call, body).await {
        Ok(body) => {
            let place = call.server.places.for_text(body.len());
            work_on(call, place, body, apply).await
        }
        Err(fault) => Err(fault),
    };
    match done {
        Ok(groups) => {
            let pushes = &call.server.telemetry.pushes;
            pushes.count(PushMethod::Batch, Ok(()), bytes);
            reply::json(&json!({ "status": "success", "data": { "groups": groups } }))
        }
        Err(fault) => call.refuse(PushMethod::Batch, &fault, bytes),
    }
}

/// `POST validate{/job/<job>...}`: whether a push would be taken, by the same
/// query and headers. 200 where it would, 400 where it would not, so that a
/// script need not read the answer. Without labels, what the body is beside
/// others is known but for its series; a push that is added may have none.
pub async fn validate(call: &Call<'_>, labels: &str, body: Incoming) -> Reply {
    let pushes = &call.server.telemetry.pushes;
    let (group, addition) = match asked(call, labels) {
        Ok(asked) => asked,
        Err(fault) => {
            pushes.count(PushMethod::Validate, Err(fault.reason), 0);
            return after(invalid(&fault), body).await;
        }
    };
    let body = match call.read(PushMethod::Validate, body).await {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    let labels = Arc::new(group);
    let group = Arc::clone(&labels);
    let bytes = body.len();
    let check = move |intake: &Intake, store: &Store, body: Body<'_>| {
        let now = Now::read();
        match &addition {
            Some(addition) => intake.validate_addition(store, &group, body, addition, now),
            None => intake.validate(store, &group, body, now),
        }
    };
    let checked = with_body(call, &labels, body, check).await;
    let result = checked.as_ref().map(|_| ()).map_err(|fault| fault.reason);
    pushes.count(PushMethod::Validate, result, bytes);
    match checked {
        Ok((families, series)) => reply::json(&json!({
            "valid": true,
            "families": families,
            "series": series,
            "errors": [],
        })),
        Err(fault) => invalid(&fault),
    }
}

/// The labels that a push would have, and how it would be added if it would.
fn asked(call: &Call<'_>, labels: &str) -> Result<(Group, Option<Addition>), Fault> {
    let config = &call.pushes.intake.config;
    let utf8_names = config.enable_utf8_names;
    if push_aggregate::mode(call.query, config)? == PushMode::Aggregate {
        let group = Group::of_labels_path(labels, utf8_names)?;
        return Ok((group, Some(push_aggregate::addition(call)?)));
    }
    call.sender()?;
    let group = match labels {
        "" => Group::default(),
        labels => Group::of_path(labels, utf8_names)
            .map_err(|problem| Fault::new(Reason::BadLabels, &problem.to_string()))?,
    };
    Ok((group, None))
}

pub fn invalid(fault: &Fault) -> Reply {
    let value = json!({
        "valid": false,
        "families": 0,
        "series": 0,
        "errors": [{ "line": fault.line, "column": fault.column, "reason": fault.message }],
    });
    reply::json_with(StatusCode::BAD_REQUEST, &value)
}
