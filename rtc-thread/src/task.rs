//! A one-shot closure on its way to a thread, stored without an allocation when it is small.
//!
//! This is the only module of the crate with `unsafe` code besides the lifetime erasure of
//! [`blocking_call`](crate::ThreadHandle::blocking_call). What it earns: a post of up to
//! [`INLINE_CAPTURE_BYTES`] of captures allocates nothing, where a boxed closure costs one
//! allocation on the poster and one deallocation on the owner, which contend for the allocator.

use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit, align_of, size_of};
use std::panic::Location;

/// Captures up to this many bytes, aligned to no more than a pointer, are stored in the task.
///
/// With the two words a task needs for itself, a task fills one 64-byte cache line.
pub const INLINE_CAPTURE_BYTES: usize = INLINE_WORDS * size_of::<usize>();

const INLINE_WORDS: usize = 6;

type Storage = MaybeUninit<[usize; INLINE_WORDS]>;

/// How to consume a closure of a type that only the constructor knew.
struct VTable {
    /// Moves the closure out of the storage and calls it.
    call: unsafe fn(*mut Storage),
    /// Drops the closure where it lies.
    drop: unsafe fn(*mut Storage),
}

/// A closure to be run once, on the thread it is posted to, and the place in the source that
/// posted it.
///
/// libwebrtc: `absl::AnyInvocable<void() &&>`, which stores 16 bytes inline.
pub struct Task {
    vtable: &'static VTable,
    location: &'static Location<'static>,
    storage: Storage,
}

// SAFETY: both constructors require (`new` by its bound, `new_unchecked` by its contract) that the
// closure may be moved to another thread; the rest of the fields are shared references to statics.
unsafe impl Send for Task {}

impl Task {
    /// Wraps a closure. Allocates only if its captures exceed [`INLINE_CAPTURE_BYTES`] or are
    /// aligned to more than a pointer.
    #[track_caller]
    pub fn new<F>(closure: F) -> Self
    where
        F: FnOnce() + Send + 'static,
    {
        // SAFETY: the bounds are the contract.
        unsafe { Self::new_unchecked(closure) }
    }

    /// As [`Task::new`], as if made elsewhere.
    #[inline]
    pub(crate) fn at<F>(closure: F, location: &'static Location<'static>) -> Self
    where
        F: FnOnce() + Send + 'static,
    {
        // SAFETY: the bounds are the contract.
        unsafe { Self::make(closure, location) }
    }

    /// Whether [`Task::new`] allocates for such a closure.
    pub(crate) const fn is_inline<F>() -> bool {
        fits_inline::<F>()
    }

    /// As [`Task::new`], for a closure that borrows.
    ///
    /// # Safety
    ///
    /// The closure must be sound to send to another thread, and everything it borrows must outlive
    /// the moment at which the task has been run or dropped.
    #[track_caller]
    pub(crate) unsafe fn new_unchecked<F: FnOnce()>(closure: F) -> Self {
        // SAFETY: the contract is the same.
        unsafe { Self::make(closure, Location::caller()) }
    }

    /// # Safety
    ///
    /// As for [`Task::new_unchecked`].
    #[inline]
    unsafe fn make<F: FnOnce()>(closure: F, location: &'static Location<'static>) -> Self {
        let mut storage = Storage::uninit();
        let vtable = if const { fits_inline::<F>() } {
            // SAFETY: the storage is large and aligned enough for `F`, as just checked.
            unsafe { storage.as_mut_ptr().cast::<F>().write(closure) };
            const {
                &VTable {
                    call: call_inline::<F>,
                    drop: drop_inline::<F>,
                }
            }
        } else {
            let boxed = Box::into_raw(Box::new(closure));
            // SAFETY: a thin pointer fits the storage.
            unsafe { storage.as_mut_ptr().cast::<*mut F>().write(boxed) };
            const {
                &VTable {
                    call: call_boxed::<F>,
                    drop: drop_boxed::<F>,
                }
            }
        };
        Self {
            vtable,
            location,
            storage,
        }
    }

    /// Runs the closure on the calling thread.
    ///
    /// A [`PostError`](crate::PostError) hands a refused task back; its poster may run it so.
    pub fn run(self) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: the storage holds the closure this vtable was made for. `call` moves it out, and
        // `ManuallyDrop` keeps `Drop` from touching it again, also when the closure panics.
        unsafe { (this.vtable.call)(&raw mut this.storage) }
    }

    /// Runs the closure where it lies: it is moved once, onto the stack of its call.
    ///
    /// # Safety
    ///
    /// The task must not have been run or dropped before, and must not be used after.
    #[inline]
    pub(crate) unsafe fn run_in_place(this: &mut ManuallyDrop<Self>) {
        // SAFETY: the storage holds the closure this vtable was made for. `call` moves it out before
        // it runs it, and by contract nobody looks at it again, also if it panics.
        unsafe { (this.vtable.call)(&raw mut this.storage) }
    }

    /// The same task, as if made elsewhere.
    pub(crate) fn with_location(mut self, location: &'static Location<'static>) -> Self {
        self.location = location;
        self
    }

    /// Where the task was made: the call of `post` in the poster's source.
    pub fn location(&self) -> &'static Location<'static> {
        self.location
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // SAFETY: `run` forgets the task, so the storage still holds the closure.
        unsafe { (self.vtable.drop)(&raw mut self.storage) }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task(posted at {})", self.location)
    }
}

const fn fits_inline<F>() -> bool {
    size_of::<F>() <= INLINE_CAPTURE_BYTES && align_of::<F>() <= align_of::<usize>()
}

/// # Safety
///
/// `storage` holds an `F` written inline, which is not used again.
unsafe fn call_inline<F: FnOnce()>(storage: *mut Storage) {
    // SAFETY: by contract.
    let closure = unsafe { storage.cast::<F>().read() };
    closure();
}

/// # Safety
///
/// As for [`call_inline`].
unsafe fn drop_inline<F>(storage: *mut Storage) {
    // SAFETY: by contract.
    unsafe { storage.cast::<F>().drop_in_place() }
}

/// # Safety
///
/// `storage` holds a pointer from `Box::<F>::into_raw`, which is not used again.
unsafe fn call_boxed<F: FnOnce()>(storage: *mut Storage) {
    // SAFETY: by contract.
    let closure = unsafe { Box::from_raw(storage.cast::<*mut F>().read()) };
    closure();
}

/// # Safety
///
/// As for [`call_boxed`].
unsafe fn drop_boxed<F>(storage: *mut Storage) {
    // SAFETY: by contract.
    drop(unsafe { Box::from_raw(storage.cast::<*mut F>().read()) });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts how often it was dropped.
    struct Tally(Arc<AtomicUsize>);

    impl Drop for Tally {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn with_ballast<const N: usize>() {
        let drops = Arc::new(AtomicUsize::new(0));
        let runs = Arc::new(AtomicUsize::new(0));
        let make = || {
            let (tally, runs, ballast) = (Tally(drops.clone()), runs.clone(), [7u8; N]);
            Task::new(move || {
                let _tally = &tally;
                assert!(ballast.iter().all(|byte| *byte == 7));
                runs.fetch_add(1, Ordering::Relaxed);
            })
        };
        make().run();
        assert_eq!(
            (1, 1),
            (runs.load(Ordering::Relaxed), drops.load(Ordering::Relaxed))
        );
        drop(make());
        assert_eq!(
            (1, 2),
            (runs.load(Ordering::Relaxed), drops.load(Ordering::Relaxed))
        );
    }

    #[test]
    fn captures_are_dropped_once_inline_and_boxed() {
        with_ballast::<0>();
        with_ballast::<32>();
        with_ballast::<33>();
        with_ballast::<4096>();
    }

    #[test]
    fn captures_are_dropped_when_the_closure_panics() {
        let drops = Arc::new(AtomicUsize::new(0));
        let tally = Tally(drops.clone());
        let task = Task::new(move || {
            let _tally = &tally;
            panic!("on purpose");
        });
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task.run())).is_err());
        assert_eq!(1, drops.load(Ordering::Relaxed));
    }

    #[test]
    fn over_aligned_captures_are_boxed() {
        #[repr(align(64))]
        struct Aligned(u8);
        let value = Aligned(3);
        Task::new(move || {
            let value = &value;
            assert_eq!(0, (&raw const *value).addr() % 64);
            assert_eq!(3, value.0);
        })
        .run();
    }

    #[test]
    fn a_task_is_one_cache_line_and_knows_its_maker() {
        assert_eq!(64, size_of::<Task>());
        let task = Task::new(|| {});
        assert!(task.location().file().ends_with("task.rs"));
    }
}
