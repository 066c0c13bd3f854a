//! What clients are told to send at most. It follows from what the application allows them, from who
//! consumes what they send, and what the connections of those carry; so it is derived anew whenever one
//! of the three changes.
//!
//! Where something is piped to, it is known what is wanted of it there: that goes back by the pipe, to
//! another router as to another process, and counts where it comes from as a client's connection does.

use super::consumer::ConsumerState;
use super::error::ObjectError;
use super::id::{ConsumerId, ProducerId, TransportId};
use super::producer::ProducerState;
use super::router::RouterState;
use super::transport::{TransportKind, TransportState};
use crate::pipe_link::Demand;
use crate::rtp::rate::BitRate;

/// Whatever viewers or another process say, nobody is asked for less than what speech needs, but by the
/// application itself.
const LEAST: u64 = 50_000;

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
        self.is_limited |= estimate.is_some();
        let is_sent_to_it = |consumer: &&ConsumerState| consumer.transport == id;
        let consumers = self.consumers.values().filter(is_sent_to_it);
        let producers = consumers.filter_map(|own| self.producers.get(&own.producer));
        let mut senders: Vec<_> = producers.map(|producer| producer.transport).collect();
        senders.sort_unstable();
        senders.dedup();
        for sender in senders {
            self.limit(sender);
        }
        let consumers = self.consumers.values().filter(is_sent_to_it);
        let mut consumed: Vec<_> = consumers.map(|own| own.producer).collect();
        consumed.sort_unstable();
        consumed.dedup();
        for producer in consumed {
            self.pass_on_demand(producer);
        }
    }

    /// What is wanted of something where it is piped to has changed.
    pub(super) fn consumer_wants(&mut self, id: ConsumerId, demand: Demand) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let demand = match demand {
            Demand::AtMost(rate) => Demand::AtMost(rate.max(LEAST)),
            other => other,
        };
        if consumer.wanted == demand {
            return;
        }
        consumer.wanted = demand;
        let producer = consumer.producer;
        self.is_limited = true;
        if let Some(sender) = self.producers.get(&producer).map(|own| own.transport) {
            self.limit(sender);
        }
        self.pass_on_demand(producer);
    }

    /// Tells where something is piped from, if it is, what is wanted of it here.
    pub(super) fn pass_on_demand(&mut self, id: ProducerId) {
        let Some(producer) = self.producers.get(&id).filter(|own| own.is_piped()) else {
            return;
        };
        let demand = match producer.has_layers() {
            // Each is sent one that suits it.
            true => Demand::Everything,
            false => {
                let consumers = self.consumers.values().filter(|own| own.producer == id);
                let wanted = consumers.map(|own| self.wanted_by(own)).max();
                wanted.unwrap_or(Demand::Nothing)
            }
        };
        if let Some(producer) = self.producers.get_mut(&id) {
            producer.set_wanted(demand);
        }
    }

    fn wanted_by(&self, consumer: &ConsumerState) -> Demand {
        if consumer.piped_to.is_some() {
            return consumer.wanted;
        }
        let transport = self.transports.get(&consumer.transport);
        let downlink = transport.and_then(TransportState::downlink);
        downlink.map_or(Demand::Everything, |BitRate(rate)| Demand::AtMost(rate))
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

    /// Who consumes what somebody sends has changed. Costs a client's transport nothing where nobody
    /// has ever been limited.
    pub(super) fn relimit(&mut self, producer: ProducerId) {
        if self.is_limited
            && let Some(sender) = self.producers.get(&producer).map(|own| own.transport)
        {
            self.limit(sender);
        }
        self.pass_on_demand(producer);
    }

    /// Tells a client what it is to send, if that is not what it was told last.
    fn limit(&mut self, sender: TransportId) {
        let allowed = match self.transport_kind(sender) {
            Some(TransportKind::WebRtc { allowed, .. }) => *allowed,
            _ => None,
        };
        let wanted = self.limit_of(sender).map(|rate| rate.max(BitRate(LEAST)));
        let limits = [allowed, wanted];
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
        match receivers.map(|own| self.wanted_by(own)).max()? {
            Demand::AtMost(rate) => Some(BitRate(rate)),
            Demand::Everything | Demand::Nothing => None,
        }
    }
}
