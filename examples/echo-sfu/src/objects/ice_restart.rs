//! ICE restarts: a client goes on elsewhere, through the same DTLS session.

use super::error::ObjectError;
use super::id::TransportId;
use super::router::RouterState;
use super::transport::TransportKind;
use super::webrtc_transport::WebRtcTransport;
use crate::Operation;
use crate::ice::IceCredentials;
use crate::operation::ReplyTo;
use crate::sdp;

/// What a client is told whose ICE has been restarted: one of the three, whichever it understands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IceRestart {
    /// By what we are known from now on.
    pub credentials: IceCredentials,
    /// The first answer with these credentials in it, for a client that has made its offer anew, with
    /// the same media lines.
    pub answer: String,
    /// The same credentials and our candidates as an SDP fragment (RFC 8840), for WHIP and WHEP.
    pub fragment: String,
}

impl WebRtcTransport {
    /// Restarts ICE with a client that has new credentials, such as
    /// [those of its new offer](crate::Offer::ice_credentials), and gives us new ones.
    ///
    /// What was agreed by DTLS stays, and so does all media. It goes on where the client is until the
    /// client is found elsewhere; checks with the old credentials are not answered any more.
    ///
    /// mediasoup: `restartIce`, which need not know the client's. libwebrtc:
    /// `JsepTransportController::SetNeedsIceRestartFlag`, and an offer.
    ///
    /// # Errors
    ///
    /// [`ObjectError::TransportClosed`] is all that the operation can fail with, but for a router or a
    /// worker that is gone.
    pub fn restart_ice(&self, client: IceCredentials) -> Operation<IceRestart, ObjectError> {
        let (id, answer) = (self.id(), self.answer().to_owned());
        self.router()
            .enqueue_with_reply(move |router, reply| router.restart_ice(id, client, answer, reply))
    }

    /// What the last restart came to, if it was with these credentials of the client: for a client that
    /// has lost what it was told. None is under way, since operations are in order.
    pub(crate) fn repeat_ice_restart(
        &self,
        client: IceCredentials,
    ) -> Operation<Option<IceRestart>, ObjectError> {
        let (id, answer) = (self.id(), self.answer().to_owned());
        self.router().enqueue_with_reply(move |router, reply| {
            router.repeat_ice_restart(id, client, answer, reply);
        })
    }
}

impl RouterState {
    fn restart_ice(
        &mut self,
        id: TransportId,
        client: IceCredentials,
        answer: String,
        reply: ReplyTo<IceRestart, ObjectError>,
    ) {
        let Some(TransportKind::WebRtc { on_network, .. }) = self.transport_kind(id) else {
            return reply.send(Err(ObjectError::TransportClosed(id)));
        };
        let ours = IceCredentials::random();
        on_network.post(move |network| {
            let restarted = network.restart_ice(id, (client, ours.clone()));
            reply.send(restarted.map(|times| IceRestart::new(&answer, ours, times)));
        });
    }

    fn repeat_ice_restart(
        &mut self,
        id: TransportId,
        client: IceCredentials,
        answer: String,
        reply: ReplyTo<Option<IceRestart>, ObjectError>,
    ) {
        let Some(TransportKind::WebRtc { on_network, .. }) = self.transport_kind(id) else {
            return reply.send(Err(ObjectError::TransportClosed(id)));
        };
        on_network.post(move |network| {
            let known = network.last_ice_restart(id, &client);
            reply.send(known.map(|known| {
                let (ours, times) = known?;
                Some(IceRestart::new(&answer, ours, times))
            }));
        });
    }
}

impl IceRestart {
    /// From the first answer.
    fn new(answer: &str, credentials: IceCredentials, times: u64) -> Self {
        let answer = sdp::restarted_answer(answer, &credentials, times);
        Self {
            fragment: sdp::ice_fragment(&answer),
            credentials,
            answer,
        }
    }
}
