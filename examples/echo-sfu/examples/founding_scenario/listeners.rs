//! A model of the design that has the fault: state here, listeners there.
//!
//! One application thread, as in Node.js, and two media workers that it sends requests to. Each
//! object in the application has its own `paused`, which changes when a reply or a notification
//! comes. To pipe is: a consumer here; a producer there, paused as the source is at this moment; and
//! then listeners, for the changes to come. Each step awaits a reply of a worker, and whatever the
//! application does meanwhile goes on. Later, the design got a second look at the source before the
//! listeners, and one more request if it has changed; which leaves a smaller window, not none.

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;

use rtc_thread::{Simulation, Thread, ThreadHandle, reply};

/// What the application knows.
#[derive(Debug, Default)]
struct Application {
    source_paused: bool,
    pipe_consumer_paused: bool,
    pipe_producer_paused: bool,
    is_listening: bool,
}

#[derive(Clone)]
struct Model {
    state: Rc<RefCell<Application>>,
    near: ThreadHandle,
    far: ThreadHandle,
    looks_twice: bool,
}

impl Model {
    /// A request to a worker, which only takes its time, and its reply.
    async fn request(&self, worker: &ThreadHandle) {
        let (done, answered) = reply();
        worker.post(move || done.send(())).expect("it runs");
        answered.await.expect("it answers");
    }

    async fn set_source_paused(self, paused: bool) {
        self.request(&self.near).await;
        self.state.borrow_mut().source_paused = paused;
        // The worker notifies the consumer, which tells its listeners, if there are any yet.
        self.request(&self.near).await;
        self.state.borrow_mut().pipe_consumer_paused = paused;
        if self.state.borrow().is_listening {
            self.set_pipe_producer_paused(paused).await;
        }
    }

    async fn set_pipe_producer_paused(&self, paused: bool) {
        self.request(&self.far).await;
        self.state.borrow_mut().pipe_producer_paused = paused;
    }

    async fn pipe(self) {
        self.request(&self.near).await;
        let snapshot = self.state.borrow().source_paused;
        self.state.borrow_mut().pipe_consumer_paused = snapshot;
        self.request(&self.far).await;
        self.state.borrow_mut().pipe_producer_paused = snapshot;
        let now = self.state.borrow().source_paused;
        if self.looks_twice && now != snapshot {
            self.set_pipe_producer_paused(now).await;
        }
        self.state.borrow_mut().is_listening = true;
    }
}

/// Runs one interleaving; returns whether source and piped producer are paused in the end.
fn run(simulation: &Simulation, looks_twice: bool) -> (bool, bool) {
    let thread = |name: &str| -> Thread { simulation.thread(name).expect("a name") };
    let (application, near, far) = (
        thread("application"),
        thread("near worker"),
        thread("far worker"),
    );
    let (to_near, to_far) = (near.handle(), far.handle());
    let (result, told) = reply();
    application
        .post(move || {
            let model = Model {
                state: Rc::default(),
                near: to_near,
                far: to_far,
                looks_twice,
            };
            // Called in a row, none of them awaited.
            let mut calls = vec![
                rtc_thread::spawn_local(model.clone().set_source_paused(true)),
                rtc_thread::spawn_local(model.clone().pipe()),
                rtc_thread::spawn_local(model.clone().set_source_paused(false)),
            ];
            if looks_twice {
                let again = model.clone().set_source_paused(true);
                calls.push(rtc_thread::spawn_local(again));
            }
            let all = async move {
                for call in calls {
                    let _ = call.expect("on a thread").await;
                }
                let state = model.state.borrow();
                result.send((state.source_paused, state.pipe_producer_paused));
            };
            drop(rtc_thread::spawn_local(all).expect("on a thread"));
        })
        .expect("it runs");
    simulation.run_until_idle();
    told.wait().expect("everything has been done")
}

/// What exploring the model has found.
struct Found {
    runs: u64,
    is_complete: bool,
    wrong: u64,
    /// The first that ended wrong: its number, and the two states.
    first: Option<(u64, bool, bool)>,
}

fn explore(interleavings: u64, looks_twice: bool) -> Found {
    let mut found = Found {
        runs: 0,
        is_complete: false,
        wrong: 0,
        first: None,
    };
    let explored = Simulation::explore(interleavings, |simulation| {
        found.runs += 1;
        let (source, piped) = run(simulation, looks_twice);
        if source != piped {
            found.wrong += 1;
            found.first.get_or_insert((found.runs, source, piped));
        }
    });
    found.is_complete = explored.is_complete;
    found
}

/// Explores the model, and shows what it finds.
pub(crate) fn show(interleavings: u64) -> ExitCode {
    let mut outcome = ExitCode::SUCCESS;
    let designs = [
        (false, "pause, pipe, resume; listeners"),
        (
            true,
            "pause, pipe, resume, pause; a second look, then listeners",
        ),
    ];
    for (looks_twice, name) in designs {
        let found = explore(interleavings, looks_twice);
        let all = match found.is_complete {
            true => ", all there are",
            false => "",
        };
        let (runs, wrong) = (found.runs, found.wrong);
        println!("{name}:\n  {runs} interleavings{all}; {wrong} of them end wrong");
        match found.first {
            Some((number, source, piped)) => {
                println!("  the first, number {number}, with these states for good:");
                println!("    source paused          {source}");
                println!("    piped producer paused  {piped}");
            }
            None => {
                println!("  the fault was not found");
                outcome = ExitCode::FAILURE;
            }
        }
    }
    outcome
}
