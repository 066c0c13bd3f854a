//! Threads that receive boxed closures from a channel: the simplest thing that works, without
//! sockets and without timers.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::{BoxedTask, Handle, Peer};

/// A channel's sending end. `None` ends the thread.
pub(crate) trait Sender: Clone + Send + Sync + 'static {
    fn send(&self, task: Option<BoxedTask>);
}

impl Sender for mpsc::Sender<Option<BoxedTask>> {
    fn send(&self, task: Option<BoxedTask>) {
        Self::send(self, task).expect("the thread runs");
    }
}

impl Sender for crossbeam_channel::Sender<Option<BoxedTask>> {
    fn send(&self, task: Option<BoxedTask>) {
        Self::send(self, task).expect("the thread runs");
    }
}

impl Sender for tokio::sync::mpsc::UnboundedSender<Option<BoxedTask>> {
    fn send(&self, task: Option<BoxedTask>) {
        Self::send(self, task).expect("the thread runs");
    }
}

pub(crate) struct ChannelThread<S: Sender> {
    sender: S,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
pub(crate) struct ChannelHandle<S>(S);

impl<S: Sender> ChannelThread<S> {
    /// `run` receives until there is a `None`.
    pub(crate) fn start(sender: S, run: impl FnOnce() + Send + 'static) -> Self {
        Self {
            sender,
            thread: Some(std::thread::spawn(run)),
        }
    }
}

pub(crate) fn start_std() -> Result<ChannelThread<mpsc::Sender<Option<BoxedTask>>>, String> {
    let (sender, receiver) = mpsc::channel();
    Ok(ChannelThread::start(sender, move || {
        while let Ok(Some(task)) = receiver.recv() {
            let task: BoxedTask = task;
            task();
        }
    }))
}

type CrossbeamThread = ChannelThread<crossbeam_channel::Sender<Option<BoxedTask>>>;

pub(crate) fn start_crossbeam() -> Result<CrossbeamThread, String> {
    let (sender, receiver) = crossbeam_channel::unbounded();
    Ok(ChannelThread::start(sender, move || {
        while let Ok(Some(task)) = receiver.recv() {
            let task: BoxedTask = task;
            task();
        }
    }))
}

impl<S: Sender> Peer for ChannelThread<S> {
    type Handle = ChannelHandle<S>;

    fn handle(&self) -> ChannelHandle<S> {
        ChannelHandle(self.sender.clone())
    }
}

impl<S: Sender> Drop for ChannelThread<S> {
    fn drop(&mut self) {
        self.sender.send(None);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no task panics");
        }
    }
}

impl<S: Sender> Handle for ChannelHandle<S> {
    type Timer = ();

    #[inline]
    fn post(&self, task: impl FnOnce() + Send + 'static) {
        self.0.send(Some(Box::new(task)));
    }

    fn post_delayed(&self, _delay: Duration, _task: impl FnOnce() + Send + 'static) {
        unreachable!("a channel has no timers");
    }
}
