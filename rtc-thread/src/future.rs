//! Futures on a thread: polled by its tasks, woken by posts, timed by its own timers.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::bound::next_object_key;
use crate::call::{Call, Reply, reply};
use crate::current::{self, current};
use crate::delayed::{Precision, due_after};
use crate::error::{CallError, panic_message};
use crate::handle::{DelayedTask, ThreadHandle};
use crate::task::Task;

/// The caller is on none of our threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoCurrentThread;

impl fmt::Display for NoCurrentThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the caller is on none of our threads")
    }
}

impl Error for NoCurrentThread {}

impl ThreadHandle {
    /// Makes a future on the thread, and runs it there. The future need not be `Send`.
    ///
    /// Enqueued now, like a [`call`](Self::call). It is polled by tasks of the thread, and whoever
    /// wakes it posts one; so it takes turns with all the others. Dropping the returned handle
    /// cancels nothing.
    ///
    /// If the future panics, the handle gets [`CallError::Panicked`], and the thread is not affected.
    /// If the thread quits first, the future is dropped there, and the handle gets
    /// [`CallError::Quit`].
    #[track_caller]
    pub fn spawn<M, F>(&self, make: M) -> Call<F::Output>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        let (reply, call) = reply();
        // Refused by a thread that has quit; the reply in it says so.
        drop(self.post(move || start(make(), reply)));
        call.owed_by(self.clone())
    }
}

/// Polls all futures of the current thread: it has been deaf for a while.
pub(crate) fn wake_all() {
    let objects = current::with_context(|context| context.objects()).unwrap_or_default();
    for object in objects {
        if let Some(spawned) = object.downcast_ref::<Spawned>() {
            spawned.waker.wake_by_ref();
        }
    }
}

/// Runs a future on the current thread. See [`ThreadHandle::spawn`]; here the result need not be
/// `Send` either.
///
/// # Errors
///
/// The caller is on none of our threads.
pub fn spawn_local<F>(future: F) -> Result<Call<F::Output>, NoCurrentThread>
where
    F: Future + 'static,
{
    let thread = current().ok_or(NoCurrentThread)?;
    let (reply, call) = reply();
    start(future, reply);
    Ok(call.owed_by(thread))
}

/// Keeps the future among the objects of the current thread, and has it polled.
fn start<F: Future + 'static>(future: F, reply: Reply<F::Output>) {
    let key = next_object_key();
    current::with_context(|context| {
        let waker = Arc::new(PostingWaker {
            thread: context.handle().clone(),
            key,
            is_posted: AtomicBool::new(false),
        });
        let spawned = Spawned {
            run: RefCell::new(Some(Box::pin(Run {
                future: Box::pin(future),
                reply: Some(reply),
            }))),
            waker: waker.clone(),
        };
        context.insert_object(key, Rc::new(spawned));
        waker.wake();
    });
}

struct Spawned {
    /// Taken out while it is polled.
    run: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>,
    waker: Arc<PostingWaker>,
}

/// Posts a task that polls, unless one is on its way.
struct PostingWaker {
    thread: ThreadHandle,
    key: u64,
    is_posted: AtomicBool,
}

impl Wake for PostingWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_posted.swap(true, Ordering::AcqRel) {
            let key = self.key;
            if self.thread.post(move || poll(key)).is_err() {
                // The thread has quit. Where it is restarted, the future is polled anew.
                self.is_posted.store(false, Ordering::Release);
            }
        }
    }
}

fn poll(key: u64) {
    let object = current::with_context(|context| context.object(key)).flatten();
    let Some(spawned) = object.and_then(|object| object.downcast::<Spawned>().ok()) else {
        return;
    };
    // Before the poll: whoever wakes it from now on has something new to say.
    spawned.waker.is_posted.store(false, Ordering::Release);
    let Some(mut run) = spawned.run.borrow_mut().take() else {
        return;
    };
    let waker = Waker::from(spawned.waker.clone());
    match run.as_mut().poll(&mut Context::from_waker(&waker)) {
        Poll::Pending => *spawned.run.borrow_mut() = Some(run),
        Poll::Ready(()) => {
            let object = current::with_context(|context| context.remove_object(key));
            drop(object);
        }
    }
}

/// A future whose result, or panic, goes into a reply.
struct Run<F: Future> {
    future: Pin<Box<F>>,
    reply: Option<Reply<F::Output>>,
}

impl<F: Future> Future for Run<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let future = self.future.as_mut();
        let outcome = match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(payload) => {
                let message = panic_message(&*payload).to_owned();
                tracing::error!(message, "a spawned future panicked");
                Err(CallError::Panicked(message))
            }
        };
        if let Some(reply) = self.reply.take() {
            match outcome {
                Ok(output) => reply.send(output),
                Err(error) => reply.fail(error),
            }
        }
        Poll::Ready(())
    }
}

/// Completes when `duration` has passed, never earlier, by the clock and the timers of the current
/// thread.
///
/// # Panics
///
/// When polled, if the caller is on none of our threads.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(due_after(crate::now(), duration))
}

/// Completes when a moment has come. See [`sleep`].
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep {
        deadline,
        timer: None,
    }
}

/// The future of [`sleep`]. Dropped before its time, it leaves nothing behind.
#[must_use = "futures do nothing unless polled"]
pub struct Sleep {
    deadline: Instant,
    timer: Option<(DelayedTask, Call<()>)>,
}

impl Sleep {
    /// When it completes.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.timer.is_none() {
            let thread = current().expect("`sleep` is polled on one of our threads");
            let delay = self
                .deadline
                .saturating_duration_since(thread.clock().now());
            if delay.is_zero() {
                return Poll::Ready(());
            }
            let (reply, call) = reply();
            let task = Task::new(move || reply.send(()));
            match thread.post_delayed_task(delay, Precision::High, task) {
                Ok(timer) => self.timer = Some((timer, call)),
                // The thread ends, and the future with it.
                Err(_) => return Poll::Pending,
            }
        }
        match &mut self.timer {
            Some((_, call)) => match Pin::new(call).poll(context) {
                Poll::Ready(Ok(())) => {
                    self.timer = None;
                    Poll::Ready(())
                }
                Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
            },
            None => Poll::Pending,
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((timer, _)) = self.timer.take() {
            drop(timer.cancel());
        }
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep")
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// Ticks at once, and then every `period`. A tick that is late comes at once; if the next one is due
/// by then as well, it is left out.
///
/// # Panics
///
/// If the period is zero.
pub fn interval(period: Duration) -> Interval {
    assert!(!period.is_zero(), "an interval without a length");
    Interval {
        next: crate::now(),
        period,
    }
}

/// Made by [`interval`].
#[derive(Debug)]
pub struct Interval {
    next: Instant,
    period: Duration,
}

impl Interval {
    /// Waits for the next tick, and returns the moment at which it was due.
    ///
    /// # Panics
    ///
    /// If the caller is on none of our threads.
    pub async fn tick(&mut self) -> Instant {
        let due = self.next;
        sleep_until(due).await;
        self.next = due_after(due, self.period);
        let late = crate::now().saturating_duration_since(self.next);
        let left_out = late.as_nanos() / self.period.as_nanos();
        if !late.is_zero() {
            let skipped = u32::try_from(left_out + 1).unwrap_or(u32::MAX);
            self.next = due_after(self.next, self.period.saturating_mul(skipped));
        }
        due
    }
}
