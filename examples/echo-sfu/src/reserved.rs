//! Room for what is on its way from one thread to another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of a bounded whole; given back when dropped, wherever that is.
#[derive(Debug)]
pub(crate) struct Reserved {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Reserved {
    /// `None` if it would be more than `most` in all.
    pub(crate) fn new(all: &Arc<AtomicUsize>, bytes: usize, most: usize) -> Option<Self> {
        let before = all.fetch_add(bytes, Ordering::Relaxed);
        // Dropped, and so given back, if it is too much.
        let own = Self {
            all: all.clone(),
            bytes,
        };
        (before + bytes <= most).then_some(own)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_so_much_room_and_no_more_until_some_is_given_back() {
        const MOST: usize = 100;
        let all = Arc::<AtomicUsize>::default();
        let reserve = |bytes| Reserved::new(&all, bytes, MOST);
        let first = reserve(MOST - 1).unwrap();
        assert!(reserve(2).is_none());
        let second = reserve(1).unwrap();
        drop(first);
        assert!(reserve(2).is_some());
        drop(second);
        assert_eq!(0, all.load(Ordering::Relaxed));
    }
}
