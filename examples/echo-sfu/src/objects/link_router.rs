//! What a router says on its links to other processes, and what it does when it hears something there.

use super::address::RouterAddress;
use super::consumer::{Consumer, ConsumerOptions};
use super::error::ObjectError;
use super::events::{CloseReason, EventSink};
use super::id::{ConsumerId, ProducerId, TransportId};
use super::link_ends::{FromLink, MAX_LABEL, Named, OnLink};
use super::pipe::PipedTo;
use super::producer::{ProducerOptions, ProducerSource};
use super::remote_pipe::RemotePipeEvent;
use super::replica::Replica;
use super::router::{MAX_MEMBERS, RouterState};
use super::rtp_parameters::{RtpCapabilities, RtpParameters};
use crate::media::LayerSsrcs;
use crate::pipe_link::{FarEndReason, Message, PipedState};

/// A producer as another process has told of it.
struct Told<'t> {
    name: u64,
    parameters: &'t RtpParameters,
    upper_layers: &'t [LayerSsrcs],
    label: String,
    state: PipedState,
}

impl RouterState {
    /// What the other end calls so, or would.
    pub(super) fn on_link(&mut self, link: TransportId, name: u64) -> Result<OnLink, ObjectError> {
        let place = &self.pipe_state(link)?.plain.on_network.place;
        Ok(OnLink::new(place.network.clone(), link, name))
    }

    pub(super) fn pipe_to_process(
        &mut self,
        link: TransportId,
        producer: ProducerId,
        label: String,
        address: RouterAddress,
    ) -> Result<Consumer, ObjectError> {
        if label.len() > MAX_LABEL {
            return Err(ObjectError::TooMany(MAX_LABEL));
        }
        self.pipe_state(link)?;
        if let Some((id, paused, events)) = self.find_pipe_consumer(link, producer) {
            return Ok(Consumer::new(id, producer, address, paused, events));
        }
        let media = self.producer(producer)?.media();
        let media = media.ok_or(ObjectError::NoMedia(producer))?.media;
        let accepted = RtpCapabilities::of_pipe(&media).check()?;
        let id = ConsumerId::next();
        let name = self.pipe_state(link)?.names.give();
        let (far_end, way) = (self.on_link(link, name)?, self.on_link(link, name)?);
        let (piped_to, options) = (PipedTo::Process(far_end), ConsumerOptions::new());
        let ordered =
            self.consume_plain_as(id, link, producer, &accepted, options, Some(piped_to))?;
        way.say(Message::Create {
            name,
            parameters: Box::new(ordered.parameters),
            upper_layers: ordered.upper_layers,
            label,
            state: PipedState::of(ordered.paused),
        });
        let (began_with, events) = (ordered.paused.state, ordered.events);
        Ok(Consumer::new(id, producer, address, began_with, events))
    }

    /// The other process says something.
    pub(crate) fn pipe_says(&mut self, link: TransportId, message: Message) {
        match message {
            // The network thread has seen to these.
            Message::Ready { .. } | Message::CreateData { .. } => {}
            Message::Create {
                name,
                parameters,
                upper_layers,
                label,
                state,
            } => self.take_from_process(
                link,
                Told {
                    name,
                    parameters: &parameters,
                    upper_layers: &upper_layers,
                    label,
                    state,
                },
            ),
            Message::Changed { name, state } => match self.named(link, name) {
                Some(Named::Producer(id)) => self.piped_source_changed(id, state.versioned()),
                Some(Named::DataProducer(id)) => {
                    self.remote_data_source_changed(id, state.versioned());
                }
                None => {}
            },
            Message::Closed {
                name,
                undeliverable,
            } => {
                let reason = match undeliverable {
                    true => CloseReason::Undeliverable,
                    false => CloseReason::ProducerClosed,
                };
                // They are known, and so there.
                let _ = match self.named(link, name) {
                    Some(Named::Producer(id)) => self.close_producer(id, reason),
                    Some(Named::DataProducer(id)) => self.close_data_producer(id, reason),
                    None => Ok(()),
                };
            }
            Message::FarEndClosed { name, reason } => {
                let reason = reason.at_near_end();
                if let Some(consumer) = self.piping_consumer(link, name) {
                    let _ = self.close_consumer(consumer, reason);
                } else if let Some(consumer) = self.piping_data_consumer(link, name) {
                    let _ = self.close_data_consumer(consumer, reason);
                }
            }
            Message::Wanted { name, demand } => {
                if let Some(consumer) = self.piping_consumer(link, name) {
                    self.consumer_wants(consumer, demand);
                }
            }
        }
    }

    fn named(&mut self, link: TransportId, name: u64) -> Option<Named> {
        self.pipe_state(link).ok()?.names.find(name)
    }

    fn take_from_process(&mut self, link: TransportId, told: Told<'_>) {
        let name = told.name;
        // Two of one name cannot be told apart; the first stays.
        if self.named(link, name).is_some() {
            return;
        }
        if let Err(error) = self.produce_from_process(link, told) {
            tracing::warn!(%error, "what another process pipes is not taken");
            self.refuse_on_link(link, name, &error);
        }
    }

    /// Tells the other end that something it has piped is not here.
    pub(super) fn refuse_on_link(&mut self, link: TransportId, name: u64, error: &ObjectError) {
        let reason = match error {
            ObjectError::TooMany(_) => FarEndReason::Full,
            _ => FarEndReason::Refused,
        };
        if let Ok(end) = self.on_link(link, name) {
            end.far_end_closed(reason);
        }
    }

    fn produce_from_process(
        &mut self,
        link: TransportId,
        told: Told<'_>,
    ) -> Result<(), ObjectError> {
        if told.label.len() > MAX_LABEL {
            return Err(ObjectError::NotUnderstood);
        }
        // Once there is a producer, it tells the other end for itself that it is gone.
        if self.producers.len() >= MAX_MEMBERS {
            return Err(ObjectError::TooMany(MAX_MEMBERS));
        }
        let end = self.on_link(link, told.name)?;
        let track = told.parameters.track()?;
        let stream = told.parameters.check()?.with_layers(told.upper_layers)?;
        let id = ProducerId::next();
        let (on_network, media) = self.add_arriving(id, link, stream)?;
        let source = ProducerSource::Process {
            near: FromLink::new(end),
            paused: Replica::of(told.state.versioned()),
            on_network,
            media,
        };
        let options = ProducerOptions::new();
        self.produce(id, link, options, source, EventSink::unheard())?;
        let pipe = self.pipe_state(link)?;
        pipe.names.note(told.name, Named::Producer(id));
        pipe.events.send(RemotePipeEvent::Produced {
            producer: id,
            track,
            label: told.label.into(),
        });
        Ok(())
    }

    /// The link is broken: what came and went by it is closed for that reason.
    pub(super) fn close_broken_pipe(&mut self, id: TransportId) {
        if self.pipe_state(id).is_err() {
            return;
        }
        for consumer in self.consumers_on(id) {
            let _ = self.close_consumer(consumer, CloseReason::FarEndClosed);
        }
        for producer in self.producers_on(id) {
            let _ = self.close_producer(producer, CloseReason::FarEndClosed);
        }
        self.close_data_of_broken_pipe(id);
    }

    /// What came by a pipe is there no longer.
    pub(super) fn forget_named(&mut self, transport: TransportId, named: Named) {
        if let Ok(pipe) = self.pipe_state(transport) {
            pipe.names.forget(named);
        }
    }
}
