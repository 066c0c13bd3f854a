//! The signaling thread: the application's side of the SFU.
//!
//! Every operation is a task on it, enqueued when the operation is called; so operations take
//! effect in the order in which they were called. It knows the sessions by the names the outside
//! has for them, and keeps the limits. What a session is, is objects: a room is a router, a session a
//! transport on it.

mod data;
mod offers;
mod patch;
mod pipes;
mod plain;
mod workers;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rtc_thread::ThreadBound;

use crate::ApiError;
use crate::media::TrackInfo;
use crate::names::{DisplayName, PublisherId, RoomName, SessionToken, random_hex};
use crate::network::NetworkThreads;
use crate::objects::{
    DataProducerId, ObjectError, PlainTransport, ProducerId, Purpose, Router, TransportEvent,
    WebRtcTransport, Worker,
};
use crate::operation::{Operation, ReplyTo};
use crate::sdp::{Offer, OfferedFlow};
use crate::stats::{Gather, PublisherInfo, RoomInfo, SfuStats, ThreadReport};

/// How often network threads are asked for a sign of life, while there is anybody to serve.
const PULSE_INTERVAL: Duration = Duration::from_millis(500);

pub use patch::Patched;
#[cfg(fuzzing)]
pub(crate) use patch::matches;
pub(crate) use pipes::Pipes;
pub(crate) use plain::PlainHost;
pub use plain::{PlainEgress, PlainIngress, PlainPlay, PlainPlayed, PlainPublish, PlainPublished};
pub(crate) use workers::Workers;

/// What a client gets for its offer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// Names the session, secretly.
    pub session: SessionToken,
    /// The SDP answer.
    pub sdp: String,
    /// Names this state of the session, for `If-Match`; without quotes.
    pub entity_tag: String,
    /// Who a publisher is to the others.
    pub publisher: Option<PublisherId>,
}

/// The way to the signaling thread. Cheap to clone; usable from any thread, those of an async
/// runtime included.
#[derive(Debug, Clone)]
pub struct Signaling {
    state: ThreadBound<State>,
}

impl Signaling {
    pub(crate) fn new(state: ThreadBound<State>) -> Self {
        Self { state }
    }

    /// Opens a session that is sent back what it sends.
    pub fn echo(&self, offer: String) -> Operation<Answer> {
        self.enqueue(move |state, reply| {
            tracing::debug!(operation = "echo", "operation called");
            state.echo(offer, reply);
        })
    }

    /// Opens a session that publishes in a room: WHIP. Data channels that it opens are opened to its
    /// viewers, too.
    pub fn publish(
        &self,
        room: RoomName,
        display_name: Option<DisplayName>,
        offer: String,
    ) -> Operation<Answer> {
        self.enqueue(move |state, reply| {
            tracing::debug!(operation = "publish", %room, "operation called");
            state.publish(room, display_name, offer, reply);
        })
    }

    /// Opens a session that receives a publisher of a room, the newest if none is named: WHEP. If its
    /// offer has a line for data channels, it is sent the publisher's; what it sends is for nobody.
    pub fn view(
        &self,
        room: RoomName,
        publisher: Option<PublisherId>,
        offer: String,
    ) -> Operation<Answer> {
        self.enqueue(move |state, reply| {
            tracing::debug!(operation = "view", %room, "operation called");
            state.view(room, publisher, offer, reply);
        })
    }

    /// Adds the candidates of an SDP fragment to a session; and restarts its ICE, if the fragment has
    /// another user fragment than the client had: then media goes on, from wherever the client is found
    /// next. `if_match` is the header field as it was sent; candidates are taken in without one.
    pub fn patch(
        &self,
        session: SessionToken,
        if_match: Option<String>,
        fragment: String,
    ) -> Operation<Patched> {
        self.enqueue(move |state, reply| {
            tracing::debug!(operation = "patch", "operation called");
            state.patch(&session, if_match.as_deref(), &fragment, reply);
        })
    }

    /// Pauses a session: the media that it sends goes to nobody, and it is sent none. It stays
    /// connected, and its data channels go on.
    pub fn pause(&self, session: SessionToken) -> Operation<()> {
        self.set_paused(session, true)
    }

    /// Lets a session go on. Video goes on with a key frame.
    pub fn resume(&self, session: SessionToken) -> Operation<()> {
        self.set_paused(session, false)
    }

    fn set_paused(&self, session: SessionToken, paused: bool) -> Operation<()> {
        self.enqueue(move |state, reply| {
            tracing::debug!(operation = "pause", paused, "operation called");
            state.set_paused(&session, paused, reply);
        })
    }

    /// Ends a session. If it publishes, the sessions that view it end too.
    pub fn close(&self, session: SessionToken) -> Operation<()> {
        self.enqueue(move |state, reply| {
            tracing::debug!(operation = "close", "operation called");
            reply.send(state.close(&session));
        })
    }

    /// Who is in a room.
    pub fn room(&self, room: RoomName) -> Operation<RoomInfo> {
        self.enqueue(move |state, reply| reply.send(state.room(room)))
    }

    /// What the SFU is doing: every object and every thread of it.
    pub fn stats(&self) -> Operation<SfuStats> {
        self.enqueue(move |state, reply| state.stats(reply))
    }

    fn enqueue<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut State, ReplyTo<T>) + Send + 'static,
    ) -> Operation<T> {
        let (reply, pending) = Operation::new();
        // A refused operation is dropped with its reply, and so settles as shutting down.
        let _ = self.state.post(move |state| operation(state, reply));
        pending
    }
}

/// How much the SFU takes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) sessions: usize,
    pub(crate) rooms: usize,
}

/// A session, among all there ever were. Growing, so that a newer one has a higher number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct SessionKey(u64);

/// What the signaling thread knows.
#[derive(Debug)]
pub(crate) struct State {
    /// The way back to here, for results and events.
    own: Option<ThreadBound<Self>>,
    workers: Workers,
    networks: NetworkThreads,
    is_taking_pulses: bool,
    limits: Limits,
    /// None, if nobody may use plain RTP.
    plain: Option<PlainHost>,
    /// None, if nothing is piped to or from other processes.
    pipes: Option<Pipes>,
    sessions_ever: u64,
    sessions: BTreeMap<SessionKey, Session>,
    tokens: HashMap<SessionToken, SessionKey>,
    rooms: HashMap<RoomName, Room>,
}

#[derive(Debug)]
struct Session {
    token: SessionToken,
    entity_tag: String,
    remote_ufrag: Option<String>,
    place: Place,
    /// Who waits for the answer.
    opening: Option<ReplyTo<Answer>>,
    /// Once it is open.
    transport: Option<SessionTransport>,
}

/// What a session consists of.
#[derive(Debug)]
enum SessionTransport {
    WebRtc(Box<WebRtcTransport>),
    /// One for each stream; and until all of them are there, what is to become of them.
    Plain(Vec<PlainTransport>, Option<plain::PlainOpening>),
    /// It is a session of another process.
    Remote(offers::RemotePublisher),
}

/// Where a session belongs.
#[derive(Debug, Clone)]
enum Place {
    Echo,
    Publisher(RoomName, PublisherId),
    Viewer(RoomName, PublisherId),
}

#[derive(Debug)]
struct Room {
    router: Router,
    /// By session: the keys grow, so the newest is the last.
    publishers: BTreeMap<SessionKey, Publisher>,
}

#[derive(Debug)]
struct Publisher {
    id: PublisherId,
    name: Option<DisplayName>,
    since: Instant,
    viewers: usize,
    /// Empty until the session is open; it is not shown before.
    producers: Vec<ProducerId>,
    tracks: Vec<TrackInfo>,
    /// Its data channels, as far as other processes are to know of them.
    data: Vec<DataProducerId>,
}

/// A session to be opened.
struct Open {
    flow: OfferedFlow,
    purpose: Purpose,
    place: Place,
    name: Option<DisplayName>,
    offer: String,
    reply: ReplyTo<Answer>,
}

impl State {
    pub(crate) fn new(
        workers: Workers,
        networks: NetworkThreads,
        limits: Limits,
        plain: Option<PlainHost>,
        pipes: Option<Pipes>,
    ) -> Self {
        Self {
            own: None,
            workers,
            networks,
            is_taking_pulses: false,
            limits,
            plain,
            pipes,
            sessions_ever: 0,
            sessions: BTreeMap::new(),
            tokens: HashMap::new(),
            rooms: HashMap::new(),
        }
    }

    pub(crate) fn connect(&mut self, own: ThreadBound<Self>) {
        self.workers.watch_all(&own);
        self.own = Some(own);
        self.begin_pipes();
    }

    fn echo(&mut self, offer: String, reply: ReplyTo<Answer>) {
        self.open(Open {
            flow: OfferedFlow::Both,
            purpose: Purpose::Echo,
            place: Place::Echo,
            name: None,
            offer,
            reply,
        });
    }

    fn publish(
        &mut self,
        room: RoomName,
        name: Option<DisplayName>,
        offer: String,
        reply: ReplyTo<Answer>,
    ) {
        if let Err(error) = self.check_room(&room) {
            return reply.send(Err(error));
        }
        self.open(Open {
            flow: OfferedFlow::ToUs,
            purpose: Purpose::Produce,
            place: Place::Publisher(room, PublisherId::random()),
            name,
            offer,
            reply,
        });
    }

    fn view(
        &mut self,
        room: RoomName,
        publisher: Option<PublisherId>,
        offer: String,
        reply: ReplyTo<Answer>,
    ) {
        match self.find_publisher(&room, publisher) {
            Ok((id, producers)) => self.open(Open {
                flow: OfferedFlow::FromUs,
                purpose: Purpose::Consume(producers),
                place: Place::Viewer(room, id),
                name: None,
                offer,
                reply,
            }),
            Err(error) => reply.send(Err(error)),
        }
    }

    /// Whether there may be such a room.
    fn check_room(&self, room: &RoomName) -> Result<(), ApiError> {
        if !self.rooms.contains_key(room) && self.rooms.len() >= self.limits.rooms {
            return Err(ApiError::TooManyRooms(self.limits.rooms));
        }
        Ok(())
    }

    /// Whether there may be another session.
    fn check_sessions(&self) -> Result<(), ApiError> {
        if self.sessions.len() >= self.limits.sessions {
            return Err(ApiError::TooManySessions(self.limits.sessions));
        }
        if self.networks.are_overloaded(rtc_thread::now()) {
            return Err(ApiError::Overloaded);
        }
        Ok(())
    }

    fn find_publisher(
        &self,
        room: &RoomName,
        wanted: Option<PublisherId>,
    ) -> Result<(PublisherId, Vec<ProducerId>), ApiError> {
        let unknown_room = || ApiError::UnknownRoom(room.to_string());
        let mut open = self
            .rooms
            .get(room)
            .ok_or_else(unknown_room)?
            .publishers
            .iter()
            .rev()
            .filter(|(_, publisher)| publisher.is_open())
            .map(|(_, publisher)| (publisher.id.clone(), publisher.producers.clone()))
            .peekable();
        if open.peek().is_none() {
            return Err(unknown_room());
        }
        match wanted {
            None => open.next().ok_or_else(unknown_room),
            Some(wanted) => open
                .find(|(id, _)| *id == wanted)
                .ok_or_else(|| ApiError::UnknownPublisher(wanted.to_string())),
        }
    }

    fn open(&mut self, open: Open) {
        if let Err(error) = self.check_sessions() {
            return open.reply.send(Err(error));
        }
        let offer = match Offer::parse(&open.offer, open.flow) {
            Ok(offer) => offer,
            Err(error) => return open.reply.send(Err(error)),
        };
        let Some(own) = self.own.clone() else {
            return open.reply.send(Err(ApiError::ShuttingDown));
        };
        self.sessions_ever += 1;
        let key = SessionKey(self.sessions_ever);
        if !self.note_place(key, &open.place, open.name) {
            return open.reply.send(Err(ApiError::ShuttingDown));
        }
        let Some(router) = self.router_for(key, &open.place) else {
            return open.reply.send(Err(ApiError::ShuttingDown));
        };
        let remote_ufrag = offer.ufrag();
        let opening = router.create_webrtc_transport(offer, open.purpose);
        opening.hand_to(&own, move |state, outcome| {
            state.session_opened(key, outcome);
        });
        let token = SessionToken::random();
        self.tokens.insert(token.clone(), key);
        let session = Session {
            token,
            entity_tag: random_hex::<8>(),
            remote_ufrag,
            place: open.place,
            opening: Some(open.reply),
            transport: None,
        };
        self.sessions.insert(key, session);
        self.take_pulses_later();
    }

    /// Those who are there come first: while the network threads do not keep up, nobody else is let
    /// in.
    fn take_pulses(&mut self) {
        self.is_taking_pulses = false;
        let now = rtc_thread::now();
        self.networks.take_pulses(now);
        if !self.sessions.is_empty() || self.networks.are_overloaded(now) {
            self.take_pulses_later();
        }
    }

    fn take_pulses_later(&mut self) {
        if let Some(own) = &self.own
            && !self.is_taking_pulses
        {
            let posted = own.post_delayed(PULSE_INTERVAL, Self::take_pulses);
            self.is_taking_pulses = posted.is_ok();
        }
    }

    /// Shows where a session belongs, as far as it can be shown before it is open. False if it is
    /// in a new room, and there is no worker for that.
    fn note_place(&mut self, key: SessionKey, place: &Place, name: Option<DisplayName>) -> bool {
        match place {
            Place::Echo => {}
            Place::Publisher(room, id) => {
                let publisher = Publisher {
                    id: id.clone(),
                    name,
                    since: rtc_thread::now(),
                    viewers: 0,
                    producers: Vec::new(),
                    tracks: Vec::new(),
                    data: Vec::new(),
                };
                if !self.rooms.contains_key(room) {
                    let Some(worker) = self.workers.for_room(self.rooms.len()) else {
                        return false;
                    };
                    let new = Room {
                        router: worker.begin_router(),
                        publishers: BTreeMap::new(),
                    };
                    self.rooms.insert(room.clone(), new);
                }
                if let Some(room) = self.rooms.get_mut(room) {
                    room.publishers.insert(key, publisher);
                }
            }
            Place::Viewer(room, id) => self.count_viewer(room, id, 1),
        }
        true
    }

    fn router_for(&self, key: SessionKey, place: &Place) -> Option<&Router> {
        match place {
            Place::Echo => self.workers.for_echo(key.0),
            Place::Publisher(room, _) | Place::Viewer(room, _) => {
                self.rooms.get(room).map(|room| &room.router)
            }
        }
    }

    /// A transport has been opened for a session, or has not.
    fn session_opened(&mut self, key: SessionKey, outcome: Result<WebRtcTransport, ObjectError>) {
        let Some(session) = self.sessions.get_mut(&key) else {
            // It was ended meanwhile.
            if let Ok(transport) = outcome {
                drop(transport.close());
            }
            return;
        };
        let reply = session.opening.take();
        let outcome = outcome.map_err(ApiError::from).map(|mut transport| {
            if let Some(own) = &self.own {
                transport
                    .events()
                    .hand_to(own, move |state, event| match event {
                        TransportEvent::NewDataProducer(id) => state.data_opened(key, id),
                        TransportEvent::Closed(_) => state.session_ended(key),
                        TransportEvent::NewDataConsumer(_)
                        | TransportEvent::IceStateChanged(_)
                        | TransportEvent::DtlsStateChanged(_)
                        | TransportEvent::RemoteChanged(_) => {}
                    });
            }
            let publisher = match &session.place {
                Place::Publisher(room, id) => {
                    let room = self.rooms.get_mut(room);
                    if let Some(own) = room.and_then(|room| room.publishers.get_mut(&key)) {
                        own.tracks = transport.tracks().to_vec();
                        own.producers = transport.producers().iter().map(|p| p.id()).collect();
                    }
                    Some(id.clone())
                }
                Place::Echo | Place::Viewer(..) => None,
            };
            let answer = Answer {
                session: session.token.clone(),
                sdp: transport.answer().to_owned(),
                entity_tag: session.entity_tag.clone(),
                publisher,
            };
            transport.forget_media();
            session.transport = Some(SessionTransport::WebRtc(Box::new(transport)));
            answer
        });
        match &outcome {
            Ok(_) => {
                self.pipe_publisher(key, None);
                self.view_remote_data(key);
            }
            Err(_) => self.session_ended(key),
        }
        if let Some(reply) = reply {
            reply.send(outcome);
        }
    }

    fn set_paused(&mut self, token: &SessionToken, paused: bool, reply: ReplyTo<()>) {
        let key = self.tokens.get(token);
        let transport = key
            .and_then(|key| self.sessions.get(key))
            .and_then(|session| session.transport.as_ref());
        let (Some(SessionTransport::WebRtc(transport)), Some(own)) = (transport, &self.own) else {
            return reply.send(Err(ApiError::UnknownSession));
        };
        transport
            .set_paused(paused)
            .hand_to(own, move |_, outcome| {
                reply.send(outcome.map_err(ApiError::from));
            });
    }

    fn close(&mut self, token: &SessionToken) -> Result<(), ApiError> {
        let key = *self.tokens.get(token).ok_or(ApiError::UnknownSession)?;
        self.session_ended(key);
        Ok(())
    }

    /// Forgets a session, and closes what it had; if it published, the sessions that viewed it end,
    /// too.
    fn session_ended(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.remove(&key) else {
            return;
        };
        tracing::debug!(session = key.0, "session ended");
        self.tokens.remove(&session.token);
        if let Some(reply) = session.opening {
            reply.send(Err(ApiError::UnknownPublisher("just gone".to_owned())));
        }
        match session.transport {
            Some(SessionTransport::WebRtc(transport)) => drop(transport.close()),
            Some(SessionTransport::Plain(transports, opening)) => {
                for transport in transports {
                    drop(transport.close());
                }
                if let Some(opening) = opening {
                    opening.abandon(ApiError::UnknownSession);
                }
            }
            // What it is piped from has ended, or goes on without being in the room.
            Some(SessionTransport::Remote(_)) => self.remote_session_ended(key),
            None => {}
        }
        match session.place {
            Place::Echo => {}
            Place::Publisher(room, id) => {
                for viewer in self.viewers_of(&room, &id) {
                    self.session_ended(viewer);
                }
                if let Some(own) = self.rooms.get_mut(&room) {
                    own.publishers.remove(&key);
                    if own.publishers.is_empty() {
                        drop(own.router.close());
                        self.rooms.remove(&room);
                    }
                }
            }
            Place::Viewer(room, id) => self.count_viewer(&room, &id, -1),
        }
    }

    fn viewers_of(&self, room: &RoomName, publisher: &PublisherId) -> Vec<SessionKey> {
        let views = |session: &Session| match &session.place {
            Place::Viewer(of, id) => of == room && id == publisher,
            Place::Echo | Place::Publisher(..) => false,
        };
        let sessions = self.sessions.iter();
        let viewers = sessions.filter(|(_, session)| views(session));
        viewers.map(|(key, _)| *key).collect()
    }

    fn count_viewer(&mut self, room: &RoomName, id: &PublisherId, change: isize) {
        let publishers = self.rooms.get_mut(room).map(|room| &mut room.publishers);
        let publisher = publishers.and_then(|all| all.values_mut().find(|own| own.id == *id));
        if let Some(publisher) = publisher {
            publisher.viewers = publisher.viewers.saturating_add_signed(change);
        }
    }

    fn room(&self, name: RoomName) -> Result<RoomInfo, ApiError> {
        let now = rtc_thread::now();
        let publishers: Vec<_> = self
            .rooms
            .get(&name)
            .into_iter()
            .flat_map(|room| room.publishers.values())
            .filter(|publisher| publisher.is_open())
            .map(|publisher| PublisherInfo {
                id: publisher.id.clone(),
                name: publisher.name.clone(),
                tracks: publisher.tracks.clone(),
                viewers: publisher.viewers,
                age_seconds: now.duration_since(publisher.since).as_secs_f64(),
            })
            .collect();
        if publishers.is_empty() {
            return Err(ApiError::UnknownRoom(name.to_string()));
        }
        let viewers = publishers.iter().map(|publisher| publisher.viewers).sum();
        Ok(RoomInfo {
            room: name,
            publishers,
            viewers,
        })
    }

    fn stats(&self, reply: ReplyTo<SfuStats>) {
        let signaling = self.own.iter().map(|own| ThreadReport::of(own.thread()));
        let workers = self.workers.all().map(Worker::report);
        let stats = SfuStats {
            sessions: self.sessions.len(),
            rooms: self.rooms.len(),
            network: self.networks.stats(),
            workers: Vec::new(),
            threads: signaling
                .chain(workers)
                .chain(self.networks.reports())
                .collect(),
        };
        let gather = Gather::new(stats, reply);
        for (place, worker) in self.workers.all().enumerate() {
            worker.gather(place, &gather);
        }
        self.networks.gather(&gather);
    }
}

impl Publisher {
    fn is_open(&self) -> bool {
        !self.tracks.is_empty()
    }
}
