//! libwebrtc's `rtc::Thread`, of Debian's `libtgowt-dev`.

use std::ffi::c_void;
use std::time::Duration;

use super::foreign::{TaskFn, into_raw};
use super::{Handle, Peer, Timers};

#[repr(C)]
pub(crate) struct RtcThread {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    safe fn bench_rtc_count_allocations(on: bool);
    safe fn bench_rtc_allocations() -> u64;
    safe fn bench_rtc_new(sockets: bool) -> *mut RtcThread;
    fn bench_rtc_delete(thread: *mut RtcThread);
    fn bench_rtc_post(thread: *mut RtcThread, task: TaskFn, data: *mut c_void);
    fn bench_rtc_post_delayed(thread: *mut RtcThread, us: i64, task: TaskFn, data: *mut c_void);
    fn bench_rtc_blocking_call(thread: *mut RtcThread);
}

/// Switches the counting of C++ allocations.
pub(crate) fn count_allocations(on: bool) {
    bench_rtc_count_allocations(on);
}

/// Calls of C++'s `operator new` while they were counted.
pub(crate) fn allocations() -> u64 {
    bench_rtc_allocations()
}

pub(crate) struct LibwebrtcThread(RtcThreadHandle);

/// Must not be used once the thread is dropped; the workloads keep it for as long.
#[derive(Clone)]
pub(crate) struct RtcThreadHandle(*mut RtcThread);

// SAFETY: what is called through it, libwebrtc allows on any thread.
unsafe impl Send for RtcThreadHandle {}
// SAFETY: as above.
unsafe impl Sync for RtcThreadHandle {}

impl RtcThreadHandle {
    pub(crate) fn thread(&self) -> *mut RtcThread {
        self.0
    }
}

pub(crate) fn start(sockets: bool) -> Result<LibwebrtcThread, String> {
    Ok(LibwebrtcThread(RtcThreadHandle(bench_rtc_new(sockets))))
}

impl Peer for LibwebrtcThread {
    type Handle = RtcThreadHandle;

    fn handle(&self) -> RtcThreadHandle {
        self.0.clone()
    }
}

impl Drop for LibwebrtcThread {
    fn drop(&mut self) {
        // SAFETY: it is deleted once, and no workload uses a handle after that.
        unsafe { bench_rtc_delete(self.0.0) }
    }
}

impl Handle for RtcThreadHandle {
    type Timer = ();

    const TIMERS: Timers = Timers::Anywhere;
    const HAS_BLOCKING_CALL: bool = true;

    #[inline]
    fn post(&self, task: impl FnOnce() + Send + 'static) {
        let (task, data) = into_raw(task);
        // SAFETY: the thread exists, and takes the task over.
        unsafe { bench_rtc_post(self.0, task, data) }
    }

    fn blocking_call(&self) {
        // SAFETY: the thread exists.
        unsafe { bench_rtc_blocking_call(self.0) }
    }

    fn post_delayed(&self, delay: Duration, task: impl FnOnce() + Send + 'static) {
        let us = i64::try_from(delay.as_nanos().div_ceil(1_000)).unwrap_or(i64::MAX);
        let (task, data) = into_raw(task);
        // SAFETY: the thread exists, and takes the task over.
        unsafe { bench_rtc_post_delayed(self.0, us, task, data) }
    }
}
