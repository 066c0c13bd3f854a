//! How far ICE has come, and how it starts anew, on the network thread.

use std::net::SocketAddr;
use std::time::Instant;

use super::WebRtcTransport;
use crate::ice::IceCredentials;
use crate::network::outbox::{Outbox, Validated};
use crate::network::transport::Transport;
use crate::network::{Network, State};
use crate::objects::{IceState, ObjectError, TransportId, TransportStatus};

impl Network {
    /// Has a client known by other credentials from now on, and us by others, too. Returns how often
    /// that has happened.
    pub(crate) fn restart_ice(
        &mut self,
        transport: TransportId,
        (client, ours): (IceCredentials, IceCredentials),
    ) -> Result<u64, ObjectError> {
        let mut restarted = None;
        self.act(|state, now| restarted = state.restart_ice(now, transport, client, ours));
        restarted.ok_or(ObjectError::TransportClosed(transport))
    }

    /// Our credentials, and how often ICE has started anew, if it last did so with these of the client.
    pub(crate) fn last_ice_restart(
        &mut self,
        id: TransportId,
        client: &IceCredentials,
    ) -> Result<Option<(IceCredentials, u64)>, ObjectError> {
        let mut state = self.0.borrow_mut();
        let transport = state.transports.get_mut(&id).and_then(Transport::webrtc);
        let transport = transport.ok_or(ObjectError::TransportClosed(id))?;
        let last = transport.last_restart.as_ref();
        let same = last.filter(|(theirs, _)| theirs == client);
        Ok(same.map(|(_, ours)| (ours.clone(), transport.restarts)))
    }
}

impl State {
    fn restart_ice(
        &mut self,
        now: Instant,
        id: TransportId,
        client: IceCredentials,
        ours: IceCredentials,
    ) -> Option<u64> {
        let ufrag = ours.ufrag().to_owned();
        let mut times = None;
        self.with_webrtc(id, now, |transport, outbox| {
            times = Some(transport.restarts + 1);
            transport.restart_ice(now, client, ours, outbox)
        });
        if times.is_some() {
            self.demux.rename(id, ufrag);
        }
        times
    }
}

impl State {
    /// Tells how transports are: once for all that has happened in a turn, lest a client that is here
    /// and there by turns keep a worker busy.
    pub(in crate::network) fn tell_statuses(&mut self) {
        for id in std::mem::take(&mut self.outbox.observed) {
            let Some(transport) = self.transports.get_mut(&id) else {
                continue;
            };
            if let Some(status) = transport.webrtc().and_then(WebRtcTransport::status_news) {
                let owner = &transport.owner;
                owner.post(move |router| router.transport_observed(id, status));
            }
        }
    }
}

impl WebRtcTransport {
    /// An authentic check has come, which may say where the client wants to be sent media.
    pub(super) fn is_checked(&mut self, nominated: Option<SocketAddr>, outbox: &mut Outbox) {
        if let Some(at) = nominated {
            self.destination = nominated;
            // The restart has found the client: where it was before may be somebody else by now.
            if std::mem::take(&mut self.is_restarting) {
                self.validated.retain(|own| *own == at);
                self.paths.retain(|(own, _)| *own == at);
                outbox.validated.push((self.id, Validated::Only(at)));
            }
        }
        let ice = &mut self.progress.ice;
        *ice = match (nominated, *ice) {
            (Some(_), _) => IceState::Completed,
            (None, IceState::New | IceState::Disconnected) => IceState::Connected,
            (None, known) => known,
        };
    }

    /// How it is now, if that is not what was told last.
    fn status_news(&mut self) -> Option<TransportStatus> {
        let status = self.status();
        (std::mem::replace(&mut self.told, status) != status).then_some(status)
    }

    fn status(&self) -> TransportStatus {
        TransportStatus {
            remote: self.destination,
            ..self.progress
        }
    }

    /// Notes that how it is has to be told, if that is news.
    pub(super) fn note_status(&self, outbox: &mut Outbox) {
        if self.status() != self.told {
            outbox.observed.push(self.id);
        }
    }

    /// str0m's own restart goes by offer and answer, and forgets where the client is. This one changes
    /// the credentials only, which is all that there is to it at the end that sends no checks: where the
    /// client was is used until it says where it is (RFC 8445, section 2.4), and then goes away for want
    /// of checks.
    fn restart_ice(
        &mut self,
        now: Instant,
        client: IceCredentials,
        ours: IceCredentials,
        outbox: &mut Outbox,
    ) -> Option<Instant> {
        self.restarts += 1;
        self.is_restarting = true;
        // Whoever asks for that is there, though it may take a while until the first check.
        self.last_heard = now;
        self.last_restart = Some((client.clone(), ours.clone()));
        let mut api = self.rtc.direct_api();
        api.set_local_ice_credentials(ours.into());
        api.set_remote_ice_credentials(client.into());
        tracing::debug!(transport = ?self.id, times = self.restarts, "ICE restarted");
        self.advance(now, outbox)
    }
}
