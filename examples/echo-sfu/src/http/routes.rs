//! Which path leads where.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::{
    AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderValue, IF_MATCH, LINK, LOCATION, RETRY_AFTER,
};
use axum::http::{HeaderName, Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, patch, post};
use tower_http::cors::{Any, CorsLayer};
use tower_http::timeout::TimeoutLayer;

use super::problem::Problem;
use super::session::{self, ACCEPT_PATCH, PUBLISHER_ID, SDP, SDP_FRAGMENT};
use super::{page, plain};
use crate::Signaling;

/// A request that has not been read and answered after this time is given up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Options of the [`routes`].
#[derive(Debug, Clone)]
pub struct RouteOptions {
    /// Bodies longer than this are refused, in bytes.
    pub max_body: usize,
    /// URIs of STUN servers that clients are told of.
    pub ice_servers: Vec<String>,
}

impl Default for RouteOptions {
    fn default() -> Self {
        Self {
            max_body: 64 * 1024,
            ice_servers: Vec::new(),
        }
    }
}

const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// What every handler has.
#[derive(Debug, Clone)]
pub(super) struct Front {
    pub(super) signaling: Signaling,
    pub(super) ice_server_links: Arc<[HeaderValue]>,
}

/// Everything that the SFU says over HTTP.
///
/// ICE servers whose URI cannot stand in a header are left out; the command line refuses them.
pub fn routes(signaling: Signaling, options: &RouteOptions) -> Router {
    let links = options
        .ice_servers
        .iter()
        .filter_map(|uri| HeaderValue::try_from(format!("<{uri}>; rel=\"ice-server\"")).ok());
    let front = Front {
        signaling,
        ice_server_links: links.collect(),
    };
    let for_all_origins = Router::new()
        .route("/echo", post(session::echo))
        .route("/whip/{room}", post(session::publish))
        .route("/whep/{room}", post(session::view_newest))
        .route("/whep/{room}/{publisher}", post(session::view_one))
        .route(
            "/session/{session}",
            patch(session::patch).delete(session::end),
        )
        .route("/session/{session}/pause", post(session::pause))
        .route("/session/{session}/resume", post(session::resume))
        .route("/rooms/{room}", get(session::room))
        .route("/stats", get(session::stats))
        .merge(page::routes())
        .fallback(|| async {
            Problem::new(
                StatusCode::NOT_FOUND,
                "there is nothing here; the page is at /",
            )
        })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "that is not done with this resource",
            )
        })
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            REQUEST_TIMEOUT,
        ))
        .layer(cross_origin())
        .layer(from_fn(describe));
    let for_own_origin = plain::routes().layer(TimeoutLayer::with_status_code(
        StatusCode::REQUEST_TIMEOUT,
        REQUEST_TIMEOUT,
    ));
    for_all_origins
        .merge(for_own_origin)
        .layer(DefaultBodyLimit::max(options.max_body))
        .with_state(front)
}

/// Pages of any origin may publish and view: WHIP and WHEP clients in browsers live elsewhere.
fn cross_origin() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, IF_MATCH])
        .expose_headers([
            LOCATION,
            ETAG,
            LINK,
            RETRY_AFTER,
            ACCEPT_PATCH,
            ACCEPT_POST,
            PUBLISHER_ID,
        ])
        .max_age(Duration::from_secs(600))
}

/// Adds to the answers to `OPTIONS`, which are those to preflights otherwise, what the resource
/// takes (RFC 9725, section 4.2).
async fn describe(request: Request, next: Next) -> Response {
    let takes = match request.uri().path() {
        _ if request.method() != Method::OPTIONS => None,
        "/echo" => Some((ACCEPT_POST, SDP)),
        path if path.starts_with("/whip/") || path.starts_with("/whep/") => {
            Some((ACCEPT_POST, SDP))
        }
        path if path.starts_with("/session/") => Some((ACCEPT_PATCH, SDP_FRAGMENT)),
        _ => None,
    };
    let mut response = next.run(request).await;
    if let Some((name, value)) = takes {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}
