//! Rust closures for code that knows a function and a pointer.

use std::ffi::{c_int, c_void};

/// Runs the closure if `run` is not zero, and frees it in any case. To be called once.
pub(crate) type TaskFn = unsafe extern "C" fn(data: *mut c_void, run: c_int);

/// Takes a closure apart: the one allocation is the closure itself.
pub(crate) fn into_raw<F: FnOnce() + Send + 'static>(task: F) -> (TaskFn, *mut c_void) {
    unsafe extern "C" fn call<F: FnOnce()>(data: *mut c_void, run: c_int) {
        // SAFETY: the pointer is that of `into_raw`, for the same `F`, and each is used once.
        let task = unsafe { Box::from_raw(data.cast::<F>()) };
        if run != 0 {
            task();
        }
    }
    (call::<F>, Box::into_raw(Box::new(task)).cast())
}
