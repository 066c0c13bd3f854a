//! What one writes first on top of mio: a queue under a lock, and a wake-up for every post.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};

use super::{BoxedTask, Handle, Peer};

pub(crate) struct MioThread {
    handle: MioHandle,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
pub(crate) struct MioHandle(Arc<Shared>);

struct Shared {
    queue: Mutex<VecDeque<BoxedTask>>,
    waker: Waker,
    quit: AtomicBool,
}

impl Shared {
    fn next(&self) -> Option<BoxedTask> {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }
}

pub(crate) fn start() -> Result<MioThread, String> {
    let mut poll = Poll::new().map_err(|error| error.to_string())?;
    let shared = Arc::new(Shared {
        queue: Mutex::default(),
        waker: Waker::new(poll.registry(), Token(0)).map_err(|error| error.to_string())?,
        quit: AtomicBool::new(false),
    });
    let handle = MioHandle(shared.clone());
    let thread = std::thread::spawn(move || {
        let mut events = Events::with_capacity(256);
        while !shared.quit.load(Ordering::Relaxed) {
            while let Some(task) = shared.next() {
                task();
            }
            // Interrupted by a signal, it goes round again.
            let _ = poll.poll(&mut events, None);
        }
    });
    Ok(MioThread {
        handle,
        thread: Some(thread),
    })
}

impl Peer for MioThread {
    type Handle = MioHandle;

    fn handle(&self) -> MioHandle {
        self.handle.clone()
    }
}

impl Drop for MioThread {
    fn drop(&mut self) {
        self.handle.0.quit.store(true, Ordering::Relaxed);
        self.handle.post(|| ());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no task panics");
        }
    }
}

impl Handle for MioHandle {
    type Timer = ();

    #[inline]
    fn post(&self, task: impl FnOnce() + Send + 'static) {
        self.0
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(Box::new(task));
        self.0.waker.wake().expect("an eventfd can be written");
    }

    fn post_delayed(&self, _delay: Duration, _task: impl FnOnce() + Send + 'static) {
        unreachable!("this loop has no timers");
    }
}
