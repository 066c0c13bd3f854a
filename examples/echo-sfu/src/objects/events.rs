//! What an object tells the application.

use std::fmt;
use std::sync::{Arc, Weak};

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};

/// Why an object was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The application called `close`.
    Called,
    /// The producer that it depends on was closed: mediasoup's `producerclose`.
    ProducerClosed,
    /// The producer that it fed in another router was closed, or its router was.
    FarEndClosed,
    /// Its transport was closed: `transportclose`.
    TransportClosed,
    /// Its router was closed: `routerclose`.
    RouterClosed,
    /// Its worker was closed, or has failed: `workerclose`.
    WorkerClosed,
}

/// The events of one object, in the order in which they happened. They wait here until they are
/// read, so none is missed, and none comes before the object. The last one says that the object was
/// closed, and why.
pub struct Events<E> {
    receiver: Receiver<Item<E>>,
    /// What to say if the object's thread is gone without a word.
    worker_closed: Option<E>,
    /// Tells the object that somebody may read them.
    _read: Arc<()>,
}

impl<E: Clone> Events<E> {
    /// The next event, if there is one.
    pub fn try_next(&mut self) -> Option<E> {
        match self.receiver.try_recv() {
            Ok(Item { event, is_last }) => {
                if is_last {
                    self.worker_closed = None;
                }
                Some(event)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => self.worker_closed.take(),
        }
    }

    /// All the events there are.
    pub fn drain(&mut self) -> Vec<E> {
        std::iter::from_fn(|| self.try_next()).collect()
    }
}

#[derive(Debug)]
struct Item<E> {
    event: E,
    is_last: bool,
}

impl<E> fmt::Debug for Events<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("waiting", &self.receiver.len())
            .finish_non_exhaustive()
    }
}

/// Where an object puts its events: for everyone who has a handle to it.
#[derive(Debug)]
pub(super) struct EventSink<E>(Vec<(Sender<Item<E>>, Weak<()>)>);

impl<E: From<CloseReason> + Clone> EventSink<E> {
    /// A sink, and where its events are read.
    pub(super) fn new() -> (Self, Events<E>) {
        let mut sink = Self(Vec::new());
        let events = sink.subscribe();
        (sink, events)
    }

    /// A sink for an object that no application has a handle to.
    pub(super) const fn unheard() -> Self {
        Self(Vec::new())
    }

    /// Another place where the events from here on are read.
    pub(super) fn subscribe(&mut self) -> Events<E> {
        let (sender, receiver) = unbounded();
        let read = Arc::new(());
        self.0.retain(|(_, read)| read.strong_count() > 0);
        self.0.push((sender, Arc::downgrade(&read)));
        Events {
            receiver,
            worker_closed: Some(CloseReason::WorkerClosed.into()),
            _read: read,
        }
    }

    pub(super) fn send(&mut self, event: E) {
        self.put(event, false);
    }

    /// The last event.
    pub(super) fn close(&mut self, reason: CloseReason) {
        self.put(reason.into(), true);
        self.0.clear();
    }

    fn put(&mut self, event: E, is_last: bool) {
        self.0.retain(|(sender, _)| {
            let event = event.clone();
            sender.send(Item { event, is_last }).is_ok()
        });
    }
}
