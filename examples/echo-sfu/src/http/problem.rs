//! Errors, as HTTP tells them: a status code, and one sentence of plain text.

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::ApiError;

/// When to try again a server that is full: a guess, but better than at once.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("10");

/// A response that says what went wrong.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    sentence: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, sentence: impl Into<String>) -> Self {
        Self {
            status,
            sentence: sentence.into(),
        }
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        let status = match &error {
            ApiError::BadOffer(_)
            | ApiError::BadFragment(_)
            | ApiError::BadName(_)
            | ApiError::BadStream(_) => StatusCode::BAD_REQUEST,
            ApiError::PlainRtpOff => StatusCode::FORBIDDEN,
            ApiError::NoCommonCodec(_) => StatusCode::NOT_ACCEPTABLE,
            ApiError::UnknownRoom(_) | ApiError::UnknownPublisher(_) | ApiError::UnknownSession => {
                StatusCode::NOT_FOUND
            }
            // RFC 9725, section 4.3.1, and RFC 6585, section 3.
            ApiError::NoEntityTag => StatusCode::PRECONDITION_REQUIRED,
            ApiError::EntityTagMismatch => StatusCode::PRECONDITION_FAILED,
            ApiError::TooManySessions(_)
            | ApiError::TooManyRooms(_)
            | ApiError::Overloaded
            | ApiError::NoPort(_)
            | ApiError::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::Internal(reason) => {
                tracing::error!(reason, "a request met an internal error");
                let sentence = "internal error, see the server's log";
                return Self::new(StatusCode::INTERNAL_SERVER_ERROR, sentence);
            }
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, format!("{}\n", self.sentence)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        response
    }
}
