//! WHIP and WHEP, of echo-sfu: one request, the client offers.

use str0m::media::Direction;

use super::{Endpoint, Signaling};
use crate::sfu::http::request;
use crate::sfu::load::Peer;

#[derive(Debug)]
pub(crate) struct Whip(Endpoint);

impl Whip {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self(endpoint)
    }

    fn join(&self, path: &str, direction: Direction) -> Result<Peer, String> {
        let mut peer = Peer::new(self.0.clients)?;
        let (offer, pending) = peer.offer(direction)?;
        let answer = request(self.0.http, "POST", path, "application/sdp", &offer)?;
        peer.accept(pending, &answer)?;
        Ok(peer)
    }
}

impl Signaling for Whip {
    fn publish(&mut self, room: usize) -> Result<Peer, String> {
        self.join(&format!("/whip/{room}"), Direction::SendOnly)
    }

    fn view(&mut self, room: usize) -> Result<Peer, String> {
        self.join(&format!("/whep/{room}"), Direction::RecvOnly)
    }
}
