//! The endpoints `/create` and `/update`.

use std::sync::Arc;

use hyper::StatusCode;

use super::change::{Action, BodyFormat, Changer};
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

/// The size up to which JSON is parsed on the serving thread.
const JSON_AT_ONCE: usize = 16 << 10;

/// The input: values that change aggregated families.
#[derive(Debug)]
pub struct Values {
    changer: Arc<Changer>,
    store: Arc<Store>,
}

impl Values {
    /// Creates the input.
    pub fn new(context: &Context) -> Arc<Self> {
        Arc::new(Values {
            changer: Arc::new(Changer {
                admission: Arc::clone(&context.admission),
            }),
            store: Arc::clone(&context.store),
        })
    }

    /// The routes of the input.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        let create = Route::write("create", "POST", "/create", "ttl", self, |it, request| {
            Box::pin(it.change(Action::Create, request))
        });
        let update = Route::write("update", "POST", "/update", "ttl", self, |it, request| {
            Box::pin(it.change(Action::Update, request))
        });
        [
            create.counted(Action::Create.counted()),
            update.counted(Action::Update.counted()),
        ]
        .map(|route| route.checks_scope().without_options())
        .to_vec()
    }

    async fn change(&self, action: Action, request: &mut Request) -> Reply {
        // Check the media type before reading the body.
        let format = BodyFormat::of(&request.content_type());
        let parsed = format.and_then(|format| Ok((format, parameters::addition(request)?)));
        let (format, addition) = match parsed {
            Ok(parsed) => parsed,
            Err(rejection) => return request.reject(&rejection, 0),
        };
        let body = match request.read_body().await {
            Ok(body) => body,
            Err(reply) => return reply,
        };
        let bytes = body.len();
        let change = {
            let (changer, store) = (Arc::clone(&self.changer), Arc::clone(&self.store));
            move |body: Body<'_>| {
                changer.change(&store, (action, format), body, &addition, Now::read())
            }
        };
        let changed = match work::decompress(request, body).await {
            Ok(body) => {
                let is_long = body.len() > read_at_once(format);
                let place = is_long.then_some(&request.server.pools.values);
                work::on_body(request, &self.store, place, body, change).await
            }
            Err(rejection) => Err(rejection),
        };
        match changed {
            Ok((outcome, report)) => {
                let mut reply = reply::text(StatusCode::OK, report);
                count_addition(request, &self.changer.admission, outcome, bytes, &mut reply);
                reply
            }
            Err(rejection) => request.reject(&rejection, bytes),
        }
    }
}

/// The size up to which a body is parsed on the serving thread.
fn read_at_once(format: BodyFormat) -> usize {
    match format {
        BodyFormat::Json => JSON_AT_ONCE,
        BodyFormat::Text => MAX_INLINE_TEXT,
    }
}
