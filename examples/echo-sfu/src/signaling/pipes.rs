//! Rooms that are seen from several processes: what is published here is piped to others, and what
//! others pipe to here is in the rooms here.
//!
//! One router, the hub, has the links to other processes. A publisher's producers are piped from the
//! room's router to the hub and from there to each process; what comes from a process is piped from
//! the hub to the room's router. Only what is published here is passed on, so nothing goes in circles.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::offers::{Label, Offers};
use super::{Place, Session, SessionKey, SessionTransport, State};
use crate::objects::{
    CloseReason, Consumer, ConsumerEvent, ObjectError, PipeListener, PipeListenerEvent, Piped,
    ProducerId, RemotePipe, RemotePipeEvent, Router, RouterId, TransportId,
};
use crate::pipe_link::PipeSecret;

/// From when the hub has failed until there is another one; and between one attempt to listen and the
/// next. Its worker has been replaced by then, if it was the only one.
const REMADE_AFTER: Duration = Duration::from_secs(1);
/// From when another process has had no room for something until it is piped to it again.
pub(super) const REPIPED_AFTER: Duration = Duration::from_secs(5);
/// A process that is not there may come. Each attempt in a row waits twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const MAX_DOUBLINGS: u32 = 4;
/// A link that has been there for so long did not break because of what it was told.
const STEADY: Duration = Duration::from_secs(10);

/// What is piped to other processes, and from them.
#[derive(Debug)]
pub(crate) struct Pipes {
    /// None from when its worker has failed until it is made again.
    pub(super) hub: Option<Router>,
    /// Where others connect: the same place, whichever hub listens there.
    listen: Option<(SocketAddr, PipeSecret)>,
    listener: Option<PipeListener>,
    /// To whom everything is piped that is published here.
    to: Vec<Target>,
    /// What others pipe to here.
    pub(super) offers: Offers,
}

/// A process to which everything is piped. There is always a link to it, or an attempt under way, or
/// one to come; never two of these.
#[derive(Debug)]
struct Target {
    remote: SocketAddr,
    secret: PipeSecret,
    link: Option<Link>,
    /// Attempts in a row of which nothing came that lasted.
    failures: u32,
}

#[derive(Debug)]
struct Link {
    pipe: RemotePipe,
    since: Instant,
}

impl Target {
    /// How long the next attempt has to wait, after one more that was in vain.
    fn wait(&mut self) -> Duration {
        let wait = FIRST_WAIT * (1 << self.failures.min(MAX_DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
        wait
    }
}

impl Pipes {
    pub(crate) fn new(
        hub: Router,
        listener: Option<(PipeListener, PipeSecret)>,
        to: Vec<(SocketAddr, PipeSecret)>,
    ) -> Self {
        let (listener, secret) = listener.unzip();
        let address = listener.as_ref().map(PipeListener::local_address);
        let to = to.into_iter().map(|(remote, secret)| Target {
            remote,
            secret,
            link: None,
            failures: 0,
        });
        Self {
            hub: Some(hub),
            listen: address.zip(secret),
            listener,
            to: to.collect(),
            offers: Offers::default(),
        }
    }

    fn is_of_hub(&self, id: RouterId) -> bool {
        self.hub.as_ref().is_some_and(|hub| hub.id() == id)
    }

    pub(super) const fn has_targets(&self) -> bool {
        !self.to.is_empty()
    }

    /// The links that there are, or this one if it is there.
    pub(super) fn links_to(&self, only: Option<TransportId>) -> impl Iterator<Item = &RemotePipe> {
        let links = self.to.iter().filter_map(|target| target.link.as_ref());
        let links = links.map(|link| &link.pipe);
        links.filter(move |link| only.is_none_or(|only| link.id() == only))
    }
}

impl State {
    pub(super) fn begin_pipes(&mut self) {
        let Some(pipes) = &mut self.pipes else {
            return;
        };
        let listener = pipes.listener.take();
        self.watch_hub();
        if let Some(listener) = listener {
            self.watch_listener(listener);
        }
        let targets = self.pipes.as_ref().map_or(0, |pipes| pipes.to.len());
        for at in 0..targets {
            self.connect_to_process(at);
        }
    }

    fn watch_hub(&mut self) {
        if let (Some(pipes), Some(own)) = (&mut self.pipes, &self.own)
            && let Some(hub) = &mut pipes.hub
        {
            let id = hub.id();
            hub.events()
                .hand_to(own, move |state, _| state.hub_failed(id));
        }
    }

    /// With it went the links, which are told one by one, and what came by them.
    fn hub_failed(&mut self, id: RouterId) {
        if let Some(pipes) = self.pipes.as_mut().filter(|pipes| pipes.is_of_hub(id)) {
            tracing::error!("the worker of the pipes to other processes has failed");
            pipes.hub = None;
            pipes.listener = None;
            self.after(REMADE_AFTER, Self::remake_hub);
        }
    }

    fn remake_hub(&mut self) {
        let Some(pipes) = self.pipes.as_mut().filter(|pipes| pipes.hub.is_none()) else {
            return;
        };
        let Some(worker) = self.workers.for_hub() else {
            return self.after(REMADE_AFTER, Self::remake_hub);
        };
        pipes.hub = Some(worker.begin_router());
        self.watch_hub();
        self.listen_again();
    }

    fn listen_again(&mut self) {
        let (Some(pipes), Some(own)) = (&self.pipes, &self.own) else {
            return;
        };
        let (Some(hub), Some((bind, secret))) = (&pipes.hub, &pipes.listen) else {
            return;
        };
        let id = hub.id();
        let listening = hub.listen_for_pipes(*bind, secret.clone());
        listening.hand_to(own, move |state, outcome| {
            let is_current = state.pipes.as_ref().is_some_and(|own| own.is_of_hub(id));
            match outcome {
                _ if !is_current => {}
                Ok(listener) => state.watch_listener(listener),
                Err(error) => {
                    tracing::warn!(%error, "listening for pipes again in a while");
                    state.after(REMADE_AFTER, move |state| {
                        if state.pipes.as_ref().is_some_and(|own| own.is_of_hub(id)) {
                            state.listen_again();
                        }
                    });
                }
            }
        });
    }

    fn watch_listener(&mut self, mut listener: PipeListener) {
        if let (Some(pipes), Some(own)) = (&mut self.pipes, &self.own) {
            listener.events().hand_to(own, |state, event| {
                if let PipeListenerEvent::Connected(id) = event {
                    state.process_connected(id);
                }
            });
            pipes.listener = Some(listener);
        }
    }

    /// Another process pipes to here.
    fn process_connected(&mut self, id: TransportId) {
        if let (Some(pipes), Some(own)) = (&self.pipes, &self.own)
            && let Some(hub) = &pipes.hub
        {
            hub.remote_pipe(id).hand_to(own, |state, outcome| {
                if let (Ok(mut pipe), Some(own)) = (outcome, &state.own) {
                    let id = pipe.id();
                    pipe.events()
                        .hand_to(own, move |state, event| state.process_pipes(id, event));
                }
            });
        }
    }

    fn connect_to_process(&mut self, at: usize) {
        let (Some(pipes), Some(own)) = (&self.pipes, &self.own) else {
            return;
        };
        let Some(target) = pipes.to.get(at) else {
            return;
        };
        let Some(hub) = &pipes.hub else {
            return self.after(REMADE_AFTER, move |state| state.connect_to_process(at));
        };
        let connected = hub.connect_pipe(target.remote, target.secret.clone());
        connected.hand_to(own, move |state, outcome| state.link_made(at, outcome));
    }

    fn connect_again(&mut self, at: usize) {
        let target = self.pipes.as_mut().and_then(|pipes| pipes.to.get_mut(at));
        if let Some(target) = target {
            let wait = target.wait();
            self.after(wait, move |state| state.connect_to_process(at));
        }
    }

    fn link_made(&mut self, at: usize, outcome: Result<RemotePipe, ObjectError>) {
        let mut pipe = match outcome {
            Ok(pipe) => pipe,
            Err(error) => {
                tracing::info!(%error, "trying again in a while");
                return self.connect_again(at);
            }
        };
        let (Some(pipes), Some(own)) = (&mut self.pipes, &self.own) else {
            return;
        };
        let Some(target) = pipes.to.get_mut(at) else {
            return;
        };
        // What it says before it is kept here waits to be read.
        pipe.events().hand_to(own, move |state, event| {
            if let RemotePipeEvent::Closed(_) = event {
                state.link_broken(at);
            }
        });
        let since = rtc_thread::now();
        let new = Some(pipe.id());
        target.link = Some(Link { pipe, since });
        let sessions = self.sessions.iter();
        let local = sessions.filter(|(_, session)| !session.is_remote());
        for key in local.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.pipe_publisher(key, new);
            self.pipe_all_data(key, new);
        }
    }

    fn link_broken(&mut self, at: usize) {
        let target = self.pipes.as_mut().and_then(|pipes| pipes.to.get_mut(at));
        let Some(target) = target else {
            return;
        };
        let lasted = target.link.take().map(|link| {
            let now = rtc_thread::now();
            now.saturating_duration_since(link.since)
        });
        if lasted.is_some_and(|lasted| lasted >= STEADY) {
            target.failures = 0;
        }
        self.connect_again(at);
    }

    /// Pipes what a session publishes to every process that is there, or to a new one only.
    pub(super) fn pipe_publisher(&self, key: SessionKey, only: Option<TransportId>) {
        let (Some(pipes), Some(own)) = (&self.pipes, &self.own) else {
            return;
        };
        let Some(hub) = pipes
            .hub
            .as_ref()
            .filter(|_| pipes.links_to(only).next().is_some())
        else {
            return;
        };
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
            let piped = room.router.pipe(*producer, hub);
            piped.hand_to(own, move |state, outcome| {
                // If it is closed already, there is nothing to be piped.
                if let Ok(Piped { producer, .. }) = outcome {
                    state.pipe_to_processes(producer.id(), &label, only);
                }
            });
        }
    }

    fn pipe_to_processes(&self, producer: ProducerId, label: &str, only: Option<TransportId>) {
        let (Some(pipes), Some(own)) = (&self.pipes, &self.own) else {
            return;
        };
        for link in pipes.links_to(only) {
            let (link, piped) = (link.id(), link.pipe(producer, label));
            let label = label.to_owned();
            piped.hand_to(own, move |state, outcome| match outcome {
                Ok(consumer) => state.watch_piped(consumer, producer, link, label),
                // It may be closed already, which is as it should be.
                Err(error) => tracing::info!(%error, "something is not piped"),
            });
        }
    }

    /// What there was no room for is piped again in a while, as long as it and the link are there.
    fn watch_piped(
        &self,
        mut consumer: Consumer,
        producer: ProducerId,
        link: TransportId,
        label: String,
    ) {
        let Some(own) = &self.own else {
            return;
        };
        consumer.events().hand_to(own, move |state, event| {
            let ConsumerEvent::Closed(reason @ (CloseReason::FarEndFull | CloseReason::Refused)) =
                event
            else {
                return;
            };
            tracing::warn!(?reason, "another process does not take what is piped to it");
            if reason == CloseReason::FarEndFull {
                let label = label.clone();
                state.after(REPIPED_AFTER, move |state| {
                    state.pipe_to_processes(producer, &label, Some(link));
                });
            }
        });
    }

    /// What another process tells.
    fn process_pipes(&mut self, link: TransportId, event: RemotePipeEvent) {
        match event {
            RemotePipeEvent::Produced {
                producer,
                track,
                label,
            } => {
                if let Err(error) = self.offered(link, producer, track, &label) {
                    tracing::info!(%error, "what another process publishes is not taken");
                }
            }
            RemotePipeEvent::ProducedData { producer, label } => {
                if let Err(error) = self.data_offered(link, producer, &label) {
                    tracing::info!(%error, "data of another process is not taken");
                }
            }
            RemotePipeEvent::Closed(_) => self.all_withdrawn(link),
        }
    }

    /// Has the signaling thread do something in a while.
    pub(super) fn after(&self, wait: Duration, act: impl FnOnce(&mut Self) + Send + 'static) {
        if let Some(own) = &self.own {
            // Refused only when the thread is quitting.
            drop(own.post_delayed(wait, act));
        }
    }
}

impl Session {
    pub(super) fn is_remote(&self) -> bool {
        matches!(self.transport, Some(SessionTransport::Remote(_)))
    }
}
