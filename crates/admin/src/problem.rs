//! Answers that are no success, in RabbitMQ's form: `{"error": …, "reason": …}`.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use broker::Refusal;
use serde_json::{Value, json};

/// Why a request is not answered as its client would like.
#[derive(Debug)]
pub enum Problem {
    /// There is nothing there.
    Missing,
    /// Something that the request names is not there.
    NotFound(String),
    /// The client has not said who it is.
    Unknown,
    /// It is not who it says it is.
    LoginFailed,
    /// It may not do that.
    Forbidden(&'static str),
    /// The request makes no sense.
    Bad(String),
    /// The request is too large, too long, or in a form that is not understood.
    Unreadable(StatusCode, String),
    /// What was asked for holds no longer, or not yet.
    Unavailable(Value),
}

/// The answer to a request, if there is one.
pub type Answer<T = Json<Value>> = Result<T, Problem>;

impl Problem {
    /// A request that makes no sense, in words.
    pub fn bad(reason: impl Into<String>) -> Self {
        Self::Bad(reason.into())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound(_) => Self::NotFound(refusal.to_string()),
            Refusal::VhostNotFound(_) => Self::Missing,
            Refusal::AccessRefused { .. }
            | Refusal::TopicRefused { .. }
            | Refusal::VhostRefused { .. }
            | Refusal::SystemExchange(_)
            | Refusal::DefaultExchange => Self::Forbidden("Access refused."),
            other => Self::Bad(other.to_string()),
        }
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Refusal>() {
            Ok(refusal) => refusal.into(),
            Err(error) => Self::Bad(format!("{error:#}")),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = |error: &str, reason: &str| Json(json!({ "error": error, "reason": reason }));
        match self {
            Self::Missing => (StatusCode::NOT_FOUND, body("Object Not Found", "Not Found")).into_response(),
            Self::NotFound(reason) => (StatusCode::NOT_FOUND, body("not_found", &reason)).into_response(),
            Self::Unknown => {
                let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"Roadstead Management\"")];
                (StatusCode::UNAUTHORIZED, ask, body("not_authorized", "Login required")).into_response()
            }
            Self::LoginFailed => (StatusCode::UNAUTHORIZED, body("not_authorized", "Not_Authorized")).into_response(),
            Self::Forbidden(reason) => (StatusCode::UNAUTHORIZED, body("not_authorised", reason)).into_response(),
            Self::Bad(reason) => (StatusCode::BAD_REQUEST, body("bad_request", &reason)).into_response(),
            Self::Unreadable(status, reason) => (status, body("bad_request", &reason)).into_response(),
            Self::Unavailable(body) => (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response(),
        }
    }
}
