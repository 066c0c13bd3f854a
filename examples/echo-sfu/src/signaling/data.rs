//! Data channels of publishers that are seen from several processes: a publisher's are piped as its
//! tracks are, and go to those who view it there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::offers::Offered;
use super::pipes::REPIPED_AFTER;
use super::{Place, Room, SessionKey, SessionTransport, State};
use crate::ApiError;
use crate::names::{PublisherId, RoomName};
use crate::objects::{
    CloseReason, DataConsumer, DataConsumerEvent, DataConsumerOptions, DataProducer,
    DataProducerEvent, DataProducerId, PipedData, Router, TransportId,
};

/// What is told of a data producer that is piped.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Label {
    room: String,
    publisher: String,
}

/// Data producers that other processes offer, by what they are in the hub. Who they are of comes into a
/// room, or comes back to one, and they follow.
#[derive(Debug, Default)]
pub(crate) struct OfferedData {
    producers: BTreeMap<DataProducerId, OfPublisher>,
}

#[derive(Debug)]
struct OfPublisher {
    publisher: Offered,
    /// The session in whose room it is.
    session: Option<SessionKey>,
}

impl State {
    /// Whoever publishes has opened a data channel.
    pub(super) fn data_opened(&mut self, key: SessionKey, id: DataProducerId) {
        // Who views it here follows it anyway.
        if !self.pipes.as_ref().is_some_and(|pipes| pipes.has_targets()) {
            return;
        }
        let Some((router, own)) = self.publishers_router(key).zip(self.own.as_ref()) else {
            return;
        };
        let found = router.data_producer(id);
        found.hand_to(own, move |state, outcome| {
            if let Ok(producer) = outcome {
                state.when_data_closes(producer, move |state| state.data_closed(key, id));
            } else {
                state.data_closed(key, id);
            }
        });
        if let Some(publisher) = self.publisher_mut(key) {
            publisher.data.push(id);
        }
        self.pipe_data(key, id, None);
    }

    fn data_closed(&mut self, key: SessionKey, id: DataProducerId) {
        if let Some(publisher) = self.publisher_mut(key) {
            publisher.data.retain(|own| *own != id);
        }
    }

    /// Pipes the data channels of a session to a process.
    pub(super) fn pipe_all_data(&mut self, key: SessionKey, only: Option<TransportId>) {
        let data = self.publisher_mut(key).map(|own| own.data.clone());
        for id in data.into_iter().flatten() {
            self.pipe_data(key, id, only);
        }
    }

    fn pipe_data(&self, key: SessionKey, id: DataProducerId, only: Option<TransportId>) {
        let (Some(pipes), Some(own)) = (&self.pipes, &self.own) else {
            return;
        };
        let place = self.sessions.get(&key).map(|session| &session.place);
        let Some(Place::Publisher(room, publisher)) = place else {
            return;
        };
        let (Some(hub), Some(router)) = (&pipes.hub, self.publishers_router(key)) else {
            return;
        };
        let label = serde_json::to_string(&Label {
            room: room.to_string(),
            publisher: publisher.to_string(),
        });
        let Ok(label) = label else {
            return;
        };
        let piped = router.pipe_data(id, hub);
        piped.hand_to(own, move |state, outcome| {
            // If it is closed already, there is nothing to be piped.
            if let Ok(PipedData { producer, .. }) = outcome {
                state.pipe_data_to_processes(producer.id(), &label, only);
            }
        });
    }

    fn pipe_data_to_processes(&self, id: DataProducerId, label: &str, only: Option<TransportId>) {
        let (Some(pipes), Some(own)) = (&self.pipes, &self.own) else {
            return;
        };
        for link in pipes.links_to(only) {
            let (link, piped) = (link.id(), link.pipe_data(id, label));
            let label = label.to_owned();
            piped.hand_to(own, move |state, outcome| {
                // If not, it is closed already.
                if let Ok(consumer) = outcome {
                    state.watch_piped_data(consumer, id, link, label);
                }
            });
        }
    }

    /// What there was no room for, here or there, is piped again in a while, as long as it and the link
    /// are there.
    fn watch_piped_data(
        &self,
        mut consumer: DataConsumer,
        id: DataProducerId,
        link: TransportId,
        label: String,
    ) {
        let Some(own) = &self.own else {
            return;
        };
        consumer.events().hand_to(own, move |state, event| {
            if let DataConsumerEvent::Closed(
                reason @ (CloseReason::FarEndFull | CloseReason::Undeliverable),
            ) = event
            {
                tracing::warn!(?reason, "data does not get to another process");
                let label = label.clone();
                state.after(REPIPED_AFTER, move |state| {
                    state.pipe_data_to_processes(id, &label, Some(link));
                });
            }
        });
    }

    /// Another process offers a data producer of a publisher.
    pub(super) fn data_offered(
        &mut self,
        link: TransportId,
        id: DataProducerId,
        label: &str,
    ) -> Result<(), ApiError> {
        let label = serde_json::from_str(label);
        let label: Label = label.map_err(|error| ApiError::BadStream(error.to_string()))?;
        let room: RoomName = label.room.parse()?;
        let publisher: PublisherId = label.publisher.parse()?;
        let (Some(pipes), Some(own)) = (&mut self.pipes, &self.own) else {
            return Err(ApiError::ShuttingDown);
        };
        let Some(hub) = &pipes.hub else {
            return Err(ApiError::ShuttingDown);
        };
        hub.data_producer(id)
            .hand_to(own, move |state, outcome| match outcome {
                Ok(producer) => {
                    state.when_data_closes(producer, move |state| state.data_withdrawn(id));
                }
                Err(_) => state.data_withdrawn(id),
            });
        let publisher = Offered::new(link, room, publisher);
        let offered = OfPublisher {
            publisher,
            session: None,
        };
        pipes.offers.data.producers.insert(id, offered);
        self.settle_data();
        Ok(())
    }

    fn data_withdrawn(&mut self, id: DataProducerId) {
        if let Some(pipes) = &mut self.pipes {
            pipes.offers.data.producers.remove(&id);
        }
    }

    /// Brings data producers to where those are who send on them.
    pub(super) fn settle_data(&mut self) {
        let (Some(pipes), Some(own)) = (&mut self.pipes, &self.own) else {
            return;
        };
        let (Some(hub), offers) = (&pipes.hub, &mut pipes.offers) else {
            return;
        };
        for (id, offered) in &mut offers.data.producers {
            let offer = offers.publishers.get(&offered.publisher);
            let session = offer.and_then(|offer| offer.session);
            if offered.session == session {
                continue;
            }
            offered.session = session;
            let room = self.rooms.get(&offered.publisher.room);
            if let (Some(key), Some(Room { router, .. })) = (session, room) {
                let piped = hub.pipe_data(*id, router);
                piped.hand_to(own, move |state, outcome| {
                    // If not, it has been closed, or the session will be.
                    if let Ok(PipedData { producer, .. }) = outcome {
                        state.remote_data_is_there(key, producer);
                    }
                });
            }
        }
    }

    fn remote_data_is_there(&mut self, key: SessionKey, producer: DataProducer) {
        let id = producer.id();
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let (Some(SessionTransport::Remote(remote)), Place::Publisher(room, publisher)) =
            (&mut session.transport, &session.place)
        else {
            return;
        };
        if remote.data.contains(&id) {
            return;
        }
        remote.data.push(id);
        let (room, publisher) = (room.clone(), publisher.clone());
        self.when_data_closes(producer, move |state| {
            let session = state.sessions.get_mut(&key);
            let transport = session.and_then(|session| session.transport.as_mut());
            if let Some(SessionTransport::Remote(remote)) = transport {
                remote.data.retain(|own| *own != id);
            }
        });
        for viewer in self.viewers_of(&room, &publisher) {
            self.view_data(viewer, &[id]);
        }
    }

    /// Somebody has come who views a publisher: if that is of another process, its data is not followed
    /// by itself.
    pub(super) fn view_remote_data(&self, viewer: SessionKey) {
        let place = self.sessions.get(&viewer).map(|session| &session.place);
        let Some(Place::Viewer(room, id)) = place else {
            return;
        };
        let publishers = self.rooms.get(room).map(|room| room.publishers.iter());
        let mut publishers = publishers.into_iter().flatten();
        let publisher = publishers.find(|(_, own)| own.id == *id);
        let session = publisher.and_then(|(key, _)| self.sessions.get(key));
        if let Some(SessionTransport::Remote(remote)) =
            session.and_then(|session| session.transport.as_ref())
        {
            self.view_data(viewer, &remote.data);
        }
    }

    fn view_data(&self, viewer: SessionKey, data: &[DataProducerId]) {
        let session = self.sessions.get(&viewer);
        if let Some(SessionTransport::WebRtc(transport)) =
            session.and_then(|session| session.transport.as_ref())
        {
            for id in data {
                // Refused, if its offer has no line for data channels: it wants none.
                drop(transport.consume_data(*id, DataConsumerOptions::new()));
            }
        }
    }

    fn publishers_router(&self, key: SessionKey) -> Option<&Router> {
        match &self.sessions.get(&key)?.place {
            Place::Publisher(room, _) => Some(&self.rooms.get(room)?.router),
            Place::Echo | Place::Viewer(..) => None,
        }
    }

    fn publisher_mut(&mut self, key: SessionKey) -> Option<&mut super::Publisher> {
        let Place::Publisher(room, _) = &self.sessions.get(&key)?.place else {
            return None;
        };
        self.rooms.get_mut(room)?.publishers.get_mut(&key)
    }

    fn when_data_closes(
        &self,
        mut producer: DataProducer,
        then: impl Fn(&mut Self) + Send + Sync + 'static,
    ) {
        if let Some(own) = &self.own {
            producer.events().hand_to(own, move |state, event| {
                if let DataProducerEvent::Closed(_) = event {
                    then(state);
                }
            });
        }
    }
}
