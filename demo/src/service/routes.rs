//! Routes: which handler answers a path.

use hyper::Method;

/// The route of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Route<'p> {
    /// One of the five measured requests.
    Measured(Measured<'p>),
    /// `/metrics`, with any method.
    Metrics,
    /// `/health`, with any method.
    Health,
    /// A redirect to the shortest form of a path with doubled slashes or dots.
    Redirect(String),
    /// The path has other methods, as `Allow` lists them.
    MethodNotAllowed(&'static str),
    /// No such path.
    NotFound,
}

/// The five requests about persons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured<'p> {
    List,
    Create,
    Get(&'p str),
    Update(&'p str),
    Delete(&'p str),
}

impl Measured<'_> {
    /// The labels `method` and `path`.
    pub fn labels(&self) -> (&'static str, &'static str) {
        match self {
            Measured::List => ("GET", "/person/list"),
            Measured::Create => ("POST", "/person"),
            Measured::Get(_) => ("GET", "/person/{id}"),
            Measured::Update(_) => ("PUT", "/person/{id}"),
            Measured::Delete(_) => ("DELETE", "/person/{id}"),
        }
    }
}

/// Finds the route of a request. `/persons/{id}` is the same as `/person/{id}`.
pub fn find<'p>(method: &Method, path: &'p str) -> Route<'p> {
    if let Some(shortest) = shortened(path) {
        return Route::Redirect(shortest);
    }
    match path {
        "/metrics" => return Route::Metrics,
        "/health" => return Route::Health,
        "/person" => {
            return match *method {
                Method::POST => Route::Measured(Measured::Create),
                _ => Route::MethodNotAllowed("POST"),
            };
        }
        "/person/list" => {
            return match *method {
                Method::GET => Route::Measured(Measured::List),
                _ => Route::MethodNotAllowed("GET"),
            };
        }
        _ => {}
    }
    let rest = path
        .strip_prefix("/person/")
        .or_else(|| path.strip_prefix("/persons/"));
    match rest {
        Some(id) if !id.is_empty() && !id.contains('/') => match *method {
            Method::GET => Route::Measured(Measured::Get(id)),
            Method::PUT => Route::Measured(Measured::Update(id)),
            Method::DELETE => Route::Measured(Measured::Delete(id)),
            _ => Route::MethodNotAllowed("GET, PUT, DELETE"),
        },
        _ => Route::NotFound,
    }
}

/// The path without doubled slashes, `.` and `..`; `None` if it has none of these.
fn shortened(path: &str) -> Option<String> {
    let is_superfluous = |segment: &str| matches!(segment, "" | "." | "..");
    let (body, end) = match path.strip_suffix('/') {
        Some(body) => (body, "/"),
        None => (path, ""),
    };
    let segments = body.split('/').skip(1);
    if !segments.clone().any(is_superfluous) {
        return None;
    }
    let mut kept = Vec::new();
    for segment in segments {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let end = if kept.is_empty() { "" } else { end };
    Some(format!("/{}{end}", kept.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_methods() {
        use Measured::*;
        let all = [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::OPTIONS,
        ];
        for (path, allowed) in [
            ("/person", vec![(Method::POST, Create)]),
            ("/person/list", vec![(Method::GET, List)]),
            (
                "/person/7",
                vec![
                    (Method::GET, Get("7")),
                    (Method::PUT, Update("7")),
                    (Method::DELETE, Delete("7")),
                ],
            ),
            ("/persons/x", vec![(Method::GET, Get("x"))]),
        ] {
            for (method, expected) in &allowed {
                assert_eq!(find(method, path), Route::Measured(*expected), "{path}");
            }
            for method in all
                .iter()
                .filter(|it| !allowed.iter().any(|(of, _)| of == *it))
            {
                let found = find(method, path);
                let elsewhere = path == "/persons/x" && matches!(found, Route::Measured(_));
                assert!(
                    elsewhere || matches!(found, Route::MethodNotAllowed(_)),
                    "{method} {path}: {found:?}"
                );
            }
        }
        for method in &all {
            assert_eq!(find(method, "/metrics"), Route::Metrics);
            assert_eq!(find(method, "/health"), Route::Health);
            for path in [
                "/",
                "/x",
                "/person/",
                "/persons",
                "/person/1/2",
                "/metrics/",
            ] {
                assert_eq!(find(method, path), Route::NotFound, "{path}");
            }
        }
    }

    #[test]
    fn superfluous_slashes_and_dots_are_redirected() {
        for (path, to) in [
            ("//person", "/person"),
            ("/person//list", "/person/list"),
            ("/person/./1", "/person/1"),
            ("/person/../health", "/health"),
            ("/../..//", "/"),
            ("/person//", "/person/"),
            ("//", "/"),
        ] {
            assert_eq!(
                find(&Method::GET, path),
                Route::Redirect(to.to_owned()),
                "{path}"
            );
        }
    }
}
