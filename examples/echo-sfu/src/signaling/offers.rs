//! Publishers of other processes, in the rooms here.
//!
//! What other processes offer is known state, and that somebody is in a room follows from it. So
//! whatever takes somebody out of a room for whom there is still an offer, the failure of a worker or a
//! limit that is reached, he comes back when that has passed, without being offered again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::data::OfferedData;
use super::{Place, Publisher, Room, Session, SessionKey, SessionTransport, State};
use crate::ApiError;
use crate::media::TrackInfo;
use crate::names::{DisplayName, PublisherId, RoomName, SessionToken, random_hex};
use crate::objects::{DataProducerId, Piped, ProducerEvent, ProducerId, TransportId};

/// What a publisher may consist of.
const MAX_TRACKS: usize = 8;
/// When those for whom there was no room are looked at again.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// What is told of a producer that is piped.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Label {
    pub(super) room: String,
    pub(super) publisher: String,
    pub(super) name: Option<String>,
    /// Which of the publisher's tracks, of how many.
    pub(super) at: usize,
    pub(super) of: usize,
}

/// What other processes offer. There are no more of these than the hub has producers.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    pub(super) publishers: BTreeMap<Offered, Offer>,
    pub(super) data: OfferedData,
    tracks: BTreeMap<ProducerId, (Offered, usize)>,
    is_settling: bool,
}

/// Who is offered: by which link, and who that is. Two processes may say the same of themselves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Offered {
    link: TransportId,
    pub(super) room: RoomName,
    id: PublisherId,
}

impl Offered {
    pub(super) const fn new(link: TransportId, room: RoomName, id: PublisherId) -> Self {
        Self { link, room, id }
    }
}

/// A publisher of another process, as far as it has been told of him.
#[derive(Debug)]
pub(super) struct Offer {
    name: Option<DisplayName>,
    tracks: Vec<Option<(ProducerId, TrackInfo)>>,
    /// What stands for him here, while he is in a room.
    pub(super) session: Option<SessionKey>,
}

/// A publisher of another process, as far as its tracks are in the room.
#[derive(Debug)]
pub(super) struct RemotePublisher {
    tracks: Vec<Option<(ProducerId, TrackInfo)>>,
    /// Its data, as it is in the room.
    pub(super) data: Vec<DataProducerId>,
}

impl Offers {
    /// Those who could be in a room, and are not.
    fn waiting(&self) -> Vec<Offered> {
        let is_waiting =
            |offer: &Offer| offer.session.is_none() && offer.tracks.iter().all(Option::is_some);
        let waiting = self.publishers.iter().filter(|(_, own)| is_waiting(own));
        waiting.map(|(key, _)| key.clone()).collect()
    }

    fn of_session(&mut self, key: SessionKey) -> Option<&mut Offer> {
        let mut offers = self.publishers.values_mut();
        offers.find(|offer| offer.session == Some(key))
    }
}

impl State {
    /// Another process offers a track of a publisher.
    pub(super) fn offered(
        &mut self,
        link: TransportId,
        producer: ProducerId,
        track: TrackInfo,
        label: &str,
    ) -> Result<(), ApiError> {
        let not_understood = |error: String| ApiError::BadStream(error);
        let label: Label =
            serde_json::from_str(label).map_err(|error| not_understood(error.to_string()))?;
        if label.of > MAX_TRACKS || label.at >= label.of {
            return Err(not_understood("a publisher of too many tracks".to_owned()));
        }
        let name = label.name.map(|name| name.parse()).transpose()?;
        let key = Offered::new(link, label.room.parse()?, label.publisher.parse()?);
        let (Some(pipes), Some(own)) = (&mut self.pipes, &self.own) else {
            return Err(ApiError::ShuttingDown);
        };
        let Some(hub) = &pipes.hub else {
            return Err(ApiError::ShuttingDown);
        };
        let offers = &mut pipes.offers;
        let offer = offers.publishers.entry(key.clone());
        let offer = offer.or_insert_with(|| Offer {
            name,
            tracks: vec![None; label.of],
            session: None,
        });
        match offer.tracks.get_mut(label.at) {
            Some(place @ None) => *place = Some((producer, track)),
            _ => return Err(not_understood("a track that is there already".to_owned())),
        }
        offers.tracks.insert(producer, (key, label.at));
        hub.producer(producer)
            .hand_to(own, move |state, outcome| match (outcome, &state.own) {
                (Ok(mut found), Some(own)) => found.events().hand_to(own, move |state, event| {
                    if let ProducerEvent::Closed(_) = event {
                        state.withdrawn(producer);
                    }
                }),
                _ => state.withdrawn(producer),
            });
        self.settle_offers();
        Ok(())
    }

    /// A track is offered no longer.
    fn withdrawn(&mut self, producer: ProducerId) {
        let Some(offers) = self.pipes.as_mut().map(|pipes| &mut pipes.offers) else {
            return;
        };
        let Some((key, at)) = offers.tracks.remove(&producer) else {
            return;
        };
        let Some(offer) = offers.publishers.get_mut(&key) else {
            return;
        };
        if let Some(place) = offer.tracks.get_mut(at) {
            *place = None;
        }
        let session = offer.session.take();
        if offer.tracks.iter().all(Option::is_none) {
            offers.publishers.remove(&key);
        }
        if let Some(session) = session {
            self.session_ended(session);
        }
    }

    /// A link has ended, and everything that came by it.
    pub(super) fn all_withdrawn(&mut self, link: TransportId) {
        let Some(offers) = self.pipes.as_ref().map(|pipes| &pipes.offers) else {
            return;
        };
        let tracks = offers.tracks.iter();
        let of_link = tracks.filter(|(_, (key, _))| key.link == link);
        for producer in of_link.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.withdrawn(producer);
        }
    }

    /// Brings into their rooms those who are offered and are not there, as far as that is possible. For
    /// the others it will be tried again.
    fn settle_offers(&mut self) {
        let waiting = self.pipes.as_ref().map(|pipes| pipes.offers.waiting());
        for key in waiting.into_iter().flatten() {
            if let Err(error) = self.bring_in(&key) {
                tracing::debug!(%error, room = %key.room, "a publisher of another process has to wait");
                self.settle_offers_later();
            }
        }
    }

    fn settle_offers_later(&mut self) {
        let offers = self.pipes.as_mut().map(|pipes| &mut pipes.offers);
        if let Some(offers) = offers.filter(|offers| !offers.is_settling) {
            offers.is_settling = true;
            self.after(SETTLED_AFTER, |state| {
                if let Some(pipes) = &mut state.pipes {
                    pipes.offers.is_settling = false;
                }
                state.settle_offers();
            });
        }
    }

    /// Makes the session that stands for a publisher of another process.
    fn bring_in(&mut self, offered: &Offered) -> Result<(), ApiError> {
        let Offered { room, id, .. } = offered;
        let publishers = self.rooms.get(room).map(|room| room.publishers.values());
        if publishers.is_some_and(|mut all| all.any(|own| own.id == *id)) {
            // Nobody else's publisher can be joined.
            return Err(ApiError::UnknownPublisher(id.to_string()));
        }
        self.check_room(room)?;
        self.check_sessions()?;
        self.sessions_ever += 1;
        let key = SessionKey(self.sessions_ever);
        let place = Place::Publisher(room.clone(), id.clone());
        let Some(offers) = self.pipes.as_mut().map(|pipes| &mut pipes.offers) else {
            return Err(ApiError::ShuttingDown);
        };
        let offer = offers.publishers.get_mut(offered);
        let offer = offer.ok_or(ApiError::ShuttingDown)?;
        let (name, tracks) = (offer.name.clone(), offer.tracks.clone());
        if !self.note_place(key, &place, name) {
            return Err(ApiError::ShuttingDown);
        }
        self.take_pulses_later();
        let session = Session {
            // Told to nobody.
            token: SessionToken::random(),
            entity_tag: random_hex::<8>(),
            remote_ufrag: None,
            place,
            opening: None,
            transport: Some(SessionTransport::Remote(RemotePublisher {
                tracks: vec![None; tracks.len()],
                data: Vec::new(),
            })),
        };
        self.sessions.insert(key, session);
        if let Some(pipes) = &mut self.pipes
            && let Some(offer) = pipes.offers.publishers.get_mut(offered)
        {
            offer.session = Some(key);
        }
        for (at, (producer, track)) in tracks.into_iter().flatten().enumerate() {
            self.bring_in_track(key, room, (at, producer, track));
        }
        self.settle_data();
        Ok(())
    }

    fn bring_in_track(
        &self,
        key: SessionKey,
        room: &RoomName,
        (at, producer, track): (usize, ProducerId, TrackInfo),
    ) {
        let (Some(pipes), Some(own)) = (&self.pipes, &self.own) else {
            return;
        };
        let (Some(hub), Some(Room { router, .. })) = (&pipes.hub, self.rooms.get(room)) else {
            return;
        };
        let piped = hub.pipe(producer, router);
        piped.hand_to(own, move |state, outcome| match (outcome, &state.own) {
            (Ok(Piped { mut producer, .. }), Some(own)) => {
                producer.events().hand_to(own, move |state, event| {
                    if let ProducerEvent::Closed(_) = event {
                        state.session_ended(key);
                    }
                });
                state.remote_track_is_there(key, at, producer.id(), track);
            }
            _ => state.session_ended(key),
        });
    }

    fn remote_track_is_there(
        &mut self,
        key: SessionKey,
        at: usize,
        producer: ProducerId,
        track: TrackInfo,
    ) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let Some(SessionTransport::Remote(remote)) = &mut session.transport else {
            return;
        };
        if let Some(place) = remote.tracks.get_mut(at) {
            *place = Some((producer, track));
        }
        // With the last of its tracks it is shown.
        let tracks: Option<Vec<_>> = remote.tracks.iter().cloned().collect();
        let (Some(tracks), Place::Publisher(room, _)) = (tracks, &session.place) else {
            return;
        };
        let room = self.rooms.get_mut(room);
        if let Some(own) = room.and_then(|room| room.publishers.get_mut(&key)) {
            let own: &mut Publisher = own;
            own.since = rtc_thread::now();
            (own.producers, own.tracks) = tracks.into_iter().unzip();
        }
    }

    /// The session has ended that stood for a publisher of another process. If he is still offered, he
    /// comes back; not at once, since whatever has ended it may take a moment to be over.
    pub(super) fn remote_session_ended(&mut self, key: SessionKey) {
        let offers = self.pipes.as_mut().map(|pipes| &mut pipes.offers);
        if let Some(offer) = offers.and_then(|offers| offers.of_session(key)) {
            offer.session = None;
            self.settle_offers_later();
        }
    }
}
