//! The console: static files that are part of the binary. It is a client of the API and knows nothing else.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

/// Only from here, and nothing inline but what is drawn.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// The files: path, type and contents.
macro_rules! files {
    ($(($path:literal, $kind:expr)),* $(,)?) => {
        [$(($path, $kind, include_str!(concat!("console/", $path)))),*]
    };
}

const FILES: [(&str, &str, &str); 21] = files![
    ("index.html", HTML),
    ("style.css", STYLE),
    ("icon.svg", PICTURE),
    ("app.js", SCRIPT),
    ("lib/api.js", SCRIPT),
    ("lib/chart.js", SCRIPT),
    ("lib/dom.js", SCRIPT),
    ("lib/form.js", SCRIPT),
    ("lib/format.js", SCRIPT),
    ("lib/map.js", SCRIPT),
    ("lib/table.js", SCRIPT),
    ("pages/connections.js", SCRIPT),
    ("pages/definitions.js", SCRIPT),
    ("pages/exchanges.js", SCRIPT),
    ("pages/log.js", SCRIPT),
    ("pages/mqtt.js", SCRIPT),
    ("pages/overview.js", SCRIPT),
    ("pages/policies.js", SCRIPT),
    ("pages/queues.js", SCRIPT),
    ("pages/users.js", SCRIPT),
    ("pages/vhosts.js", SCRIPT),
];

/// Everything at `/`.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let mut router = Router::new().route("/", get(|request: Request| async move { answer(&request, FILES[0]) }));
    for file in FILES {
        router =
            router.route(&format!("/{}", file.0), get(move |request: Request| async move { answer(&request, file) }));
    }
    router
}

/// A file, unless the browser has just this.
fn answer(request: &Request, (_, kind, contents): (&str, &str, &str)) -> Response {
    let mut hasher = DefaultHasher::new();
    contents.hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    let known = request.headers().get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let common = [
        (header::ETAG, tag.as_str()),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(header::CONTENT_TYPE, kind)], contents.to_owned()).into_response()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_file_is_served() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console");
        let mut found = BTreeSet::new();
        for folder in ["", "lib", "pages"] {
            for entry in fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_file() {
                    found.insert(entry.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        let served: BTreeSet<String> = FILES.iter().map(|(path, ..)| (*path).to_owned()).collect();
        assert_eq!(served, found);
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        for (path, _, contents) in &FILES {
            let foreign = contents.match_indices("://").filter(|(at, _)| !contents[..*at].ends_with("http"));
            assert_eq!(foreign.count(), 0, "{path} names another place");
            let named = contents.matches("http://").count();
            assert_eq!(named, contents.matches("http://www.w3.org/2000/svg").count(), "{path} names another place");
        }
    }
}
