//! What clients are told to send at most. It follows from what the application allows them, from who
//! consumes what they send, and what the connections of those carry; so it is derived anew whenever one
//! of the three changes.

use super::consumer::ConsumerState;
use super::error::ObjectError;
use super::id::{ProducerId, TransportId};
use super::producer::ProducerState;
use super::router::RouterState;
use super::transport::TransportKind;
use crate::rtp::rate::BitRate;

impl RouterState {
    /// A network thread has an idea of what a client's downlink carries.
    ///
    /// Nobody gains from a client that sends more than any of its viewers can be sent; so it is told
    /// to send what the best of them can. (The others are sent a smaller layer if there is one, and
    /// otherwise lose packets and ask for them again.)
    pub(crate) fn downlink_estimated(&mut self, id: TransportId, estimate: Option<BitRate>) {
        match self.transport_kind(id) {
            Some(TransportKind::WebRtc { downlink, .. }) => *downlink = estimate,
            _ => return,
        }
        let is_sent_to_it = |consumer: &&ConsumerState| consumer.transport == id;
        let consumers = self.consumers.values().filter(is_sent_to_it);
        let producers = consumers.filter_map(|own| self.producers.get(&own.producer));
        let mut senders: Vec<_> = producers.map(|producer| producer.transport).collect();
        senders.sort_unstable();
        senders.dedup();
        for sender in senders {
            self.limit(sender);
        }
    }

    /// The application allows a client to send so much.
    pub(super) fn allow_incoming(
        &mut self,
        id: TransportId,
        limit: Option<BitRate>,
    ) -> Result<(), ObjectError> {
        match self.transport_kind(id) {
            Some(TransportKind::WebRtc { allowed, .. }) => *allowed = limit,
            _ => return Err(ObjectError::TransportClosed(id)),
        }
        self.limit(id);
        Ok(())
    }

    /// Who consumes what somebody sends has changed. Costs nothing where nobody is limited.
    pub(super) fn relimit(&mut self, producer: ProducerId) {
        let sender = self.producers.get(&producer).map(|own| own.transport);
        if let Some(sender) = sender.filter(|sender| self.limits.contains_key(sender)) {
            self.limit(sender);
        }
    }

    /// Tells a client what it is to send, if that is not what it was told last.
    fn limit(&mut self, sender: TransportId) {
        let allowed = match self.transport_kind(sender) {
            Some(TransportKind::WebRtc { allowed, .. }) => *allowed,
            _ => None,
        };
        let limits = [allowed, self.limit_of(sender)];
        let limit = limits.into_iter().flatten().min();
        let told = match limit {
            Some(limit) => self.limits.insert(sender, limit),
            None => self.limits.remove(&sender),
        };
        if told != limit
            && let Some(on_network) = self.transport_on_network(sender)
        {
            on_network.post(move |network| network.limit_bitrate(sender, limit));
        }
    }

    /// What the best of those can be sent who are sent what this transport sends; `None` if one of
    /// them can be sent everything. Whoever sends several layers is not limited: each of the others is
    /// sent one that suits it.
    fn limit_of(&self, sender: TransportId) -> Option<BitRate> {
        let mut sent = self
            .producers
            .values()
            .filter(|own| own.transport == sender);
        if sent.any(ProducerState::has_layers) {
            return None;
        }
        let is_sent_it = |consumer: &&ConsumerState| {
            let producer = self.producers.get(&consumer.producer);
            producer.is_some_and(|producer| producer.transport == sender)
        };
        let receivers = self.consumers.values().filter(is_sent_it);
        let downlinks = receivers.map(|own| self.transports.get(&own.transport)?.downlink());
        downlinks.collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}
