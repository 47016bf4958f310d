//! `POST /create` and `POST /update`: values for living families, as pingpong
//! takes them.

use hyper::StatusCode;
use hyper::body::Incoming;

use super::push::{Call, READ_AT_ONCE, after, with_body_among};
use super::push_aggregate;
use super::reply::{self, Reply};
use crate::push::{Body, Form, Intake, Verb};
use crate::store::{Now, Store};

/// JSON up to this size is read where it comes in. An item may have three
/// bytes, and takes some microseconds.
const JSON_AT_ONCE: usize = 16 << 10;

/// Changes values, and says what became of them.
pub async fn answer(call: &Call<'_>, verb: Verb, body: Incoming) -> Reply {
    let method = verb.counted();
    // What would not be read anyway need not come.
    let (content_type, coding) = call.content();
    let asked =
        Form::of(&content_type).and_then(|form| Ok((form, push_aggregate::addition(call)?)));
    let (form, addition) = match asked {
        Ok(asked) => asked,
        Err(fault) => return after(call.refuse(method, &fault, 0), body).await,
    };
    let body = match call.read(method, body).await {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    let bytes = body.len();
    let change = move |intake: &Intake, store: &Store, body: Body<'_>| {
        intake.change_values(store, (verb, form), body, &addition, Now::read())
    };
    let readers = is_read_away(form, &coding, bytes).then_some(&call.server.places.values);
    match with_body_among(readers, call, body, change).await {
        Ok((once, told)) => {
            let mut reply = reply::text(StatusCode::OK, told);
            push_aggregate::mark(call, method, once, bytes, &mut reply);
            reply
        }
        Err(fault) => call.refuse(method, &fault, bytes),
    }
}

/// Whether a body may take so long that the threads that serve should not read
/// it. How much is in one that is compressed its size does not tell.
fn is_read_away(form: Form, coding: &str, bytes: usize) -> bool {
    let at_once = match (coding, form) {
        ("" | "identity", Form::Json) => JSON_AT_ONCE,
        ("" | "identity", Form::Text) => READ_AT_ONCE,
        _ => return true,
    };
    bytes > at_once
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_take_long_is_read_away_from_others() {
        for (form, coding, bytes, away) in [
            (Form::Json, "", JSON_AT_ONCE, false),
            (Form::Json, "", JSON_AT_ONCE + 1, true),
            (Form::Json, "identity", 1, false),
            (Form::Text, "", READ_AT_ONCE, false),
            (Form::Text, "identity", READ_AT_ONCE + 1, true),
            (Form::Json, "gzip", 1, true),
            (Form::Text, "gzip", 1, true),
            (Form::Text, "zstd", 1, true),
            (Form::Json, "snappy", 1, true),
            (Form::Json, "X-Gzip", 1, true),
        ] {
            let told = format!("{form:?} {coding} {bytes}");
            assert_eq!(is_read_away(form, coding, bytes), away, "{told}");
        }
    }
}
