//! Janus' video rooms, over its HTTP API: a session, a handle for each client, and events that are
//! asked for. A publisher offers, to a viewer it is offered.

use serde_json::{Value, json};
use str0m::media::Direction;

use super::{Endpoint, Signaling};
use crate::sfu::http::request;
use crate::sfu::load::Peer;

/// The one publisher of each room.
const PUBLISHER: u64 = 1;

#[derive(Debug)]
pub(crate) struct Janus {
    endpoint: Endpoint,
    session: String,
}

impl Janus {
    pub(crate) fn open(endpoint: Endpoint) -> Result<Self, String> {
        let mut janus = Self {
            endpoint,
            session: "/janus".to_owned(),
        };
        let created = janus.post("", &json!({"janus": "create"}))?;
        janus.session = format!("/janus/{}", id(&created)?);
        Ok(janus)
    }

    fn post(&self, handle: &str, message: &Value) -> Result<Value, String> {
        let mut message = message.clone();
        message["transaction"] = "compare".into();
        let path = format!("{}{handle}", self.session);
        let body = message.to_string();
        let response = request(self.endpoint.http, "POST", &path, "application/json", &body)?;
        checked(&response)
    }

    fn attach(&self) -> Result<u64, String> {
        let message = json!({"janus": "attach", "plugin": "janus.plugin.videoroom"});
        id(&self.post("", &message)?)
    }

    /// Tells the plugin something, and waits for its event of this name.
    fn tell(
        &self,
        handle: u64,
        body: &Value,
        jsep: Option<Value>,
        event: &str,
    ) -> Result<Value, String> {
        let mut message = json!({"janus": "message", "body": body});
        if let Some(jsep) = jsep {
            message["jsep"] = jsep;
        }
        let response = self.post(&format!("/{handle}"), &message)?;
        if response["janus"] == "success" {
            let error = &response["plugindata"]["data"]["error"];
            return match error.as_str() {
                Some(error) => Err(format!("Janus: {error}")),
                None => Ok(response),
            };
        }
        loop {
            let path = format!("{}?maxev=1", self.session);
            let events = request(self.endpoint.http, "GET", &path, "application/json", "")?;
            let told = checked(&events)?;
            let data = &told["plugindata"]["data"];
            if told["sender"] != handle || data.is_null() {
                continue;
            }
            if !data["error"].is_null() {
                return Err(format!("Janus: {data}"));
            }
            if data["videoroom"] == event || data[event] == "ok" {
                return Ok(told);
            }
        }
    }
}

impl Signaling for Janus {
    fn publish(&mut self, room: usize) -> Result<Peer, String> {
        let handle = self.attach()?;
        let create = json!({
            "request": "create", "room": room + 1, "publishers": 1, "bitrate": 0,
            "audiocodec": "opus", "videocodec": "vp8", "permanent": false,
        });
        self.tell(handle, &create, None, "created")?;
        let join =
            json!({"request": "join", "ptype": "publisher", "room": room + 1, "id": PUBLISHER});
        self.tell(handle, &join, None, "joined")?;
        let mut peer = Peer::new(self.endpoint.clients)?;
        let (offer, pending) = peer.offer(Direction::SendOnly)?;
        let jsep = json!({"type": "offer", "sdp": offer});
        let configure = json!({"request": "publish"});
        let answered = self.tell(handle, &configure, Some(jsep), "configured")?;
        peer.accept(pending, sdp(&answered)?)?;
        Ok(peer)
    }

    fn view(&mut self, room: usize) -> Result<Peer, String> {
        let handle = self.attach()?;
        let join = json!({
            "request": "join", "ptype": "subscriber", "room": room + 1,
            "streams": [{"feed": PUBLISHER}],
        });
        let offered = self.tell(handle, &join, None, "attached")?;
        let mut peer = Peer::new(self.endpoint.clients)?;
        let answer = peer.answer(sdp(&offered)?)?;
        let jsep = json!({"type": "answer", "sdp": answer});
        self.tell(handle, &json!({"request": "start"}), Some(jsep), "started")?;
        Ok(peer)
    }
}

fn checked(response: &str) -> Result<Value, String> {
    let response: Value = serde_json::from_str(response).map_err(|error| error.to_string())?;
    if response["janus"] == "error" {
        Err(format!("Janus: {}", response["error"]))
    } else {
        Ok(response)
    }
}

fn id(response: &Value) -> Result<u64, String> {
    let id = response["data"]["id"].as_u64();
    id.ok_or_else(|| format!("Janus names nothing: {response}"))
}

fn sdp(event: &Value) -> Result<&str, String> {
    let sdp = event["jsep"]["sdp"].as_str();
    sdp.ok_or_else(|| format!("Janus describes no session: {event}"))
}
