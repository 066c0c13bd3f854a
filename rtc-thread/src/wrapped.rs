//! The current OS thread as one of ours.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::future;
use crate::handle::ThreadHandle;
use crate::run_loop::{LoopEnd, RunLoop};

/// A thread that was there before: `main`, say, or one that a foreign framework made. Others post
/// to it as to any thread; its owner decides when it runs what they posted.
///
/// Made by [`Builder::wrap_current`](crate::Builder::wrap_current). When it is dropped, the OS
/// thread is as before; tasks that wait are dropped, here, and later posts refused.
///
/// libwebrtc: `Thread::WrapCurrent()`, `UnwrapCurrent()`.
///
/// ```
/// use rtc_thread::Thread;
///
/// let main = Thread::builder().name("main").wrap_current()?;
/// let handle = main.handle();
/// let worker = Thread::builder().name("worker").spawn()?;
/// worker.post(move || {
///     handle.post(|| println!("back on main")).expect("main is wrapped");
///     handle.quit();
/// })?;
/// main.run(); // until told to quit
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct WrappedThread {
    handle: ThreadHandle,
    run_loop: Rc<RefCell<RunLoop>>,
}

impl WrappedThread {
    pub(crate) fn new(handle: ThreadHandle, run_loop: Rc<RefCell<RunLoop>>) -> Self {
        Self { handle, run_loop }
    }

    /// A way for others to reach the thread.
    pub fn handle(&self) -> ThreadHandle {
        self.handle.clone()
    }

    /// Runs tasks and serves sockets until the thread is told to quit and has done what was ready.
    ///
    /// libwebrtc: `ProcessMessages(kForever)`, `Run()`.
    ///
    /// # Panics
    ///
    /// If called from within one of its own tasks. And if a task panics and the thread's
    /// [`PanicPolicy`](crate::PanicPolicy) is to end: the thread ends, and the panic goes on here.
    pub fn run(&self) {
        self.run_until(None);
    }

    /// Runs tasks and serves sockets for so long. With zero: what is ready, as far as one
    /// [`Budget`](crate::Budget) goes, and one look at the sockets. Returns `false` if the thread was told to quit, and has done what was ready.
    ///
    /// libwebrtc: `ProcessMessages`.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_for(&self, duration: Duration) -> bool {
        let deadline = crate::delayed::due_after(Instant::now(), duration);
        self.run_until(Some(deadline)) == LoopEnd::TimeUp
    }

    fn run_until(&self, deadline: Option<Instant>) -> LoopEnd {
        let Ok(mut run_loop) = self.run_loop.try_borrow_mut() else {
            panic!("the loop of a thread was run from within one of its own tasks");
        };
        match run_loop.run(deadline) {
            Ok(end) => end,
            Err(panic) => {
                run_loop.end();
                drop(run_loop);
                resume_unwind(panic)
            }
        }
    }

    /// Takes a quit back: posts are accepted again, and the loop may be run again. Delayed tasks
    /// that were waiting when the thread was told to quit are still there.
    ///
    /// libwebrtc: `Restart()`.
    pub fn restart(&self) {
        self.handle.inbox().reopen();
        future::wake_all();
    }
}

impl Deref for WrappedThread {
    type Target = ThreadHandle;

    fn deref(&self) -> &ThreadHandle {
        &self.handle
    }
}

impl Drop for WrappedThread {
    fn drop(&mut self) {
        // Borrowed only while a panic of a task passes through; its tasks go with the loop then.
        if let Ok(mut run_loop) = self.run_loop.try_borrow_mut() {
            run_loop.end();
        }
    }
}

impl fmt::Debug for WrappedThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WrappedThread")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
