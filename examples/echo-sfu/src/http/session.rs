//! Sessions as resources: `POST` makes one, `PATCH` trickles candidates or restarts ICE, `DELETE` ends it.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, LINK, LOCATION,
};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::problem::Problem;
use super::routes::Front;
use crate::{Answer, ApiError, Patched, PublisherId, RoomInfo, RoomName, SessionToken, SfuStats};

pub(super) const SDP: &str = "application/sdp";
pub(super) const SDP_FRAGMENT: &str = "application/trickle-ice-sdpfrag";
pub(super) const PUBLISHER_ID: HeaderName = HeaderName::from_static("publisher-id");
pub(super) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

type Body = Result<Bytes, BytesRejection>;

#[derive(Debug, Deserialize)]
pub(super) struct PublishQuery {
    name: Option<String>,
}

pub(super) async fn echo(
    State(front): State<Front>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let offer = text_body(&headers, SDP, body)?;
    let answer = front.signaling.echo(offer).await?;
    front.created(&answer)
}

pub(super) async fn publish(
    State(front): State<Front>,
    Path(room): Path<String>,
    Query(query): Query<PublishQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let offer = text_body(&headers, SDP, body)?;
    let room = room.parse::<RoomName>()?;
    let name = match query.name.filter(|name| !name.trim().is_empty()) {
        Some(name) => Some(name.parse()?),
        None => None,
    };
    let answer = front.signaling.publish(room, name, offer).await?;
    front.created(&answer)
}

pub(super) async fn view_newest(
    State(front): State<Front>,
    Path(room): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    view(front, &room, None, &headers, body).await
}

pub(super) async fn view_one(
    State(front): State<Front>,
    Path((room, publisher)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    view(front, &room, Some(&publisher), &headers, body).await
}

async fn view(
    front: Front,
    room: &str,
    publisher: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let offer = text_body(headers, SDP, body)?;
    let room = room.parse::<RoomName>()?;
    let publisher = publisher.map(str::parse::<PublisherId>).transpose()?;
    let answer = front.signaling.view(room, publisher, offer).await?;
    front.created(&answer)
}

/// Trickle ICE, and ICE restarts (RFC 9725, section 4.3). A client that names no entity tag is taken to
/// mean the current one, unless it restarts.
pub(super) async fn patch(
    State(front): State<Front>,
    Path(session): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let session = session.parse::<SessionToken>()?;
    let fragment = text_body(&headers, SDP_FRAGMENT, body)?;
    let if_match = headers
        .get(IF_MATCH)
        .map(|value| String::from_utf8_lossy(value.as_bytes()));
    let if_match = if_match.map(String::from);
    match front.signaling.patch(session, if_match, fragment).await? {
        Patched::Trickled => Ok(StatusCode::NO_CONTENT.into_response()),
        Patched::Restarted {
            entity_tag,
            fragment,
        } => {
            let mut response = fragment.into_response();
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP_FRAGMENT));
            headers.insert(ETAG, value(format!("\"{entity_tag}\""))?);
            Ok(response)
        }
    }
}

/// The media that the session sends goes to nobody, and it is sent none, until it is resumed.
pub(super) async fn pause(
    State(front): State<Front>,
    Path(session): Path<String>,
) -> Result<StatusCode, Problem> {
    let session = session.parse::<SessionToken>()?;
    front.signaling.pause(session).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn resume(
    State(front): State<Front>,
    Path(session): Path<String>,
) -> Result<StatusCode, Problem> {
    let session = session.parse::<SessionToken>()?;
    front.signaling.resume(session).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn end(
    State(front): State<Front>,
    Path(session): Path<String>,
) -> Result<StatusCode, Problem> {
    front
        .signaling
        .close(session.parse::<SessionToken>()?)
        .await?;
    Ok(StatusCode::OK)
}

pub(super) async fn room(
    State(front): State<Front>,
    Path(room): Path<String>,
) -> Result<Json<RoomInfo>, Problem> {
    Ok(Json(front.signaling.room(room.parse()?).await?))
}

pub(super) async fn stats(State(front): State<Front>) -> Result<Json<SfuStats>, Problem> {
    Ok(Json(front.signaling.stats().await?))
}

impl Front {
    /// The response to an offer that was answered (RFC 9725, section 4.2).
    ///
    /// The location is a path, not a whole URL: behind a proxy the server does not know its own
    /// address, and clients resolve it against the one they used.
    fn created(&self, answer: &Answer) -> Result<Response, Problem> {
        let mut response = (StatusCode::CREATED, answer.sdp.clone()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
        headers.insert(LOCATION, value(format!("/session/{}", answer.session))?);
        headers.insert(ETAG, value(format!("\"{}\"", answer.entity_tag))?);
        headers.insert(ACCEPT_PATCH, HeaderValue::from_static(SDP_FRAGMENT));
        if let Some(publisher) = &answer.publisher {
            headers.insert(PUBLISHER_ID, value(publisher.to_string())?);
        }
        for link in self.ice_server_links.iter() {
            headers.append(LINK, link.clone());
        }
        Ok(response)
    }
}

pub(super) fn value(text: String) -> Result<HeaderValue, Problem> {
    HeaderValue::try_from(text).map_err(|error| ApiError::Internal(error.to_string()).into())
}

/// A body of the type that is wanted, as text.
pub(super) fn text_body(headers: &HeaderMap, wanted: &str, body: Body) -> Result<String, Problem> {
    let found = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = found.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case(wanted) {
        let sentence = format!("the content type must be {wanted}");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence));
    }
    let body = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    String::from_utf8(body.into()).map_err(|_| {
        let sentence = "the body must be text in UTF-8";
        Problem::new(StatusCode::BAD_REQUEST, sentence)
    })
}

/// For the fuzzer.
#[cfg(fuzzing)]
pub(crate) fn offer_body(content_type: HeaderValue, body: Bytes) -> Option<String> {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type)]);
    text_body(&headers, SDP, Ok(body)).ok()
}
