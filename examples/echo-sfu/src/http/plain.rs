//! Plain RTP over HTTP: ffmpeg and GStreamer publish, and play.
//!
//! Unlike WHIP and WHEP, this is not for pages of other origins: a request has the server send UDP
//! packets to an address that is in it.

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use super::routes::Front;
use super::session::{PUBLISHER_ID, SDP, text_body, value};
use crate::{PublisherId, RoomName, SessionToken};

const JSON: &str = "application/json";

type Body = Result<Bytes, BytesRejection>;

pub(super) fn routes() -> Router<Front> {
    Router::new()
        .route("/rtp/{room}", post(publish))
        .route("/rtp/{room}/{publisher}/play", post(play))
}

async fn publish(
    State(front): State<Front>,
    Path(room): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let publish = json_body(&headers, body)?;
    let room = room.parse::<RoomName>()?;
    let published = front.signaling.publish_plain(room, publish).await?;
    let headers = [
        location(&published.session)?,
        (PUBLISHER_ID, value(published.publisher.to_string())?),
    ];
    Ok((StatusCode::CREATED, headers, Json(published)).into_response())
}

async fn play(
    State(front): State<Front>,
    Path((room, publisher)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let play = json_body(&headers, body)?;
    let room = room.parse::<RoomName>()?;
    let publisher = publisher.parse::<PublisherId>()?;
    let played = front.signaling.play_plain(room, publisher, play).await?;
    let headers = [
        location(&played.session)?,
        (CONTENT_TYPE, HeaderValue::from_static(SDP)),
    ];
    Ok((StatusCode::CREATED, headers, played.sdp).into_response())
}

fn location(session: &SessionToken) -> Result<(HeaderName, HeaderValue), Problem> {
    Ok((LOCATION, value(format!("/session/{session}"))?))
}

/// A page of another origin cannot send this type without asking first, and is refused then.
fn json_body<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    let text = text_body(headers, JSON, body)?;
    serde_json::from_str(&text).map_err(|error| {
        let sentence = format!("the body is not what is expected: {error}");
        Problem::new(StatusCode::BAD_REQUEST, sentence)
    })
}
