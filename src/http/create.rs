//! `POST /create` and `POST /update`: values for living families, as pingpong
//! takes them.

use hyper::body::Incoming;
use hyper::{Method as HttpMethod, StatusCode};

use super::push::{Call, after, with_body};
use super::push_aggregate;
use super::reply::{self, Reply};
use crate::push::{Body, Form, Intake, Verb};
use crate::store::{Now, Store};

/// Changes values, and says what became of them.
pub async fn answer(call: &Call<'_>, verb: Verb, body: Incoming) -> Reply {
    if call.method != HttpMethod::POST {
        let reply = reply::method_not_allowed(&call.method, "POST");
        return after(reply, body).await;
    }
    let method = verb.as_str();
    // What would not be read anyway need not come.
    let (content_type, _) = call.content();
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
    match with_body(call, body, change).await {
        Ok((once, told)) => {
            let mut reply = reply::text(StatusCode::OK, told);
            push_aggregate::mark(call, method, once, bytes, &mut reply);
            reply
        }
        Err(fault) => call.refuse(method, &fault, bytes),
    }
}
