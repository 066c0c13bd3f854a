//! How a transport to a WebRTC client is.

use std::net::SocketAddr;

use super::error::ObjectError;
use super::id::TransportId;
use super::router::RouterState;
use super::transport::{TransportEvent, TransportKind};
use super::webrtc_transport::WebRtcTransport;
use crate::Operation;

/// How far ICE has come, as the end that answers checks and sends none sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IceState {
    /// No check of the client has come yet.
    #[default]
    New,
    /// The client has been found, and has not said yet where it wants to be sent media.
    Connected,
    /// The client has chosen a way.
    Completed,
    /// No way is checked any more. Often that is a pause only: a client that is heard of again goes on.
    Disconnected,
}

/// How far DTLS has come. What fails, or is closed by the client, closes the transport.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DtlsState {
    /// Nothing of it has come yet.
    #[default]
    New,
    /// The handshake has begun.
    Connecting,
    /// Media and data can go to and fro.
    Connected,
}

/// How a transport to a WebRTC client is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TransportStatus {
    /// mediasoup: `iceState`.
    pub ice: IceState,
    /// mediasoup: `dtlsState`.
    pub dtls: DtlsState,
    /// Where the client wants to be sent media.
    ///
    /// mediasoup: the remote half of `iceSelectedTuple`.
    pub remote: Option<SocketAddr>,
}

impl TransportStatus {
    /// What there is to tell about the difference, in the order in which such things happen.
    fn events_since(self, before: Self) -> impl Iterator<Item = TransportEvent> {
        let ice = (self.ice != before.ice).then_some(TransportEvent::IceStateChanged(self.ice));
        let remote = self.remote.filter(|remote| before.remote != Some(*remote));
        let remote = remote.map(TransportEvent::RemoteChanged);
        let dtls =
            (self.dtls != before.dtls).then_some(TransportEvent::DtlsStateChanged(self.dtls));
        [ice, remote, dtls].into_iter().flatten()
    }
}

impl WebRtcTransport {
    /// How it is when the operation takes effect, as far as its router knows. What changes after that,
    /// its [events](Self::events) tell.
    pub fn status(&self) -> Operation<TransportStatus, ObjectError> {
        let id = self.id();
        self.router()
            .enqueue(move |router| match router.transport_kind(id) {
                Some(TransportKind::WebRtc { status, .. }) => Ok(*status),
                _ => Err(ObjectError::TransportClosed(id)),
            })
    }
}

impl RouterState {
    /// A network thread has seen a transport change.
    pub(crate) fn transport_observed(&mut self, id: TransportId, now: TransportStatus) {
        let Ok(transport) = self.transport(id) else {
            return;
        };
        if let TransportKind::WebRtc { status, .. } = &mut transport.kind {
            let before = std::mem::replace(status, now);
            for event in now.events_since(before) {
                transport.events.send(event);
            }
        }
    }
}
