//! The signaling thread: the application's side of the SFU.
//!
//! Every operation is a task on it, enqueued when the operation is called; so operations take
//! effect in the order in which they were called. It knows the sessions by the names the outside
//! has for them, and keeps the limits; who is sent what is the worker's business.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rtc_thread::ThreadBound;

use crate::ApiError;
use crate::media::{NetworkIndex, SessionKey, TrackInfo};
use crate::names::{DisplayName, PublisherId, RoomName, SessionToken, random_hex};
use crate::operation::{Operation, ReplyTo};
use crate::sdp::{Fragment, Offer, OfferedFlow};
use crate::stats::{NetworkCounters, PublisherInfo, RoomInfo, SfuStats};
use crate::worker::{Role, Worker};

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
            let open = Open::echo(offer, reply);
            state.open(open);
        })
    }

    /// Opens a session that publishes in a room: WHIP.
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

    /// Opens a session that receives a publisher of a room, the newest if none is named: WHEP.
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

    /// Adds candidates to a session. `if_match` is the header field as it was sent.
    pub fn trickle(
        &self,
        session: SessionToken,
        if_match: Option<String>,
        fragment: String,
    ) -> Operation<()> {
        self.enqueue(move |state, reply| {
            tracing::debug!(operation = "trickle", "operation called");
            state.trickle(&session, if_match.as_deref(), &fragment, reply);
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

    /// What the SFU is doing.
    pub fn stats(&self) -> Operation<SfuStats> {
        self.enqueue(move |state, reply| reply.send(Ok(state.stats())))
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

/// A network thread, as signaling sees it.
#[derive(Debug, Clone)]
pub(crate) struct NetworkThread {
    pub(crate) name: String,
    pub(crate) udp: SocketAddr,
    pub(crate) counters: Arc<NetworkCounters>,
}

/// What the signaling thread knows.
#[derive(Debug)]
pub(crate) struct State {
    worker: ThreadBound<Worker>,
    networks: Vec<NetworkThread>,
    /// Sessions on each network thread, to give the next one to the least busy.
    load: Vec<usize>,
    limits: Limits,
    sessions: HashMap<SessionKey, Session>,
    tokens: HashMap<SessionToken, SessionKey>,
    rooms: HashMap<RoomName, Room>,
}

#[derive(Debug)]
struct Session {
    token: SessionToken,
    entity_tag: String,
    remote_ufrag: Option<String>,
    network: NetworkIndex,
    place: Place,
    /// Who waits for the answer.
    opening: Option<ReplyTo<Answer>>,
}

/// Where a session belongs.
#[derive(Debug, Clone)]
enum Place {
    Echo,
    Publisher(RoomName, PublisherId),
    Viewer(RoomName, PublisherId),
}

#[derive(Debug, Default)]
struct Room {
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
    tracks: Vec<TrackInfo>,
}

/// A session to be opened.
struct Open {
    role: Role,
    flow: OfferedFlow,
    place: Place,
    name: Option<DisplayName>,
    offer: String,
    reply: ReplyTo<Answer>,
}

impl Open {
    fn echo(offer: String, reply: ReplyTo<Answer>) -> Self {
        Self {
            role: Role::Echo,
            flow: OfferedFlow::Both,
            place: Place::Echo,
            name: None,
            offer,
            reply,
        }
    }
}

/// How the opening of a session went, as the worker tells it.
#[derive(Debug)]
pub(crate) struct OpenReport {
    pub(crate) answer: String,
    pub(crate) tracks: Vec<TrackInfo>,
}

impl State {
    pub(crate) fn new(
        worker: ThreadBound<Worker>,
        networks: Vec<NetworkThread>,
        limits: Limits,
    ) -> Self {
        Self {
            worker,
            load: vec![0; networks.len()],
            networks,
            limits,
            sessions: HashMap::new(),
            tokens: HashMap::new(),
            rooms: HashMap::new(),
        }
    }

    fn publish(
        &mut self,
        room: RoomName,
        name: Option<DisplayName>,
        offer: String,
        reply: ReplyTo<Answer>,
    ) {
        if !self.rooms.contains_key(&room) && self.rooms.len() >= self.limits.rooms {
            return reply.send(Err(ApiError::TooManyRooms(self.limits.rooms)));
        }
        self.open(Open {
            role: Role::Publish,
            flow: OfferedFlow::ToUs,
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
            Ok((key, id)) => self.open(Open {
                role: Role::View(key),
                flow: OfferedFlow::FromUs,
                place: Place::Viewer(room, id),
                name: None,
                offer,
                reply,
            }),
            Err(error) => reply.send(Err(error)),
        }
    }

    fn find_publisher(
        &self,
        room: &RoomName,
        wanted: Option<PublisherId>,
    ) -> Result<(SessionKey, PublisherId), ApiError> {
        let unknown_room = || ApiError::UnknownRoom(room.to_string());
        let mut open = self
            .rooms
            .get(room)
            .ok_or_else(unknown_room)?
            .publishers
            .iter()
            .rev()
            .filter(|(_, publisher)| publisher.is_open())
            .map(|(key, publisher)| (*key, publisher.id.clone()))
            .peekable();
        if open.peek().is_none() {
            return Err(unknown_room());
        }
        match wanted {
            None => open.next().ok_or_else(unknown_room),
            Some(wanted) => open
                .find(|(_, id)| *id == wanted)
                .ok_or_else(|| ApiError::UnknownPublisher(wanted.to_string())),
        }
    }

    fn open(&mut self, open: Open) {
        if self.sessions.len() >= self.limits.sessions {
            return open
                .reply
                .send(Err(ApiError::TooManySessions(self.limits.sessions)));
        }
        let offer = match Offer::parse(&open.offer, open.flow) {
            Ok(offer) => offer,
            Err(error) => return open.reply.send(Err(error)),
        };
        let key = SessionKey::next();
        let network = self.least_busy();
        self.load[network.0] += 1;
        match &open.place {
            Place::Echo => {}
            Place::Publisher(room, id) => {
                let publisher = Publisher {
                    id: id.clone(),
                    name: open.name,
                    since: Instant::now(),
                    viewers: 0,
                    tracks: Vec::new(),
                };
                let room = self.rooms.entry(room.clone()).or_default();
                room.publishers.insert(key, publisher);
            }
            Place::Viewer(room, id) => self.count_viewer(room, id, 1),
        }
        let token = SessionToken::random();
        self.tokens.insert(token.clone(), key);
        let session = Session {
            token,
            entity_tag: random_hex::<8>(),
            remote_ufrag: offer.ufrag(),
            network,
            place: open.place,
            opening: Some(open.reply),
        };
        self.sessions.insert(key, session);
        let role = open.role;
        if self
            .worker
            .post(move |worker| worker.open(key, role, network, offer))
            .is_err()
        {
            self.session_opened(key, Err(ApiError::ShuttingDown));
        }
    }

    /// The worker has opened a session, or has not.
    pub(crate) fn session_opened(
        &mut self,
        key: SessionKey,
        outcome: Result<OpenReport, ApiError>,
    ) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let reply = session.opening.take();
        let outcome = outcome.map(|report| {
            let publisher = match &session.place {
                Place::Publisher(room, id) => {
                    let room = self.rooms.get_mut(room);
                    if let Some(own) = room.and_then(|room| room.publishers.get_mut(&key)) {
                        own.tracks = report.tracks;
                    }
                    Some(id.clone())
                }
                Place::Echo | Place::Viewer(..) => None,
            };
            Answer {
                session: session.token.clone(),
                sdp: report.answer,
                entity_tag: session.entity_tag.clone(),
                publisher,
            }
        });
        if outcome.is_err() {
            self.session_ended(key);
        }
        if let Some(reply) = reply {
            reply.send(outcome);
        }
    }

    fn trickle(
        &mut self,
        token: &SessionToken,
        if_match: Option<&str>,
        fragment: &str,
        reply: ReplyTo<()>,
    ) {
        let found = self
            .tokens
            .get(token)
            .and_then(|key| Some((*key, self.sessions.get(key)?)));
        let Some((key, session)) = found else {
            return reply.send(Err(ApiError::UnknownSession));
        };
        if if_match.is_some_and(|condition| !matches(condition, &session.entity_tag)) {
            return reply.send(Err(ApiError::EntityTagMismatch));
        }
        let fragment = match Fragment::parse(fragment) {
            Ok(fragment) => fragment,
            Err(error) => return reply.send(Err(error)),
        };
        if fragment.ufrag.is_some() && fragment.ufrag != session.remote_ufrag {
            return reply.send(Err(ApiError::IceRestartUnsupported));
        }
        // A refused post drops the reply, which settles as shutting down.
        let _ = self
            .worker
            .post(move |worker| worker.trickle(key, fragment, reply));
    }

    fn close(&mut self, token: &SessionToken) -> Result<(), ApiError> {
        let key = *self.tokens.get(token).ok_or(ApiError::UnknownSession)?;
        self.session_ended(key);
        self.worker
            .post(move |worker| worker.close(key))
            .map_err(|_| ApiError::ShuttingDown)
    }

    /// Forgets a session. What depends on it has its own end, of which the worker tells.
    pub(crate) fn session_ended(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.remove(&key) else {
            return;
        };
        self.tokens.remove(&session.token);
        self.load[session.network.0] -= 1;
        match session.place {
            Place::Echo => {}
            Place::Publisher(name, _) => {
                if let Some(room) = self.rooms.get_mut(&name) {
                    room.publishers.remove(&key);
                    if room.publishers.is_empty() {
                        self.rooms.remove(&name);
                    }
                }
            }
            Place::Viewer(room, id) => self.count_viewer(&room, &id, -1),
        }
    }

    fn count_viewer(&mut self, room: &RoomName, id: &PublisherId, change: isize) {
        let publishers = self.rooms.get_mut(room).map(|room| &mut room.publishers);
        let publisher = publishers.and_then(|all| all.values_mut().find(|own| own.id == *id));
        if let Some(publisher) = publisher {
            publisher.viewers = publisher.viewers.saturating_add_signed(change);
        }
    }

    fn room(&self, name: RoomName) -> Result<RoomInfo, ApiError> {
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
                age_seconds: publisher.since.elapsed().as_secs_f64(),
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

    fn stats(&self) -> SfuStats {
        let snapshot = |thread: &NetworkThread| thread.counters.snapshot(&thread.name, thread.udp);
        SfuStats {
            sessions: self.sessions.len(),
            rooms: self.rooms.len(),
            network: self.networks.iter().map(snapshot).collect(),
        }
    }

    fn least_busy(&self) -> NetworkIndex {
        let least = (0..self.load.len()).min_by_key(|at| self.load[*at]);
        NetworkIndex(least.unwrap_or_default())
    }
}

impl Publisher {
    fn is_open(&self) -> bool {
        !self.tracks.is_empty()
    }
}

/// RFC 9110, section 13.1.1: a list of entity tags, compared strongly, or `*`.
pub(crate) fn matches(condition: &str, entity_tag: &str) -> bool {
    condition.split(',').map(str::trim).any(|tag| {
        tag == "*" || tag.strip_prefix('"').and_then(|t| t.strip_suffix('"')) == Some(entity_tag)
    })
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn entity_tags_are_compared_strongly() {
        assert!(matches("\"abc\"", "abc"));
        assert!(matches("*", "abc"));
        assert!(matches("\"x\", \"abc\"", "abc"));
        assert!(!matches("W/\"abc\"", "abc"));
        assert!(!matches("abc", "abc"));
        assert!(!matches("", "abc"));
    }
}
