//! `/create` and `/update`: values, as JSON or as text.

use std::sync::Arc;

use hyper::StatusCode;

use super::change::{Form, Values, Verb};
use crate::clock::Now;
use crate::context::Context;
use crate::http::pools::MAX_INLINE_TEXT;
use crate::http::reply::{self, Reply};
use crate::http::request::Request;
use crate::http::router::Route;
use crate::http::work;
use crate::ingest::Body;
use crate::inputs::parameters::{self, count_addition};
use crate::store::Store;

/// JSON up to this size is read on the serving thread.
const JSON_AT_ONCE: usize = 16 << 10;

/// The endpoints of created and updated values.
#[derive(Debug)]
pub struct Endpoints {
    values: Arc<Values>,
    store: Arc<Store>,
}

impl Endpoints {
    /// The input, ready to serve its routes.
    pub fn new(context: &Context) -> Arc<Self> {
        Arc::new(Endpoints {
            values: Arc::new(Values {
                admission: Arc::clone(&context.admission),
            }),
            store: Arc::clone(&context.store),
        })
    }

    /// Its routes.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        let create = Route::write("create", "POST", "/create", "ttl", self, |it, request| {
            Box::pin(it.change(Verb::Create, request))
        });
        let update = Route::write("update", "POST", "/update", "ttl", self, |it, request| {
            Box::pin(it.change(Verb::Update, request))
        });
        vec![
            create.counted(Verb::Create.counted()).without_options(),
            update.counted(Verb::Update.counted()).without_options(),
        ]
    }

    async fn change(&self, verb: Verb, request: &mut Request) -> Reply {
        // The media type is checked before the body is read.
        let form = Form::of(&request.content_type());
        let asked = form.and_then(|form| Ok((form, parameters::addition(request)?)));
        let (form, addition) = match asked {
            Ok(asked) => asked,
            Err(rejection) => return request.reject(&rejection, 0),
        };
        let body = match request.read_body().await {
            Ok(body) => body,
            Err(reply) => return reply,
        };
        let bytes = body.len();
        let change = {
            let (values, store) = (Arc::clone(&self.values), Arc::clone(&self.store));
            move |body: Body<'_>| values.change(&store, (verb, form), body, &addition, Now::read())
        };
        let changed = match work::decompress(request, body).await {
            Ok(body) => {
                let is_long = body.len() > read_at_once(form);
                let place = is_long.then_some(&request.server.pools.values);
                work::on_body(request, &self.store, place, body, change).await
            }
            Err(rejection) => Err(rejection),
        };
        match changed {
            Ok((once, told)) => {
                let mut reply = reply::text(StatusCode::OK, told);
                count_addition(request, &self.values.admission, once, bytes, &mut reply);
                reply
            }
            Err(rejection) => request.reject(&rejection, bytes),
        }
    }
}

/// The size up to which a body is read on the serving thread.
fn read_at_once(form: Form) -> usize {
    match form {
        Form::Json => JSON_AT_ONCE,
        Form::Text => MAX_INLINE_TEXT,
    }
}
