//! What the application is sent, until it reads it: as much as fits.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

/// How much a mailbox holds.
const MAX_ITEMS: usize = 4_096;
const MAX_BYTES: usize = 8 << 20;

/// What arrives for the application, in order. It holds 4096 items and 8 MiB; what does not fit is
/// counted and lost, since whoever brings it waits for nobody.
pub struct Mailbox<T>(Arc<Mutex<Content<T>>>);

/// Where things are put into a [`Mailbox`].
pub(crate) struct MailboxWriter<T>(Arc<Mutex<Content<T>>>);

struct Content<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    overflowed: u64,
    /// Whoever waits for the next.
    reader: Option<Waker>,
    has_reader: bool,
    has_writer: bool,
}

/// An empty mailbox.
pub(crate) fn mailbox<T>() -> (MailboxWriter<T>, Mailbox<T>) {
    let content = Arc::new(Mutex::new(Content {
        items: VecDeque::new(),
        bytes: 0,
        overflowed: 0,
        reader: None,
        has_reader: true,
        has_writer: true,
    }));
    (MailboxWriter(content.clone()), Mailbox(content))
}

impl<T> Mailbox<T> {
    /// The next item, if there is one. Does not block.
    pub fn try_next(&mut self) -> Option<T> {
        self.0.lock().take()
    }

    /// The next item, once there is one; `None` when all are read and nothing more can come. For any
    /// executor.
    pub async fn next(&mut self) -> Option<T> {
        poll_fn(|context| {
            let mut content = self.0.lock();
            match content.take() {
                Some(item) => Poll::Ready(Some(item)),
                None if !content.has_writer => Poll::Ready(None),
                None => {
                    content.reader = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// All that is there.
    pub fn drain(&mut self) -> Vec<T> {
        std::iter::from_fn(|| self.try_next()).collect()
    }

    /// How many items did not fit, and are lost.
    pub fn overflowed(&self) -> u64 {
        self.0.lock().overflowed
    }
}

impl<T> Content<T> {
    fn take(&mut self) -> Option<T> {
        let (item, bytes) = self.items.pop_front()?;
        self.bytes -= bytes;
        Some(item)
    }
}

impl<T> MailboxWriter<T> {
    /// Puts something in. False if it does not fit, or nobody will ever read it.
    pub(crate) fn put(&self, item: T, bytes: usize) -> bool {
        let mut content = self.0.lock();
        let fits = content.items.len() < MAX_ITEMS && content.bytes + bytes <= MAX_BYTES;
        if !fits {
            content.overflowed += 1;
        }
        if !fits || !content.has_reader {
            return false;
        }
        content.bytes += bytes;
        content.items.push_back((item, bytes));
        let reader = content.reader.take();
        drop(content);
        if let Some(reader) = reader {
            reader.wake();
        }
        true
    }
}

impl<T> Drop for Mailbox<T> {
    fn drop(&mut self) {
        let mut content = self.0.lock();
        content.has_reader = false;
        content.bytes = 0;
        let items = std::mem::take(&mut content.items);
        drop(content);
        drop(items);
    }
}

impl<T> Drop for MailboxWriter<T> {
    fn drop(&mut self) {
        let mut content = self.0.lock();
        content.has_writer = false;
        let reader = content.reader.take();
        drop(content);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("waiting", &self.0.lock().items.len())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for MailboxWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailboxWriter").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        let (writer, mut mailbox) = mailbox();
        for number in 0..MAX_ITEMS {
            assert!(writer.put(number, 1));
        }
        assert!(!writer.put(0, 1));
        assert_eq!((Some(0), 1), (mailbox.try_next(), mailbox.overflowed()));
        assert!(!writer.put(0, MAX_BYTES));
        assert!(writer.put(0, 1));
        assert_eq!(
            (MAX_ITEMS, 2),
            (mailbox.drain().len(), mailbox.overflowed())
        );
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let (writer, reader) = mailbox();
        assert!(writer.put(1, 1));
        drop(reader);
        assert!(!writer.put(2, 1));
        assert!(writer.0.lock().items.is_empty());
    }
}
