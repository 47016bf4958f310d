//! `POST /create` and `POST /update`: values for living families, as pingpong
//! takes them.

use hyper::StatusCode;
use hyper::body::Incoming;

use super::{Form, Verb};
use crate::clock::Now;
use crate::http::places::READ_AT_ONCE;
use crate::http::reply::{self, Reply};
use crate::ingest::{Body, Intake};
use crate::inputs::aggregate as push_aggregate;
use crate::inputs::push::http::{Call, after, unpacked, work_on};
use crate::store::Store;

/// JSON up to this size is read where it comes in. An item may have three
/// bytes, and takes some microseconds.
const JSON_AT_ONCE: usize = 16 << 10;

/// Changes values, and says what became of them.
pub async fn answer(call: &Call<'_>, verb: Verb, body: Incoming) -> Reply {
    let method = verb.counted();
    // What would not be read anyway need not come.
    let content_type = call.content_type();
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
    let changed = match unpacked(call, body).await {
        Ok(body) => {
            let is_long = body.len() > read_at_once(form);
            let place = is_long.then_some(&call.server.places.values);
            work_on(call, place, body, change).await
        }
        Err(fault) => Err(fault),
    };
    match changed {
        Ok((once, told)) => {
            let mut reply = reply::text(StatusCode::OK, told);
            push_aggregate::mark(call, method, once, bytes, &mut reply);
            reply
        }
        Err(fault) => call.refuse(method, &fault, bytes),
    }
}

/// Bytes of a body that the threads that serve read themselves.
fn read_at_once(form: Form) -> usize {
    match form {
        Form::Json => JSON_AT_ONCE,
        Form::Text => READ_AT_ONCE,
    }
}
