//! The scenario, its variants, and what must hold after each of them.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use echo_sfu::Operation;
use echo_sfu::objects::{
    CloseReason, Consumer, ConsumerEvent, ConsumerOptions, DirectTransport, ObjectError, Piped,
    Producer, ProducerEvent, ProducerOptions, Router, Worker,
};
use rtc_thread::{Simulation, Thread, ThreadHandle};

/// Which scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// As in the forum: everything called in a row, nothing awaited.
    Founding,
    /// The same calls, by people who do not know of each other: one mutes and unmutes, one views,
    /// one pipes.
    Independent,
    /// Independent, and somebody closes the producer.
    ProducerCloses,
    /// Independent, and somebody closes the transport that it comes in on.
    TransportCloses,
    /// Independent, and somebody closes the router that it is piped to.
    FarRouterCloses,
    /// Independent, and somebody closes the router that it comes in on.
    NearRouterCloses,
    /// Three routers on three workers, each piped from the one before.
    Chain,
    /// Two routers, on workers of their own, piped from the first.
    Star,
    /// Piped twice to the same router at once.
    Twice,
}

impl Variant {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Founding,
        Self::Independent,
        Self::ProducerCloses,
        Self::TransportCloses,
        Self::FarRouterCloses,
        Self::NearRouterCloses,
        Self::Chain,
        Self::Star,
        Self::Twice,
    ];
}

impl Variant {
    /// How many objects there are in the end, if nobody closes any.
    fn complete(self) -> Option<usize> {
        match self {
            Self::Founding => Some(6),
            Self::Independent => Some(5),
            Self::Chain | Self::Star | Self::Twice => Some(7),
            Self::ProducerCloses
            | Self::TransportCloses
            | Self::FarRouterCloses
            | Self::NearRouterCloses => None,
        }
    }
}

/// One row of the table of states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Which object.
    pub(crate) what: String,
    /// Whether it is paused; none if it is closed.
    pub(crate) paused: Option<bool>,
    /// What it has been through, the beginning included.
    pub(crate) history: Vec<bool>,
    /// Why it was closed.
    pub(crate) closed: Option<CloseReason>,
}

/// The objects of one run.
#[derive(Default)]
struct Stage {
    producers: Vec<(String, Producer)>,
    consumers: Vec<(String, Consumer)>,
}

type Shared = Arc<Mutex<Stage>>;

/// A router on a worker of its own, and a transport of it.
struct Place {
    _thread: Thread,
    router: Arc<Router>,
    transport: Arc<DirectTransport>,
}

fn place(simulation: &Simulation, number: usize) -> Place {
    let thread = simulation.thread(&format!("worker {number}")).unwrap();
    let worker = Worker::new(&thread).unwrap();
    let router = worker.create_router().wait().unwrap();
    let transport = router.create_direct_transport().wait().unwrap();
    Place {
        _thread: thread,
        router: Arc::new(router),
        transport: Arc::new(transport),
    }
}

/// Runs one interleaving of a scenario; returns the states once nothing is under way.
pub(crate) fn run(simulation: &Simulation, variant: Variant) -> Vec<Row> {
    let places: Vec<_> = (1..=3).map(|number| place(simulation, number)).collect();
    let source = places[0].transport.produce(ProducerOptions::new()).wait();
    let source = Arc::new(source.unwrap());
    let stage = Shared::default();
    let people = People {
        simulation,
        stage: stage.clone(),
        source: source.clone(),
        places: &places,
        threads: RefCell::default(),
    };
    people.act(variant);
    simulation.run_until_idle();
    drop(people);
    let mut rows = Vec::new();
    let source = Arc::try_unwrap(source).expect("nobody acts any more");
    let mut stage = stage.lock().unwrap();
    let mut producers = vec![("source".to_owned(), source)];
    producers.append(&mut stage.producers);
    for (what, mut producer) in producers {
        let status = producer.status().wait().ok();
        rows.push(row_of_producer(
            what,
            status.map(|status| status.paused),
            &mut producer,
        ));
    }
    for (what, mut consumer) in stage.consumers.drain(..) {
        let status = consumer.status().wait().ok();
        let paused = status.map(|status| status.producer_paused);
        rows.push(row_of_consumer(what, paused, &mut consumer));
    }
    rows
}

/// Those who act, each on a thread of their own.
struct People<'a> {
    simulation: &'a Simulation,
    stage: Shared,
    source: Arc<Producer>,
    places: &'a [Place],
    threads: RefCell<Vec<Thread>>,
}

impl People<'_> {
    fn act(&self, variant: Variant) {
        match variant {
            Variant::Founding => {
                let (stage, source) = (self.stage.clone(), self.source.clone());
                let transport = self.places[0].transport.clone();
                let pipe = self.piping(0, 1, "piped");
                self.person("application", move || {
                    drop(source.resume());
                    let id = source.id();
                    for number in 1..=2 {
                        let options = ConsumerOptions::new();
                        let name = format!("consumer {number}");
                        keep_consumer(&stage, name, transport.consume(id, options));
                    }
                    drop(source.pause());
                    pipe();
                    drop(source.resume());
                });
            }
            Variant::Independent => self.independent(1),
            Variant::ProducerCloses => {
                self.independent(1);
                let source = self.source.clone();
                self.person("closer", move || drop(source.close()));
            }
            Variant::TransportCloses => {
                self.independent(1);
                let transport = self.places[0].transport.clone();
                self.person("closer", move || drop(transport.close()));
            }
            Variant::FarRouterCloses => {
                self.independent(1);
                let router = self.places[1].router.clone();
                self.person("closer", move || drop(router.close()));
            }
            Variant::NearRouterCloses => {
                self.independent(1);
                let router = self.places[0].router.clone();
                self.person("closer", move || drop(router.close()));
            }
            Variant::Chain => {
                self.mute_and_unmute();
                let onward = self.piping_on(1, 2, "chained");
                let (stage, source) = (self.stage.clone(), self.source.clone());
                let (from, to) = self.routers(0, 1);
                let transport = self.places[1].transport.clone();
                self.person("piper", move || {
                    let piped = from.pipe(source.id(), &to);
                    let done = rtc_thread::spawn_local(async move {
                        let Ok(piped) = piped.await else { return };
                        onward(&piped);
                        keep_piped(&stage, "piped", piped, &transport);
                    });
                    drop(done.expect("on a thread"));
                });
            }
            Variant::Star => {
                self.mute_and_unmute();
                self.person("piper", self.piping(0, 1, "piped"));
                self.person("other piper", self.piping(0, 2, "other piped"));
            }
            Variant::Twice => {
                self.mute_and_unmute();
                self.person("piper", self.piping(0, 1, "piped"));
                self.person("other piper", self.piping(0, 1, "piped again"));
            }
        }
    }

    fn independent(&self, to: usize) {
        self.mute_and_unmute();
        self.person("piper", self.piping(0, to, "piped"));
        let (stage, source) = (self.stage.clone(), self.source.clone());
        let transport = self.places[0].transport.clone();
        self.person("viewer", move || {
            let consumed = transport.consume(source.id(), ConsumerOptions::new());
            keep_consumer(&stage, "consumer".to_owned(), consumed);
        });
    }

    fn mute_and_unmute(&self) {
        let source = self.source.clone();
        let again = source.clone();
        let speaker = self.person("speaker", move || drop(source.pause()));
        // Whether this is before or after whatever else happens, is explored.
        speaker.post(move || drop(again.resume())).unwrap();
    }

    fn routers(&self, from: usize, to: usize) -> (Arc<Router>, Arc<Router>) {
        (
            self.places[from].router.clone(),
            self.places[to].router.clone(),
        )
    }

    /// Pipes the source, and consumes it there once that is done.
    fn piping(&self, from: usize, to: usize, name: &'static str) -> impl FnOnce() + Send + 'static {
        let (stage, source) = (self.stage.clone(), self.source.clone());
        let (from, router) = self.routers(from, to);
        let transport = self.places[to].transport.clone();
        move || {
            let piped = from.pipe(source.id(), &router);
            let done = rtc_thread::spawn_local(async move {
                if let Ok(piped) = piped.await {
                    keep_piped(&stage, name, piped, &transport);
                }
            });
            drop(done.expect("on a thread"));
        }
    }

    /// Pipes what was piped on to a third router.
    fn piping_on(
        &self,
        from: usize,
        to: usize,
        name: &'static str,
    ) -> impl Fn(&Piped) + Send + 'static {
        let stage = self.stage.clone();
        let (from, router) = self.routers(from, to);
        let transport = self.places[to].transport.clone();
        move |piped| {
            let further = from.pipe(piped.producer.id(), &router);
            let (stage, transport) = (stage.clone(), transport.clone());
            let done = rtc_thread::spawn_local(async move {
                if let Ok(piped) = further.await {
                    keep_piped(&stage, name, piped, &transport);
                }
            });
            drop(done.expect("on a thread"));
        }
    }

    /// Somebody does something, on a thread of their own.
    fn person(&self, name: &str, action: impl FnOnce() + Send + 'static) -> ThreadHandle {
        let thread = self.simulation.thread(name).unwrap();
        let handle = thread.handle();
        handle.post(action).unwrap();
        self.threads.borrow_mut().push(thread);
        handle
    }
}

fn keep_consumer(stage: &Shared, name: String, consumed: Operation<Consumer, ObjectError>) {
    let stage = stage.clone();
    let kept = rtc_thread::spawn_local(async move {
        // Refused if what it was to consume had been closed before.
        if let Ok(consumer) = consumed.await {
            stage.lock().unwrap().consumers.push((name, consumer));
        }
    });
    drop(kept.expect("on a thread"));
}

/// Keeps both ends of a pipe, and consumes it at the far one.
fn keep_piped(stage: &Shared, name: &str, piped: Piped, transport: &DirectTransport) {
    let consumed = transport.consume(piped.producer.id(), ConsumerOptions::new());
    keep_consumer(stage, format!("consumer of {name}"), consumed);
    let mut stage = stage.lock().unwrap();
    stage.producers.push((name.to_owned(), piped.producer));
    stage
        .consumers
        .push((format!("pipe to {name}"), piped.consumer));
}

fn row_of_producer(what: String, paused: Option<bool>, producer: &mut Producer) -> Row {
    let mut row = Row {
        what,
        paused,
        history: Vec::new(),
        closed: None,
    };
    for event in producer.events().drain() {
        match event {
            ProducerEvent::Paused => row.history.push(true),
            ProducerEvent::Resumed => row.history.push(false),
            ProducerEvent::Closed(reason) => row.closed = Some(reason),
            _ => {}
        }
    }
    row
}

fn row_of_consumer(what: String, paused: Option<bool>, consumer: &mut Consumer) -> Row {
    let mut row = Row {
        what,
        paused,
        history: vec![consumer.producer_was_paused()],
        closed: None,
    };
    for event in consumer.events().drain() {
        match event {
            ConsumerEvent::ProducerPaused => row.history.push(true),
            ConsumerEvent::ProducerResumed => row.history.push(false),
            ConsumerEvent::Closed(reason) => row.closed = Some(reason),
            _ => {}
        }
    }
    row
}

/// What is wrong with the states, if anything.
pub(crate) fn disagreement(variant: Variant, rows: &[Row]) -> Option<String> {
    if let Some(complete) = variant.complete()
        && (rows.len() != complete || rows.iter().any(|row| row.closed.is_some()))
    {
        return Some(format!("something is missing or closed:\n{rows:#?}"));
    }
    let (source, dependents) = rows.split_first()?;
    for row in dependents {
        let both = format!("{source:?}\n{row:?}");
        if source.closed.is_some() && row.closed.is_none() {
            return Some(format!("it outlives its source:\n{both}"));
        }
        if row.closed.is_some() != row.paused.is_none() {
            return Some(format!("it is closed, or not:\n{both}"));
        }
        if row.closed.is_none() && row.paused != source.paused {
            return Some(format!("it is not what its source is:\n{both}"));
        }
        if row.closed.is_none()
            && row
                .history
                .last()
                .is_some_and(|last| Some(*last) != row.paused)
        {
            return Some(format!("its events tell something else:\n{both}"));
        }
        // The source began unpaused.
        let mut of_source = std::iter::once(false).chain(source.history.iter().copied());
        let is_subsequence = row
            .history
            .iter()
            .all(|state| of_source.any(|other| other == *state));
        if !is_subsequence {
            return Some(format!(
                "it has been through what its source has not:\n{both}"
            ));
        }
    }
    None
}
