//! What fails takes its own with it, and nothing else: conformance item 41, and more than can be
//! done.

#[allow(dead_code, reason = "each test uses its part of it")]
mod simulated;

use std::time::Duration;

use echo_sfu::{Answer, ApiError, Sfu, Signaling, ThreadRole};
use rtc_thread::{Event, JoinError, Reset, Simulation};
use simulated::client::Client;
use simulated::{Person, Stage, connect, good_link, is_empty, room};
use str0m::media::Direction;

const SECOND: Duration = Duration::from_secs(1);
const PACKET_INTERVAL: Duration = Duration::from_millis(100);

/// Somebody who publishes in a room, and somebody who views.
struct Pair {
    _people: [Person; 2],
    publisher: Client,
    viewer: Client,
}

fn publish(
    signaling: &Signaling,
    person: &Person,
    name: &str,
) -> Result<(Client, Answer), ApiError> {
    connect(person, Direction::SendOnly, |offer| {
        signaling.publish(room(name), None, offer)
    })
}

fn pair(stage: &Stage, signaling: &Signaling, name: &str) -> Pair {
    let people = ["publisher", "viewer"].map(|who| stage.person(who, good_link()));
    let (publisher, _) = publish(signaling, &people[0], name).unwrap();
    publisher.send_every(PACKET_INTERVAL);
    let (viewer, _) = connect(&people[1], Direction::RecvOnly, |offer| {
        signaling.view(room(name), None, offer)
    })
    .unwrap();
    Pair {
        _people: people,
        publisher,
        viewer,
    }
}

impl Pair {
    fn received(&self) -> u64 {
        self.viewer.seen(|seen| seen.audio.min(seen.video))
    }

    fn is_told_goodbye(&self) -> [bool; 2] {
        [&self.publisher, &self.viewer].map(|client| client.seen(|seen| seen.closed))
    }

    #[track_caller]
    fn check_goes_on(&self, stage: &Stage) {
        let before = self.received();
        stage.simulation.run_for(3 * SECOND);
        assert!(self.received() > before + 10, "{} packets", self.received());
        assert_eq!([false; 2], self.is_told_goodbye());
    }
}

fn stage() -> Stage {
    Stage::new(Simulation::from_env("RTC_SEED"))
}

fn sfu(stage: &Stage, workers: usize) -> Sfu {
    stage.sfu(|options| {
        options.workers = workers;
        options.network_threads = 2;
    })
}

fn fail(stage: &Stage, worker: usize) {
    let threads = stage.threads(ThreadRole::Worker);
    threads[worker].post(|| panic!("on purpose")).unwrap();
}

#[test]
fn item_41_a_worker_that_fails_ends_its_rooms_and_no_other_ones_and_is_replaced() {
    let stage = stage();
    let sfu = sfu(&stage, 2);
    let signaling = sfu.signaling();
    let (red, blue) = (
        pair(&stage, &signaling, "red"),
        pair(&stage, &signaling, "blue"),
    );
    red.check_goes_on(&stage);
    blue.check_goes_on(&stage);
    fail(&stage, 0);
    stage.simulation.run_for(SECOND / 2);
    assert_eq!([true; 2], red.is_told_goodbye());
    let gone = signaling.room(room("red")).wait();
    assert_eq!(Err(ApiError::UnknownRoom("red".to_owned())), gone);
    blue.check_goes_on(&stage);
    assert_eq!(2, signaling.stats().wait().unwrap().sessions);
    // Three seconds later, another worker is in its place. It is the one for the next room but one.
    assert_eq!(3, stage.threads(ThreadRole::Worker).len());
    let (green, red) = (
        pair(&stage, &signaling, "green"),
        pair(&stage, &signaling, "red"),
    );
    green.check_goes_on(&stage);
    red.check_goes_on(&stage);
    let stats = signaling.stats().wait().unwrap();
    assert!(
        stats.workers.iter().all(|own| own.totals.producers > 0),
        "{stats:#?}"
    );
    // That one may fail as well.
    fail(&stage, 2);
    stage.simulation.run_for(2 * SECOND);
    assert_eq!(4, stage.threads(ThreadRole::Worker).len());
    blue.check_goes_on(&stage);
    drop((red, green, blue));
    stage.simulation.run_for(30 * SECOND);
    let stats = signaling.stats().wait().unwrap();
    assert!(is_empty(&stats), "{stats:#?}");
    assert!(matches!(sfu.shutdown(), Err(JoinError::Panicked(_))));
}

#[test]
fn who_vanishes_and_who_never_connects_is_gone_within_thirty_seconds() {
    let stage = stage();
    let sfu = sfu(&stage, 1);
    let signaling = sfu.signaling();
    let people = pair(&stage, &signaling, "lobby");
    people.check_goes_on(&stage);
    let person = stage.person("somebody else", good_link());
    let (_never, offer) = Client::offer(&person, Direction::SendRecv);
    signaling.echo(offer).wait().unwrap();
    drop(people);
    assert_eq!(3, signaling.stats().wait().unwrap().sessions);
    stage.simulation.run_for(30 * SECOND);
    let stats = signaling.stats().wait().unwrap();
    assert!(is_empty(&stats), "{stats:#?}");
}

#[test]
fn item_41_rooms_go_to_workers_that_live_and_wait_if_there_is_none() {
    let stage = stage();
    let sfu = sfu(&stage, 2);
    let signaling = sfu.signaling();
    let person = stage.person("publisher", good_link());
    fail(&stage, 0);
    stage.simulation.run_for(SECOND / 10);
    for name in ["one", "two", "three"] {
        publish(&signaling, &person, name).unwrap();
    }
    fail(&stage, 1);
    stage.simulation.run_for(SECOND / 10);
    let refused = publish(&signaling, &person, "four").map(|_| ());
    assert_eq!(Err(ApiError::ShuttingDown), refused);
    assert_eq!(0, signaling.stats().wait().unwrap().sessions);
    stage.simulation.run_for(2 * SECOND);
    publish(&signaling, &person, "four").unwrap();
    let open = |offer| signaling.echo(offer);
    connect(&person, Direction::SendRecv, open).unwrap();
}

#[test]
fn a_worker_that_fails_while_sessions_are_being_opened_refuses_them() {
    for seed in 0..50 {
        let stage = Stage::new(Simulation::new(seed));
        let sfu = sfu(&stage, 1);
        let signaling = sfu.signaling();
        let person = stage.person("publisher", good_link());
        let clients: Vec<_> = (0..4)
            .map(|_| Client::offer(&person, Direction::SendRecv))
            .collect();
        let opened = clients
            .iter()
            .map(|(_, offer)| signaling.echo(offer.clone()));
        let opened: Vec<_> = opened.collect();
        let steps = seed % 10;
        let until = stage.simulation.steps() + steps;
        stage
            .simulation
            .run_until(|| stage.simulation.steps() >= until);
        fail(&stage, 0);
        stage.simulation.run_for(SECOND / 2);
        for operation in opened {
            // Those that were open by then have ended since.
            let outcome = operation.wait().map(|_| ());
            assert!(
                matches!(outcome, Ok(()) | Err(ApiError::ShuttingDown)),
                "{outcome:?}"
            );
        }
        stage.simulation.run_for(2 * SECOND);
        let stats = signaling.stats().wait().unwrap();
        assert!(is_empty(&stats), "seed {seed}: {stats:#?}");
    }
}

/// Gives a network thread something to do that takes so many seconds.
fn keep_busy(stage: &Stage, thread: usize, seconds: u32) {
    let handle = &stage.threads(ThreadRole::Network)[thread];
    for _ in 0..2 * seconds {
        let work = || {
            // Nobody sets it: other threads go on meanwhile.
            Event::new(Reset::Manual).wait_for(SECOND / 2);
        };
        handle.post(work).unwrap();
    }
}

fn echo(signaling: &Signaling, person: &Person) -> Result<(), ApiError> {
    connect(person, Direction::SendRecv, |offer| signaling.echo(offer)).map(|_| ())
}

#[test]
fn a_network_thread_that_does_not_keep_up_is_given_nobody_else() {
    let stage = stage();
    let sfu = sfu(&stage, 1);
    let signaling = sfu.signaling();
    let person = stage.person("late", good_link());
    let pair = pair(&stage, &signaling, "lobby");
    pair.check_goes_on(&stage);
    keep_busy(&stage, 0, 10);
    stage.simulation.run_for(4 * SECOND);
    let loads = || {
        let stats = signaling.stats().wait().unwrap();
        [0, 1].map(|at| stats.network[at].transports)
    };
    let before = loads();
    for _ in 0..3 {
        echo(&signaling, &person).unwrap();
    }
    assert_eq!([before[0], before[1] + 3], loads());
    stage.simulation.run_for(10 * SECOND);
    for _ in 0..3 {
        echo(&signaling, &person).unwrap();
    }
    assert!(loads()[0] > before[0], "{:?}", loads());
    pair.check_goes_on(&stage);
}

#[test]
fn while_no_network_thread_keeps_up_nobody_else_is_let_in() {
    let stage = stage();
    let sfu = stage.sfu(|_| {});
    let signaling = sfu.signaling();
    let person = stage.person("late", good_link());
    let pair = pair(&stage, &signaling, "lobby");
    pair.check_goes_on(&stage);
    // A moment of it is nothing yet.
    keep_busy(&stage, 0, 1);
    stage.simulation.run_for(2 * SECOND);
    echo(&signaling, &person).unwrap();
    keep_busy(&stage, 0, 8);
    stage.simulation.run_for(4 * SECOND);
    assert_eq!(Err(ApiError::Overloaded), echo(&signaling, &person));
    assert_eq!(3, signaling.stats().wait().unwrap().sessions);
    // Nobody who was there has been sent away for it, and when it is over, others may come.
    stage.simulation.run_for(6 * SECOND);
    pair.check_goes_on(&stage);
    echo(&signaling, &person).unwrap();
}
