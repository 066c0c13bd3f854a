//! tokio's current-thread runtime on a thread of its own, in both ways in which one gives it work.

use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{self, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::channel::ChannelThread;
use super::{BoxedTask, Handle, Peer, Timers};

fn runtime() -> Result<Runtime, String> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
}

/// A task that receives closures from an unbounded channel.
pub(crate) fn start_mpsc() -> Result<ChannelThread<mpsc::UnboundedSender<Option<BoxedTask>>>, String>
{
    let runtime = runtime()?;
    let (sender, mut receiver) = mpsc::unbounded_channel();
    Ok(ChannelThread::start(sender, move || {
        runtime.block_on(async {
            while let Some(Some(task)) = receiver.recv().await {
                let task: BoxedTask = task;
                task();
            }
        });
    }))
}

/// One spawned future per closure.
pub(crate) struct SpawnThread {
    handle: SpawnHandle,
    quit: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
pub(crate) struct SpawnHandle(runtime::Handle);

pub(crate) fn start_spawn() -> Result<SpawnThread, String> {
    let runtime = runtime()?;
    let (quit, quitting) = oneshot::channel();
    Ok(SpawnThread {
        handle: SpawnHandle(runtime.handle().clone()),
        quit: Some(quit),
        thread: Some(std::thread::spawn(move || {
            // Told to quit, or its owner is gone: it ends in either case.
            let _ = runtime.block_on(quitting);
        })),
    })
}

impl Peer for SpawnThread {
    type Handle = SpawnHandle;

    fn handle(&self) -> SpawnHandle {
        self.handle.clone()
    }
}

impl Drop for SpawnThread {
    fn drop(&mut self) {
        self.quit = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no task panics");
        }
    }
}

impl Handle for SpawnHandle {
    type Timer = AbortHandle;

    const TIMERS: Timers = Timers::Anywhere;
    const CANCELS: bool = true;

    #[inline]
    fn post(&self, task: impl FnOnce() + Send + 'static) {
        self.0.spawn(async move { task() });
    }

    fn post_delayed(&self, delay: Duration, task: impl FnOnce() + Send + 'static) -> AbortHandle {
        self.0
            .spawn(async move {
                tokio::time::sleep(delay).await;
                task();
            })
            .abort_handle()
    }

    fn cancel(timer: AbortHandle) {
        timer.abort();
    }
}
