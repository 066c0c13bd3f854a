//! Rooms that are seen from several processes: what is published here is piped to others, and what
//! others pipe to here is in the rooms here.
//!
//! One router, the hub, has the links to other processes. A publisher's producers are piped from the
//! room's router to the hub and from there to each process; what comes from a process is piped from
//! the hub to the room's router. Only what is published here is passed on, so nothing goes in circles.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Place, Publisher, Room, Session, SessionKey, SessionTransport, State};
use crate::ApiError;
use crate::media::TrackInfo;
use crate::names::{DisplayName, PublisherId, RoomName, SessionToken, random_hex};
use crate::objects::{
    ObjectError, PipeListener, PipeListenerEvent, Piped, ProducerEvent, ProducerId, RemotePipe,
    RemotePipeEvent, Router, TransportId,
};
use crate::pipe_link::PipeSecret;

/// A process that is not there may come.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// What a publisher may consist of.
const MAX_TRACKS: usize = 8;

/// What is piped to other processes, and from them.
#[derive(Debug)]
pub(crate) struct Pipes {
    hub: Arc<Router>,
    listener: Option<PipeListener>,
    /// To whom everything is piped that is published here.
    to: Vec<(SocketAddr, PipeSecret)>,
    /// Links to those that are there.
    links: Vec<RemotePipe>,
}

/// What is told of a producer that is piped.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Label {
    room: String,
    publisher: String,
    name: Option<String>,
    /// Which of the publisher's tracks, of how many.
    at: usize,
    of: usize,
}

/// A publisher of another process, as far as its tracks are here.
#[derive(Debug)]
pub(super) struct RemotePublisher {
    tracks: Vec<Option<(ProducerId, TrackInfo)>>,
}

impl Pipes {
    pub(crate) fn new(
        hub: Router,
        listener: Option<PipeListener>,
        to: Vec<(SocketAddr, PipeSecret)>,
    ) -> Self {
        Self {
            hub: Arc::new(hub),
            listener,
            to,
            links: Vec::new(),
        }
    }
}

impl State {
    pub(super) fn begin_pipes(&mut self) {
        let (Some(pipes), Some(own)) = (&mut self.pipes, &self.own) else {
            return;
        };
        if let Some(listener) = &mut pipes.listener {
            listener.events().hand_to(own, |state, event| {
                if let PipeListenerEvent::Connected(id) = event {
                    state.process_connected(id);
                }
            });
        }
        for at in 0..pipes.to.len() {
            self.connect_to_process(at);
        }
    }

    /// Another process pipes to here.
    fn process_connected(&mut self, id: TransportId) {
        if let (Some(pipes), Some(own)) = (&self.pipes, &self.own) {
            let pipe = pipes.hub.remote_pipe(id);
            pipe.hand_to(own, |state, outcome| {
                if let (Ok(mut pipe), Some(own)) = (outcome, &state.own) {
                    pipe.events()
                        .hand_to(own, |state, event| state.process_pipes(event));
                }
            });
        }
    }

    fn connect_to_process(&mut self, at: usize) {
        let (Some(pipes), Some(own)) = (&self.pipes, &self.own) else {
            return;
        };
        if let Some((remote, secret)) = pipes.to.get(at) {
            let connected = pipes.hub.connect_pipe(*remote, secret.clone());
            connected.hand_to(own, move |state, outcome| state.link_made(at, outcome));
        }
    }

    fn link_made(&mut self, at: usize, outcome: Result<RemotePipe, ObjectError>) {
        let (Some(pipes), Some(own)) = (&mut self.pipes, &self.own) else {
            return;
        };
        let mut link = match outcome {
            Ok(link) => link,
            Err(error) => {
                tracing::info!(%error, "trying again in a while");
                // Refused only when the thread is quitting.
                let again = own.post_delayed(TRY_AGAIN, move |state| state.connect_to_process(at));
                drop(again);
                return;
            }
        };
        let id = link.id();
        link.events().hand_to(own, move |state, event| {
            if let RemotePipeEvent::Closed(_) = event {
                if let Some(pipes) = &mut state.pipes {
                    pipes.links.retain(|link| link.id() != id);
                }
                // Not at once: it may break for a reason that has not gone.
                if let Some(own) = &state.own {
                    drop(own.post_delayed(TRY_AGAIN, move |state| state.connect_to_process(at)));
                }
            }
        });
        pipes.links.push(link);
        let sessions = self.sessions.iter();
        let local = sessions.filter(|(_, session)| !session.is_remote());
        for key in local.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.pipe_publisher(key);
        }
    }

    /// Pipes what a session publishes to every process that is there. Again, it is the same pipe.
    pub(super) fn pipe_publisher(&mut self, key: SessionKey) {
        let (Some(pipes), Some(own)) = (&self.pipes, &self.own) else {
            return;
        };
        if pipes.links.is_empty() {
            return;
        }
        let Some(Place::Publisher(name, id)) = self.sessions.get(&key).map(|own| &own.place) else {
            return;
        };
        let Some(room) = self.rooms.get(name) else {
            return;
        };
        let Some(publisher) = room.publishers.get(&key) else {
            return;
        };
        for (at, producer) in publisher.producers.iter().enumerate() {
            let label = Label {
                room: name.to_string(),
                publisher: id.to_string(),
                name: publisher.name.as_ref().map(ToString::to_string),
                at,
                of: publisher.producers.len(),
            };
            let Ok(label) = serde_json::to_string(&label) else {
                continue;
            };
            let piped = room.router.pipe(*producer, &pipes.hub);
            piped.hand_to(own, move |state, outcome| {
                let links = state.pipes.as_ref().map_or(&[][..], |pipes| &pipes.links);
                // If it is closed already, there is nothing to be piped.
                if let Ok(Piped { producer, .. }) = outcome {
                    for link in links {
                        drop(link.pipe(producer.id(), &label));
                    }
                }
            });
        }
    }

    /// What another process tells.
    fn process_pipes(&mut self, event: RemotePipeEvent) {
        if let RemotePipeEvent::Produced {
            producer,
            track,
            label,
        } = event
            && let Err(error) = self.add_remote(producer, track, &label)
        {
            tracing::info!(%error, "what another process publishes is not taken");
        }
    }

    fn add_remote(
        &mut self,
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
        let room: RoomName = label.room.parse()?;
        let id: PublisherId = label.publisher.parse()?;
        let name = label.name.map(|name| name.parse()).transpose()?;
        let key = self.remote_publisher(room.clone(), id, name, label.of)?;
        let (Some(pipes), Some(own)) = (&self.pipes, &self.own) else {
            return Err(ApiError::ShuttingDown);
        };
        let Some(Room { router, .. }) = self.rooms.get(&room) else {
            return Err(ApiError::ShuttingDown);
        };
        let (at, piped) = (label.at, pipes.hub.pipe(producer, router));
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
        Ok(())
    }

    /// The session that stands for a publisher of another process.
    fn remote_publisher(
        &mut self,
        room: RoomName,
        id: PublisherId,
        name: Option<DisplayName>,
        tracks: usize,
    ) -> Result<SessionKey, ApiError> {
        let publishers = self.rooms.get(&room).map(|room| room.publishers.iter());
        let known = publishers.and_then(|mut all| all.find(|(_, own)| own.id == id));
        if let Some((key, _)) = known {
            let is_remote = self.sessions.get(key).is_some_and(Session::is_remote);
            // Nobody else's publisher can be joined.
            return match is_remote {
                true => Ok(*key),
                false => Err(ApiError::UnknownPublisher(id.to_string())),
            };
        }
        self.check_room(&room)?;
        self.check_sessions()?;
        self.sessions_ever += 1;
        let key = SessionKey(self.sessions_ever);
        let place = Place::Publisher(room, id);
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
                tracks: vec![None; tracks],
            })),
        };
        self.sessions.insert(key, session);
        Ok(key)
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
            own.since = Instant::now();
            (own.producers, own.tracks) = tracks.into_iter().unzip();
        }
    }
}

impl Session {
    fn is_remote(&self) -> bool {
        matches!(self.transport, Some(SessionTransport::Remote(_)))
    }
}
