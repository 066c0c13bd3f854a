//! Values that live on one thread.

use std::cell::Cell;
use std::rc::Rc;

use crossbeam_channel::{Sender, unbounded};
use rtc_thread::{CallError, Thread, ThreadBound, current};

/// Neither `Send` nor `Sync`, and tells where it is dropped.
struct Counter {
    count: Rc<Cell<u32>>,
    dropped_on: Sender<String>,
}

impl Drop for Counter {
    fn drop(&mut self) {
        let name = current().map(|thread| thread.name().to_owned());
        self.dropped_on.send(name.unwrap_or_default()).unwrap();
    }
}

fn counter(thread: &Thread, dropped_on: Sender<String>) -> ThreadBound<Counter> {
    ThreadBound::new(&thread.handle(), move || Counter {
        count: Rc::default(),
        dropped_on,
    })
    .unwrap()
}

#[test]
fn handles_can_be_sent_and_shared() {
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<ThreadBound<Rc<Cell<u32>>>>();
}

#[test]
fn a_value_is_used_in_the_order_of_the_calls_and_dropped_on_its_thread() {
    let thread = Thread::builder().name("home").spawn().unwrap();
    let (sender, dropped) = unbounded();
    let counter = counter(&thread, sender);
    assert!(!counter.thread().is_current());
    counter.post(|counter| counter.count.set(5)).unwrap();
    let doubled = counter.call(|counter| counter.count.get() * 2);
    let borrowed = 3;
    let sum = counter.blocking_call(|counter| counter.count.get() + borrowed);
    assert_eq!((Ok(10), Ok(8)), (doubled.wait(), sum));
    let clone = counter.clone();
    drop(counter);
    assert_eq!(Ok(5), clone.blocking_call(|counter| counter.count.get()));
    assert!(dropped.is_empty());
    // What goes through the handle before it is dropped still finds the value.
    let last = clone.call(|counter| counter.count.get());
    drop(clone);
    assert_eq!(Ok(5), last.wait());
    assert_eq!(Ok("home".to_owned()), dropped.recv());
}

#[test]
fn a_value_whose_thread_ends_is_dropped_there_before_its_handles() {
    let thread = Thread::builder().name("home").spawn().unwrap();
    let (sender, dropped) = unbounded();
    let counter = counter(&thread, sender);
    thread.stop().unwrap();
    assert_eq!(Ok("home".to_owned()), dropped.try_recv());
    assert_eq!(Err(CallError::Quit), counter.call(|_| ()).wait());
    assert!(counter.post(|_| ()).is_err());
}

#[test]
fn using_a_value_inside_its_own_use_is_an_error() {
    let thread = Thread::builder().spawn().unwrap();
    let (sender, _dropped) = unbounded();
    let counter = counter(&thread, sender);
    let again = counter.clone();
    let inner = counter
        .blocking_call(|_| again.blocking_call(|_| ()))
        .unwrap();
    assert_eq!(Err(CallError::Reentrant), inner);
}

#[test]
fn a_value_whose_constructor_panicked_is_gone() {
    let thread = Thread::builder()
        .panic_policy(rtc_thread::PanicPolicy::Continue)
        .spawn()
        .unwrap();
    let bound = ThreadBound::<()>::new(&thread.handle(), || panic!("on purpose")).unwrap();
    assert_eq!(Err(CallError::Gone), bound.blocking_call(|()| ()));
}

#[test]
fn a_value_can_be_bound_to_the_current_thread() {
    let thread = Thread::builder().spawn().unwrap();
    assert!(ThreadBound::on_current(1).is_none());
    let bound = thread
        .blocking_call(|| ThreadBound::on_current(1).unwrap())
        .unwrap();
    assert_eq!(Ok(1), bound.blocking_call(|value| *value));
}
