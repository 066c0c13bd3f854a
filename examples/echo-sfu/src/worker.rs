//! The worker thread: it decides who is sent what.
//!
//! It keeps one router for each room, and a private one for each echo. It sees no packet: what it
//! decides, it tells the network threads, as subscriptions.

use std::collections::HashMap;

use rtc_thread::ThreadBound;
use str0m::bwe::Bitrate;

use crate::ApiError;
use crate::media::{NetworkIndex, SessionKey, Track, TrackId};
use crate::network::{Network, OpenSession, Opened, TransportRole};
use crate::operation::ReplyTo;
use crate::sdp::{Fragment, Offer};
use crate::signaling::{OpenReport, State as Signaling};

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is sent what it sends.
    Echo,
    /// It sends to whoever views it.
    Publish,
    /// It is sent what that session publishes.
    View(SessionKey),
}

/// Who is connected to whom.
pub(crate) struct Worker {
    networks: Vec<ThreadBound<Network>>,
    signaling: Option<ThreadBound<Signaling>>,
    sessions: HashMap<SessionKey, Session>,
}

struct Session {
    role: Role,
    network: NetworkIndex,
    /// Whether the network thread has opened it.
    open: bool,
    /// Whether it was closed before it was open.
    closing: bool,
    produced: Vec<Track>,
    consumed: Vec<TrackId>,
    /// What its client's downlink seems to carry.
    downlink: Option<Bitrate>,
}

impl Worker {
    pub(crate) fn new(networks: Vec<ThreadBound<Network>>) -> Self {
        Self {
            networks,
            signaling: None,
            sessions: HashMap::new(),
        }
    }

    pub(crate) fn connect(&mut self, signaling: ThreadBound<Signaling>) {
        self.signaling = Some(signaling);
    }

    /// Opens a session on a network thread. [`session_opened`](Self::session_opened) follows.
    pub(crate) fn open(
        &mut self,
        key: SessionKey,
        role: Role,
        network: NetworkIndex,
        offer: Offer,
    ) {
        let (transport_role, wanted) = match role {
            Role::Echo => (TransportRole::Echo, Vec::new()),
            Role::Publish => (TransportRole::Publish, Vec::new()),
            Role::View(publisher) => match self.sessions.get(&publisher) {
                Some(publisher) if publisher.open => {
                    let source = publisher.network;
                    let wanted = publisher
                        .produced
                        .iter()
                        .map(|track| (track.clone(), source));
                    (TransportRole::View, wanted.collect())
                }
                _ => return self.report(key, Err(publisher_is_gone())),
            },
        };
        let session = Session {
            role,
            network,
            open: false,
            closing: false,
            produced: Vec::new(),
            consumed: Vec::new(),
            downlink: None,
        };
        self.sessions.insert(key, session);
        self.tell_network(network, move |network| {
            network.open(OpenSession {
                key,
                offer,
                wanted,
                role: transport_role,
            });
        });
    }

    /// A network thread has opened a session, or has not.
    pub(crate) fn session_opened(
        &mut self,
        key: SessionKey,
        network: NetworkIndex,
        outcome: Result<Opened, ApiError>,
    ) {
        let opened = match outcome {
            Ok(opened) => opened,
            Err(error) => {
                self.sessions.remove(&key);
                return self.report(key, Err(error));
            }
        };
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        tracing::debug!(session = ?key, role = ?session.role, "session opened");
        session.open = true;
        session.produced = opened.produced;
        session.consumed = opened.consumed;
        if session.closing {
            return self.tell_network(network, move |network| network.close(key));
        }
        let (role, consumed) = (session.role, session.consumed.clone());
        let tracks = session.produced.iter().map(Track::info).collect();
        let source = match role {
            Role::Publish => None,
            Role::Echo => Some(network),
            // The publisher may have gone while the network thread was busy with this session.
            Role::View(publisher) => match self.sessions.get(&publisher) {
                Some(publisher) if publisher.open => Some(publisher.network),
                _ => {
                    self.tell_network(network, move |network| network.close(key));
                    return self.report(key, Err(publisher_is_gone()));
                }
            },
        };
        if let Some(source) = source {
            for track in consumed {
                self.route(track, source, key, network);
            }
        }
        let answer = opened.answer;
        self.report(key, Ok(OpenReport { answer, tracks }));
    }

    /// The decision: this track goes there.
    fn route(
        &self,
        track: TrackId,
        source: NetworkIndex,
        session: SessionKey,
        destination: NetworkIndex,
    ) {
        tracing::debug!(?track, ?session, "track routed");
        self.tell_network(destination, move |network| {
            network.subscribe(track, session);
        });
        self.tell_network(source, move |network| {
            network.add_destination(track, destination);
        });
    }

    /// Ends a session; if it publishes, its viewers' sessions with it.
    pub(crate) fn close(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        if session.open {
            let network = session.network;
            self.tell_network(network, move |network| network.close(key));
        } else {
            session.closing = true;
        }
    }

    /// A network thread has ended a session, for whatever reason.
    pub(crate) fn session_ended(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.remove(&key) else {
            return;
        };
        tracing::debug!(session = ?key, "session ended");
        if let Role::View(publisher) = session.role {
            self.unroute(&session, publisher);
        }
        let viewers: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, other)| other.role == Role::View(key))
            .map(|(viewer, _)| *viewer)
            .collect();
        for viewer in viewers {
            self.close(viewer);
        }
        self.tell_signaling(move |signaling| signaling.session_ended(key));
    }

    /// Stops the forwarding to a network thread when its last viewer of a publisher has gone.
    fn unroute(&self, gone: &Session, publisher: SessionKey) {
        let Some(source) = self
            .sessions
            .get(&publisher)
            .map(|publisher| publisher.network)
        else {
            return;
        };
        let destination = gone.network;
        for track in &gone.consumed {
            let track = *track;
            let still_viewed = self.sessions.values().any(|other| {
                other.network == destination && other.open && other.consumed.contains(&track)
            });
            if !still_viewed {
                self.tell_network(source, move |network| {
                    network.remove_destination(track, destination);
                });
            }
        }
    }

    /// A network thread has an idea of what a client's downlink carries.
    ///
    /// Nobody gains from a publisher that sends more than any of its viewers can be sent; so it is
    /// told to send what the best of them can. (The others lose packets, and ask for them again: to
    /// serve them better takes layers.)
    pub(crate) fn downlink_estimated(&mut self, key: SessionKey, downlink: Bitrate) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        session.downlink = Some(downlink);
        let source = match session.role {
            Role::Publish => return,
            Role::Echo => key,
            Role::View(publisher) => publisher,
        };
        let Some(network) = self.sessions.get(&source).map(|source| source.network) else {
            return;
        };
        let is_sent_it = |(own, session): &(&SessionKey, &Session)| match session.role {
            Role::Publish => false,
            Role::Echo => **own == source,
            Role::View(publisher) => publisher == source,
        };
        let best = self
            .sessions
            .iter()
            .filter(is_sent_it)
            .filter_map(|(_, session)| session.downlink)
            .max_by(|a, b| a.as_u64().cmp(&b.as_u64()));
        if let Some(best) = best {
            self.tell_network(network, move |network| network.limit_bitrate(source, best));
        }
    }

    pub(crate) fn trickle(&mut self, key: SessionKey, fragment: Fragment, reply: ReplyTo<()>) {
        let Some(session) = self.sessions.get(&key).filter(|session| session.open) else {
            return reply.send(Err(ApiError::UnknownSession));
        };
        let candidates = fragment.candidates;
        self.tell_network(session.network, move |network| {
            network.add_remote_candidates(key, candidates, reply);
        });
    }

    fn report(&self, key: SessionKey, outcome: Result<OpenReport, ApiError>) {
        self.tell_signaling(move |signaling| signaling.session_opened(key, outcome));
    }

    fn tell_network(
        &self,
        network: NetworkIndex,
        message: impl FnOnce(&mut Network) + Send + 'static,
    ) {
        if let Some(network) = self.networks.get(network.0) {
            // Refused only while everything is shutting down; what waits for a reply gets an error
            // as the message is dropped.
            let _ = network.post(message);
        }
    }

    fn tell_signaling(&self, message: impl FnOnce(&mut Signaling) + Send + 'static) {
        if let Some(signaling) = &self.signaling {
            let _ = signaling.post(message);
        }
    }
}

fn publisher_is_gone() -> ApiError {
    ApiError::UnknownPublisher("just gone".to_owned())
}
