//! libuv as programs use it from other threads: a queue under a lock, and `uv_async_send`.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::foreign::{TaskFn, into_raw};
use super::{BoxedTask, Handle, Peer, Timers};

#[repr(C)]
pub(crate) struct Uv {
    _opaque: [u8; 0],
}

#[repr(C)]
struct UvTimer {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn bench_uv_new(drain: unsafe extern "C" fn(*mut c_void), data: *mut c_void) -> *mut Uv;
    fn bench_uv_send(uv: *mut Uv);
    fn bench_uv_run(uv: *mut Uv);
    fn bench_uv_stop(uv: *mut Uv);
    fn bench_uv_free(uv: *mut Uv);
    fn bench_uv_timer_start(uv: *mut Uv, ms: u64, task: TaskFn, data: *mut c_void) -> *mut UvTimer;
    fn bench_uv_timer_cancel(timer: *mut UvTimer);
}

type Queue = Mutex<VecDeque<BoxedTask>>;

pub(crate) struct UvThread {
    handle: UvHandle,
    thread: Option<JoinHandle<()>>,
}

/// Must not be used once the thread is dropped; the workloads keep it for as long.
#[derive(Clone)]
pub(crate) struct UvHandle {
    uv: *mut Uv,
    queue: Arc<Queue>,
}

// SAFETY: `uv_async_send` may be called on any thread, and the rest is called on the loop's.
unsafe impl Send for UvHandle {}
// SAFETY: as above.
unsafe impl Sync for UvHandle {}

pub(crate) struct Timer(*mut UvTimer);

// SAFETY: it is used on the loop's thread only.
unsafe impl Send for Timer {}

impl UvHandle {
    pub(crate) fn uv(&self) -> *mut Uv {
        self.uv
    }
}

unsafe extern "C" fn drain(queue: *mut c_void) {
    // SAFETY: `start` gave it a queue that outlives the loop.
    let queue = unsafe { &*queue.cast::<Queue>() };
    let tasks = std::mem::take(&mut *queue.lock().unwrap_or_else(PoisonError::into_inner));
    tasks.into_iter().for_each(|task| task());
}

pub(crate) fn start() -> Result<UvThread, String> {
    let queue = Arc::new(Queue::default());
    let (started, wait) = sync_channel(1);
    let of_loop = queue.clone();
    let thread = std::thread::spawn(move || {
        let data = Arc::as_ptr(&of_loop).cast_mut().cast();
        // SAFETY: the queue lives until this thread ends, the loop does not outlive that.
        let uv = unsafe { bench_uv_new(drain, data) };
        let queue = of_loop.clone();
        started
            .send(UvHandle { uv, queue })
            .expect("the starter waits");
        // SAFETY: it is a loop, and this is its thread.
        unsafe { bench_uv_run(uv) };
    });
    let handle = wait.recv().map_err(|error| error.to_string())?;
    Ok(UvThread {
        handle,
        thread: Some(thread),
    })
}

impl Peer for UvThread {
    type Handle = UvHandle;

    fn handle(&self) -> UvHandle {
        self.handle.clone()
    }
}

impl Drop for UvThread {
    fn drop(&mut self) {
        let handle = self.handle.clone();
        self.handle.post(move || {
            let handle = handle;
            // SAFETY: this is the loop's thread.
            unsafe { bench_uv_stop(handle.uv) }
        });
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no task panics");
        }
        // SAFETY: nobody runs the loop any more; no workload uses a handle after that. It is freed
        // here and not there, because the post above may still be inside `uv_async_send` when the
        // loop ends.
        unsafe { bench_uv_free(self.handle.uv) }
    }
}

impl Handle for UvHandle {
    type Timer = Timer;

    const TIMERS: Timers = Timers::OwnThread;
    const CANCELS: bool = true;

    #[inline]
    fn post(&self, task: impl FnOnce() + Send + 'static) {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(Box::new(task));
        // SAFETY: the loop exists.
        unsafe { bench_uv_send(self.uv) }
    }

    fn post_delayed(&self, delay: Duration, task: impl FnOnce() + Send + 'static) -> Timer {
        let ms = u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let (task, data) = into_raw(task);
        // SAFETY: the caller is on the loop's thread (`Timers::OwnThread`).
        Timer(unsafe { bench_uv_timer_start(self.uv, ms, task, data) })
    }

    fn cancel(timer: Timer) {
        // SAFETY: the caller is on the loop's thread, and the timer has not run.
        unsafe { bench_uv_timer_cancel(timer.0) }
    }
}
