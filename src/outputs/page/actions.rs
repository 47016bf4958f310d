//! `/-/action`: changes that pages offer. They need the role `admin`, the same origin and the
//! token of the page.

use hyper::StatusCode;
use hyper::header::{HeaderValue, LOCATION};
use maud::{Markup, html};
use url::form_urlencoded;

use super::Page;
use super::shell::Shell;
use super::show;
use super::token::Token;
use crate::clock::Now;
use crate::context::NotPolled;
use crate::http::query;
use crate::http::reply::{self, Reply, closing};
use crate::http::request::Request;
use crate::http::work;
use crate::ingest::SeriesSelection;
use crate::ingest::selector::Selectors;
use crate::store::{Change, Producer, SectionId, Write};
use crate::telemetry::clip;
use crate::telemetry::sender_log::{self, About, LogEvent};

/// The limit of a form, in bytes. Names are its only long values.
const MAX_FORM: usize = 64 << 10;

/// A change that the page can request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Poll a target out of turn.
    Poll,
    /// Delete an app.
    DeleteApp,
    /// Delete a group.
    DeleteGroup,
    /// Delete an aggregated family.
    DeleteFamily,
    /// Read the configuration again.
    Reload,
}

impl Action {
    const ALL: [Action; 5] = [
        Action::Poll,
        Action::DeleteApp,
        Action::DeleteGroup,
        Action::DeleteFamily,
        Action::Reload,
    ];

    /// The word in the form and after the action.
    fn as_str(self) -> &'static str {
        match self {
            Action::Poll => "poll",
            Action::DeleteApp => "delete-app",
            Action::DeleteGroup => "delete-group",
            Action::DeleteFamily => "delete-family",
            Action::Reload => "reload",
        }
    }

    /// The message after the action.
    fn done(self) -> &'static str {
        match self {
            Action::Poll => "The target was polled.",
            Action::DeleteApp => "The app was deleted.",
            Action::DeleteGroup => "The group was deleted.",
            Action::DeleteFamily => "The family was deleted.",
            Action::Reload => "The configuration was loaded again.",
        }
    }
}

/// A form with one button.
pub fn immediate(shell: &Shell, token: &Token, action: Action, name: &str, title: &str) -> Markup {
    html! {
        form method="post" action=(shell.link("/-/action")) {
            (fields(token, action, name))
            button { (title) }
        }
    }
}

/// A form with one button, which appears after a click on another one.
pub fn confirmed(
    shell: &Shell,
    token: &Token,
    action: Action,
    name: &str,
    title: &str,
    consequence: &str,
) -> Markup {
    html! {
        details.confirm {
            summary { (title) "…" }
            form method="post" action=(shell.link("/-/action")) {
                (fields(token, action, name))
                p { (consequence) }
                button.danger { (title) }
            }
        }
    }
}

fn fields(token: &Token, action: Action, name: &str) -> Markup {
    html! {
        input type="hidden" name="token" value=(token.value);
        input type="hidden" name="action" value=(action.as_str());
        input type="hidden" name="name" value=(name);
    }
}

impl Shell {
    /// The message about the last action, if the page follows one.
    pub fn done(&self, request: &Request) -> Markup {
        let word = query::value(request.query(), "done");
        let known = word.and_then(|word| Action::ALL.into_iter().find(|it| it.as_str() == word));
        html! {
            @if let Some(action) = known { p.done role="status" { (action.done()) } }
        }
    }
}

impl Page {
    /// Carries out an action, and redirects to the page that shows the result.
    pub(super) async fn action(&self, request: &mut Request) -> Reply {
        let failure =
            |request: &Request, status, problem: &str| self.shell.failure(request, status, problem);
        let too_long = |request: &Request| {
            let problem = format!("A form has at most {MAX_FORM} bytes.");
            closing(failure(request, StatusCode::PAYLOAD_TOO_LARGE, &problem))
        };
        if request.announced() > MAX_FORM {
            return too_long(request);
        }
        let body = match request.read_body().await {
            Ok(body) if body.bytes.len() > MAX_FORM => return too_long(request),
            Ok(body) => body,
            Err(reply) => return reply,
        };
        let value = |name: &str| {
            let mut pairs = form_urlencoded::parse(&body.bytes);
            let found = pairs.find(|(key, _)| key == name);
            found.map_or_else(String::new, |(_, value)| value.into_owned())
        };
        let (token, word, name) = (value("token"), value("action"), value("name"));
        drop(body);
        if !self.token_key.accepts(request.headers(), &token) {
            let problem = "The page is too old, or the browser did not send its cookie. Load the page again, and repeat the action.";
            return failure(request, StatusCode::FORBIDDEN, problem);
        }
        let Some(action) = Action::ALL.into_iter().find(|it| it.as_str() == word) else {
            let problem = format!("There is no action \"{}\".", clip(&word));
            return failure(request, StatusCode::BAD_REQUEST, &problem);
        };
        let request = &*request;
        let done = match action {
            Action::Poll => self.poll(&name).await,
            Action::DeleteApp => self.delete(request, SectionId::new(&name, Producer::App)),
            Action::DeleteGroup => self.delete(request, SectionId::new(&name, Producer::Group)),
            Action::DeleteFamily => return self.delete_family(request, &name).await,
            Action::Reload => self.reload(request).await,
        };
        match done {
            Ok(path) => self.go_to(&path, action),
            Err((status, problem)) => failure(request, status, &problem),
        }
    }

    async fn poll(&self, name: &str) -> Result<String, (StatusCode, String)> {
        let id = SectionId::new(name, Producer::Target);
        let path = show::source_path(&id, "");
        match self.context.polls.poll(name, None).await {
            // The page shows why a poll failed.
            Ok(()) | Err(NotPolled::Failed(_)) => Ok(path),
            Err(problem @ NotPolled::Unknown) => Err((StatusCode::NOT_FOUND, sentence(&problem))),
            Err(problem @ (NotPolled::Interrupted | NotPolled::Late)) => {
                Err((StatusCode::CONFLICT, sentence(&problem)))
            }
        }
    }

    fn delete(&self, request: &Request, id: SectionId) -> Result<String, (StatusCode, String)> {
        let store = &self.context.store;
        if store.section_of(&id).is_none() {
            return Err((
                StatusCode::NOT_FOUND,
                format!("There is no {}.", clip(&id.to_string())),
            ));
        }
        let (peer, shown) = (request.peer, clip(&id.to_string()));
        let write = Write::one(Change::Remove {
            id,
            unless_since: None,
        });
        let refused =
            |problem: crate::store::Rejection| (StatusCode::CONFLICT, problem.to_string());
        store.apply(write, Now::read()).map_err(refused)?;
        sender_log::write(
            LogEvent::Removal,
            About::peer(peer),
            format_args!("{peer} removes {shown}"),
        );
        Ok("/apps".to_owned())
    }

    async fn delete_family(&self, request: &Request, name: &str) -> Reply {
        let failure = |status, problem: &str| self.shell.failure(request, status, problem);
        let selector = format!("{{__name__={}}}", quoted(name));
        let selection = match Selectors::for_series(&[selector]) {
            Ok(selectors) => SeriesSelection::Matching(selectors),
            Err(problem) => return failure(StatusCode::BAD_REQUEST, &clip(&problem)),
        };
        match work::remove_series(request, &self.context.store, selection, false).await {
            Ok(removal) if removal.count == 0 => {
                let problem = format!("There is no aggregated family {}.", clip(name));
                failure(StatusCode::NOT_FOUND, &problem)
            }
            Ok(_) => self.go_to("/aggregated", Action::DeleteFamily),
            Err(reply) => reply,
        }
    }

    async fn reload(&self, request: &Request) -> Result<String, (StatusCode, String)> {
        let peer = request.peer;
        sender_log::write(
            LogEvent::Removal,
            About::peer(peer),
            format_args!("{peer} asks for a reload"),
        );
        let outcome = self.context.reloads.request().await;
        outcome
            .map(|_| "/".to_owned())
            .map_err(|problem| (StatusCode::INTERNAL_SERVER_ERROR, problem.to_string()))
    }

    /// Redirects the browser to a page that says what was done. Loading it again repeats
    /// nothing.
    fn go_to(&self, path: &str, action: Action) -> Reply {
        let sign = if path.contains('?') { '&' } else { '?' };
        let path = format!("{}{sign}done={}", self.shell.link(path), action.as_str());
        let mut reply = reply::text(StatusCode::SEE_OTHER, format!("see {path}\n"));
        // Names in paths are percent-encoded.
        if let Ok(path) = HeaderValue::from_str(&path) {
            reply.headers_mut().insert(LOCATION, path);
        }
        reply
    }
}

/// A message as a sentence.
fn sentence(message: &dyn std::fmt::Display) -> String {
    let message = message.to_string();
    let mut chars = message.chars();
    let first = chars.next().map(|it| it.to_ascii_uppercase());
    first.into_iter().chain(chars).chain(['.']).collect()
}

/// A text in the quotes of a selector.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('\n', "\\n"))
}
