//! The ends of what goes by a link to another process, as the objects have them that depend on it.

use std::collections::BTreeMap;

use rtc_thread::ThreadBound;

use super::events::CloseReason;
use super::id::{DataProducerId, ProducerId, TransportId};
use super::replica::Versioned;
use crate::network::Network;
use crate::pipe_link::{Demand, FarEndReason, Message, PipedState};

/// What one process may tell another of a producer, in bytes.
pub(super) const MAX_LABEL: usize = 1_000;

/// What is called how on a link.
#[derive(Debug, Default)]
pub(super) struct Names {
    last_given: u64,
    producers: BTreeMap<u64, Named>,
}

/// What the other end calls something that has come from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Producer(ProducerId),
    DataProducer(DataProducerId),
}

impl Names {
    /// A name for something that goes to the other end.
    pub(super) const fn give(&mut self) -> u64 {
        self.last_given += 1;
        self.last_given
    }

    /// What came is called so.
    pub(super) fn note(&mut self, name: u64, named: Named) {
        self.producers.insert(name, named);
    }

    pub(super) fn find(&self, name: u64) -> Option<Named> {
        self.producers.get(&name).copied()
    }

    pub(super) fn forget(&mut self, named: Named) {
        self.producers.retain(|_, own| *own != named);
    }
}

/// The other end of something on a link: by its name there.
#[derive(Debug)]
pub(super) struct OnLink {
    network: ThreadBound<Network>,
    link: TransportId,
    pub(super) name: u64,
}

impl OnLink {
    pub(super) const fn new(network: ThreadBound<Network>, link: TransportId, name: u64) -> Self {
        Self {
            network,
            link,
            name,
        }
    }

    pub(super) fn say(&self, message: Message) {
        let link = self.link;
        // A thread that has quit has no links.
        let _ = self
            .network
            .post(move |network| network.say_on_pipe(link, &message));
    }

    pub(super) fn source_changed(&self, paused: Versioned<bool>) {
        let (name, state) = (self.name, PipedState::of(paused));
        self.say(Message::Changed { name, state });
    }

    /// The consumer that feeds it is gone.
    pub(super) fn source_closed(&self) {
        self.say(Message::Closed {
            name: self.name,
            undeliverable: false,
        });
    }

    /// What the other end has created is not here, or no longer.
    pub(super) fn far_end_closed(&self, reason: FarEndReason) {
        let name = self.name;
        self.say(Message::FarEndClosed { name, reason });
    }

    /// By which name it is known on a link, if it goes by that one.
    pub(super) fn name_on(&self, link: TransportId) -> Option<u64> {
        (self.link == link).then_some(self.name)
    }
}

/// The near end of a link, as the producer knows it that is fed.
#[derive(Debug)]
pub(super) struct FromLink(OnLink);

impl FromLink {
    pub(super) const fn new(end: OnLink) -> Self {
        Self(end)
    }

    /// What is wanted of it here has changed.
    pub(super) fn wants(&self, demand: Demand) {
        let name = self.0.name;
        self.0.say(Message::Wanted { name, demand });
    }
}

impl Drop for FromLink {
    /// However the producer ends, the consumer that feeds it ends.
    fn drop(&mut self) {
        self.0.far_end_closed(FarEndReason::Closed);
    }
}

impl PipedState {
    pub(super) const fn of(paused: Versioned<bool>) -> Self {
        Self {
            version: paused.version,
            paused: paused.state,
        }
    }

    pub(super) const fn versioned(self) -> Versioned<bool> {
        Versioned {
            version: self.version,
            state: self.paused,
        }
    }
}

impl FarEndReason {
    /// What the near end is closed as.
    pub(super) const fn at_near_end(self) -> CloseReason {
        match self {
            Self::Closed => CloseReason::FarEndClosed,
            Self::Full => CloseReason::FarEndFull,
            Self::Refused => CloseReason::Refused,
        }
    }
}
