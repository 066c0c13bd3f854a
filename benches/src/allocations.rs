//! Counts heap allocations, when asked to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static COUNTING: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// The system's allocator; counts calls of all threads while they are asked for. At other times it
/// costs one load of a flag that nobody writes, so that timings are not disturbed.
#[derive(Debug)]
pub struct CountingAllocator;

fn count() {
    if COUNTING.load(Ordering::Relaxed) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is the system allocator's; counting does not allocate.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Allocations, by Rust and by C++, of all threads while `f` runs.
pub(crate) fn during(f: impl FnOnce()) -> u64 {
    #[cfg(feature = "libwebrtc")]
    let (start_cpp, count_cpp) = (
        crate::peers::libwebrtc::allocations(),
        crate::peers::libwebrtc::count_allocations,
    );
    let start = COUNT.load(Ordering::Relaxed);
    COUNTING.store(true, Ordering::SeqCst);
    #[cfg(feature = "libwebrtc")]
    count_cpp(true);
    f();
    COUNTING.store(false, Ordering::SeqCst);
    let counted = COUNT.load(Ordering::Relaxed) - start;
    #[cfg(feature = "libwebrtc")]
    let counted = {
        count_cpp(false);
        counted + crate::peers::libwebrtc::allocations() - start_cpp
    };
    counted
}

/// Bytes of the heap that are in use, whoever allocated them.
pub(crate) fn heap_bytes() -> f64 {
    // SAFETY: it has no preconditions.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as f64
}
