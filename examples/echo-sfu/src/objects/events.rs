//! What an object tells the application.

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use crossbeam_channel::{Receiver, Sender, TryRecvError, never, unbounded};
use parking_lot::Mutex;
use rtc_thread::ThreadBound;

/// Why an object was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The application called `close`.
    Called,
    /// The producer that it depends on was closed: mediasoup's `producerclose`, or
    /// `dataproducerclose`.
    ProducerClosed,
    /// The producer that it fed in another router was closed, or its router was.
    FarEndClosed,
    /// The other process has as much piped to it already as it takes by one link.
    FarEndFull,
    /// Its transport was closed: `transportclose`.
    TransportClosed,
    /// Its router was closed: `routerclose`.
    RouterClosed,
    /// Its client said goodbye, or has vanished.
    Disconnected,
    /// Its client has closed the data channel.
    ChannelClosed,
    /// More waits for its client than can be kept, on a data channel that promises all of it.
    Undeliverable,
    /// It was not to be had after all: the offer could not be answered.
    Refused,
    /// Its worker was closed, or has failed: `workerclose`.
    WorkerClosed,
}

/// As many wait for whoever does not read them.
const MAX_UNREAD: usize = 1_024;
/// Of those that come by the packet, fewer: the others must find room.
const MAX_UNREAD_BEFORE_TRACES: usize = MAX_UNREAD / 2;

/// The events of one object, in the order in which they happened. They wait here until they are
/// read, so none is missed, and none comes before the object. The last one says that the object was
/// closed, and why.
///
/// If a thousand are unread, [more](Self::missed) are not kept, but for that last one; how the object
/// is, it can still be asked. Traces are not kept from half of that on, so that they push nothing else
/// out.
pub struct Events<E> {
    receiver: Receiver<Item<E>>,
    /// What to say if the object's thread is gone without a word.
    worker_closed: Option<E>,
    /// Tells the object that somebody may read them.
    reader: Arc<Reader>,
}

/// Who waits for an event.
#[derive(Debug, Default)]
struct Reader {
    waker: Mutex<Option<Waker>>,
    missed: AtomicUsize,
}

impl Reader {
    fn wake(&self) {
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<E: Clone> Events<E> {
    fn ended() -> Self {
        Self {
            receiver: never(),
            worker_closed: None,
            reader: Arc::default(),
        }
    }

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

    /// How many events were not kept, because too many were unread.
    pub fn missed(&self) -> usize {
        self.reader.missed.load(Ordering::Relaxed)
    }

    /// The next event, once there is one; `None` after the last. For any executor.
    pub async fn next(&mut self) -> Option<E> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<E>> {
        // First, lest an event slip through between the look and the wait.
        *self.reader.waker.lock() = Some(context.waker().clone());
        match self.try_next() {
            Some(event) => Poll::Ready(Some(event)),
            None if self.worker_closed.is_none() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Has each event handled on a thread, those that wait already first. None comes here any more.
    pub fn hand_to<S: 'static>(
        &mut self,
        target: &ThreadBound<S>,
        handle: impl Fn(&mut S, E) + Send + Sync + 'static,
    ) where
        E: Send + 'static,
    {
        let hand_over = HandOver {
            events: Mutex::new(std::mem::replace(self, Self::ended())),
            target: target.clone(),
            handle: Arc::new(handle),
        };
        Arc::new(hand_over).wake();
    }

    /// All the events there are.
    pub fn drain(&mut self) -> Vec<E> {
        std::iter::from_fn(|| self.try_next()).collect()
    }
}

type Handle<S, E> = Arc<dyn Fn(&mut S, E) + Send + Sync>;

/// Passes events on to a thread, from within whatever thread they come from.
struct HandOver<S: 'static, E> {
    events: Mutex<Events<E>>,
    target: ThreadBound<S>,
    handle: Handle<S, E>,
}

impl<S: 'static, E: Clone + Send + 'static> Wake for HandOver<S, E> {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        // Held while events are passed on, so that they are in order.
        let mut events = self.events.lock();
        while let Poll::Ready(Some(event)) = events.poll_next(&mut Context::from_waker(&waker)) {
            let handle = self.handle.clone();
            // A thread that has quit wants to know no more.
            let _ = self.target.post(move |state| handle(state, event));
        }
        if events.worker_closed.is_none() {
            // Nothing will come that could wake this.
            events.reader.waker.lock().take();
        }
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
pub(super) struct EventSink<E>(Vec<(Sender<Item<E>>, Weak<Reader>)>);

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
        let reader = Arc::new(Reader::default());
        self.0.retain(|(_, reader)| reader.strong_count() > 0);
        self.0.push((sender, Arc::downgrade(&reader)));
        Events {
            receiver,
            worker_closed: Some(CloseReason::WorkerClosed.into()),
            reader,
        }
    }

    pub(super) fn send(&mut self, event: E) {
        self.put(event, MAX_UNREAD, false);
    }

    /// A trace: there may be any number of them, and none says how the object is.
    pub(super) fn send_trace(&mut self, event: E) {
        self.put(event, MAX_UNREAD_BEFORE_TRACES, false);
    }

    /// The last event.
    pub(super) fn close(&mut self, reason: CloseReason) {
        self.put(reason.into(), usize::MAX, true);
        self.0.clear();
    }

    fn put(&mut self, event: E, most_unread: usize, is_last: bool) {
        self.0.retain(|(sender, reader)| {
            let Some(reader) = reader.upgrade() else {
                return false;
            };
            if sender.len() >= most_unread {
                reader.missed.fetch_add(1, Ordering::Relaxed);
                return true;
            }
            let event = event.clone();
            let sent = sender.send(Item { event, is_last }).is_ok();
            reader.wake();
            sent
        });
    }
}

impl<E> Drop for EventSink<E> {
    /// The object's thread is gone without a word: that, too, is an event.
    fn drop(&mut self) {
        for (sender, reader) in self.0.drain(..) {
            drop(sender);
            if let Some(reader) = reader.upgrade() {
                reader.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{ProducerEvent, Trace};

    #[test]
    fn what_nobody_reads_does_not_grow_and_the_end_is_told_all_the_same() {
        let (mut sink, mut events) = EventSink::new();
        for _ in 0..MAX_UNREAD + 10 {
            sink.send(ProducerEvent::Paused);
        }
        sink.close(CloseReason::Called);
        let read = events.drain();
        assert_eq!(MAX_UNREAD + 1, read.len());
        assert_eq!(10, events.missed());
        let last = ProducerEvent::Closed(CloseReason::Called);
        assert_eq!(Some(&last), read.last());
        assert_eq!(None, events.try_next());
    }

    #[test]
    fn traces_that_nobody_reads_leave_room_for_what_else_happens() {
        let (mut sink, mut events) = EventSink::new();
        for _ in 0..MAX_UNREAD {
            sink.send_trace(ProducerEvent::Trace(Trace::Pli));
        }
        sink.send(ProducerEvent::Paused);
        assert_eq!(MAX_UNREAD - MAX_UNREAD_BEFORE_TRACES, events.missed());
        let read = events.drain();
        assert_eq!(MAX_UNREAD_BEFORE_TRACES + 1, read.len());
        assert_eq!(Some(&ProducerEvent::Paused), read.last());
    }

    #[test]
    fn an_object_whose_thread_is_gone_says_so_once() {
        let (sink, mut events) = EventSink::<ProducerEvent>::new();
        drop(sink);
        let last = ProducerEvent::Closed(CloseReason::WorkerClosed);
        assert_eq!(vec![last], events.drain());
        assert_eq!(None, events.try_next());
    }
}
