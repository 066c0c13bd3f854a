//! Tasks in a row, filled at one end and run at the other.

use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::Location;

use crate::task::Task;

/// A FIFO that is filled as a whole, then emptied as a whole, and then filled again: the two that a
/// thread's inbox and its owner swap. Tasks run where they lie.
#[derive(Default)]
pub(crate) struct TaskBuffer {
    /// Those before `next` have been run or taken.
    tasks: Vec<ManuallyDrop<Task>>,
    next: usize,
}

/// Fewer places than that are left until the buffer is empty.
const WORTH_MOVING: usize = 64;

impl TaskBuffer {
    pub(crate) const fn new() -> Self {
        Self {
            tasks: Vec::new(),
            next: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len() - self.next
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.next == self.tasks.len()
    }

    /// How many have been run or taken since it was empty.
    pub(crate) fn taken(&self) -> usize {
        self.next
    }

    #[inline]
    pub(crate) fn push(&mut self, task: Task) {
        self.tasks.push(ManuallyDrop::new(task));
    }

    /// Where the task was posted that comes next.
    #[inline]
    pub(crate) fn next_location(&self) -> Option<&'static Location<'static>> {
        self.tasks.get(self.next).map(|task| task.location())
    }

    /// Runs the next task. If it panics, it counts as run.
    #[inline]
    pub(crate) fn run_next(&mut self) {
        if let Some(task) = self.tasks.get_mut(self.next) {
            self.next += 1;
            // SAFETY: only tasks before `next` have been run or taken, and this one is from now on.
            unsafe { Task::run_in_place(task) };
        }
    }

    /// Takes the next task out. Used for one task at a time, the buffer may never be empty; so the
    /// space of those taken is won back when they are the larger part.
    pub(crate) fn pop(&mut self) -> Option<Task> {
        let task = self.tasks.get_mut(self.next)?;
        self.next += 1;
        // SAFETY: only tasks before `next` have been run or taken, and this one is from now on.
        let task = unsafe { ManuallyDrop::take(task) };
        if self.is_empty() {
            self.reset();
        } else if self.next >= WORTH_MOVING && self.next > self.len() {
            self.tasks.drain(..self.next);
            self.next = 0;
        }
        Some(task)
    }

    /// Makes an empty buffer one to be filled from the start.
    pub(crate) fn reset(&mut self) {
        debug_assert!(self.is_empty());
        self.tasks.clear();
        self.next = 0;
    }
}

impl Drop for TaskBuffer {
    fn drop(&mut self) {
        while let Some(task) = self.pop() {
            drop(task);
        }
    }
}

impl fmt::Debug for TaskBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskBuffer({} tasks)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn each_task_runs_or_is_dropped_once() {
        let count = Arc::new(());
        let mut buffer = TaskBuffer::new();
        for n in 0..10 {
            let count = count.clone();
            buffer.push(Task::new(move || {
                let _count = &count;
                assert_ne!(2, n, "on purpose");
            }));
        }
        assert_eq!((11, 10), (Arc::strong_count(&count), buffer.len()));
        buffer.run_next();
        buffer.run_next();
        assert!(catch_unwind(AssertUnwindSafe(|| buffer.run_next())).is_err());
        assert_eq!(
            (8, 7, 3),
            (Arc::strong_count(&count), buffer.len(), buffer.taken())
        );
        buffer.pop().unwrap().run();
        assert!(
            buffer
                .next_location()
                .unwrap()
                .file()
                .ends_with("task_buffer.rs")
        );
        drop(buffer.pop());
        assert_eq!((6, 5), (Arc::strong_count(&count), buffer.len()));
        drop(buffer);
        assert_eq!(1, Arc::strong_count(&count));
    }

    #[test]
    fn a_buffer_that_is_never_empty_does_not_grow() {
        let mut buffer = TaskBuffer::new();
        let count = Arc::new(());
        let push = |buffer: &mut TaskBuffer| {
            let count = count.clone();
            buffer.push(Task::new(move || drop(count)));
        };
        push(&mut buffer);
        for _ in 0..100_000 {
            push(&mut buffer);
            buffer.pop().unwrap().run();
        }
        assert_eq!((1, 2), (buffer.len(), Arc::strong_count(&count)));
        assert!(buffer.tasks.capacity() <= 4 * WORTH_MOVING);
    }

    #[test]
    fn an_empty_buffer_starts_anew_in_the_same_memory() {
        let mut buffer = TaskBuffer::new();
        for _ in 0..3 {
            for _ in 0..100 {
                buffer.push(Task::new(|| {}));
            }
            let capacity = buffer.tasks.capacity();
            while !buffer.is_empty() {
                buffer.run_next();
            }
            buffer.run_next();
            buffer.reset();
            assert_eq!((0, capacity), (buffer.len(), buffer.tasks.capacity()));
        }
    }
}
