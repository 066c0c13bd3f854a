//! People who come, mute, switch and go; and what has to hold whenever they are quiet.

use std::time::Duration;

use echo_sfu::{Answer, PublisherId, SessionToken, Signaling};
use socket_server::{HostOptions, LinkHandle, LinkOptions};
use str0m::media::Direction;

use super::client::Client;
use super::random::Random;
use super::{Person, Stage, connect, room};

const ROOMS: [&str; 4] = ["red", "green", "blue", "lobby"];
/// From one packet of each kind to the next.
const PACKET_INTERVAL: Duration = Duration::from_secs(1);
/// Until those who have vanished are gone, and everything is known everywhere.
const SETTLED_AFTER: Duration = Duration::from_secs(35);
/// Long enough for some packets to get through.
const WATCHED_FOR: Duration = Duration::from_secs(10);

/// Everybody, the absent included.
pub(crate) struct Crowd<'a> {
    stage: &'a Stage,
    signaling: Signaling,
    random: Random,
    people: Vec<Member>,
    /// What has happened, with the time.
    pub(crate) trace: Vec<String>,
}

struct Member {
    person: Person,
    links: [LinkHandle; 2],
    publishing: Option<Publishing>,
    viewing: Option<Viewing>,
}

struct Publishing {
    client: Client,
    session: SessionToken,
    id: PublisherId,
    room: &'static str,
    muted: bool,
}

struct Viewing {
    client: Client,
    session: SessionToken,
    /// Of whom.
    publisher: PublisherId,
    paused: bool,
}

impl<'a> Crowd<'a> {
    pub(crate) fn new(
        stage: &'a Stage,
        signaling: Signaling,
        seed: u64,
        size: usize,
        links: &LinkOptions,
    ) -> Self {
        let member = |number| {
            let host = HostOptions::new(format!("person {number}")).links(links.clone());
            let host = stage.network.add_host(host).unwrap();
            let thread = stage
                .simulation
                .thread_on(&host, &format!("person {number}"));
            Member {
                links: [host.uplink(), host.downlink()],
                person: Person {
                    thread: thread.unwrap(),
                    ip: host.v4(),
                },
                publishing: None,
                viewing: None,
            }
        };
        Self {
            stage,
            signaling,
            random: Random::new(seed),
            people: (0..size).map(member).collect(),
            trace: Vec::new(),
        }
    }

    fn now(&self) -> Duration {
        let network = self.stage.network.time();
        network.elapsed()
    }

    fn note(&mut self, who: usize, what: &str) {
        let at = self.now().as_millis();
        self.trace.push(format!("{at} {who} {what}"));
    }

    /// Does what people do, for so long.
    pub(crate) fn live(&mut self, duration: Duration) {
        let end = self.now() + duration;
        while self.now() < end {
            let who = self.random.below(self.people.len());
            self.act(who);
            let pause = Duration::from_millis(self.random.below(6_000) as u64);
            self.stage.simulation.run_for(pause);
        }
    }

    fn act(&mut self, who: usize) {
        if self.people[who].publishing.is_none() && self.people[who].viewing.is_none() {
            match self.random.below(3) {
                0 => self.publish(who),
                1 => self.view(who),
                _ => {
                    self.publish(who);
                    self.view(who);
                }
            }
            return;
        }
        match self.random.below(12) {
            0 => self.leave(who),
            1 => self.vanish(who),
            2..4 => self.switch(who),
            4 => self.be_cut_off(who),
            5..9 => self.mute(who),
            _ => self.pause_view(who),
        }
    }

    fn publish(&mut self, who: usize) {
        let name = ROOMS[self.random.below(ROOMS.len())];
        let opened = connect(&self.people[who].person, Direction::SendOnly, |offer| {
            self.signaling.publish(room(name), None, offer)
        });
        let (
            client,
            Answer {
                session, publisher, ..
            },
        ) = opened.unwrap();
        client.send_every(PACKET_INTERVAL);
        self.people[who].publishing = Some(Publishing {
            client,
            session,
            id: publisher.unwrap(),
            room: name,
            muted: false,
        });
        self.note(who, &format!("publishes in {name}"));
    }

    /// Begins to view somebody, if there is anybody to be seen.
    fn view(&mut self, who: usize) {
        let publishers = self.people.iter().enumerate();
        let rooms = publishers.filter_map(|(number, member)| {
            let publishing = member.publishing.as_ref()?;
            (number != who).then(|| (number, publishing.room, publishing.id.clone()))
        });
        let rooms: Vec<_> = rooms.collect();
        if rooms.is_empty() {
            return;
        }
        let (whom, name, publisher) = rooms[self.random.below(rooms.len())].clone();
        let wanted = publisher.clone();
        let opened = connect(&self.people[who].person, Direction::RecvOnly, |offer| {
            self.signaling.view(room(name), Some(wanted), offer)
        });
        match opened {
            Ok((client, answer)) => {
                self.people[who].viewing = Some(Viewing {
                    client,
                    session: answer.session,
                    publisher,
                    paused: false,
                });
                self.note(who, &format!("views {whom}"));
            }
            // One who was cut off for too long is gone without knowing.
            Err(error) => self.note(who, &format!("cannot view {whom}: {}", kind(&error))),
        }
    }

    fn switch(&mut self, who: usize) {
        if let Some(viewing) = self.people[who].viewing.take() {
            // Not awaited: whatever is called next comes after it.
            drop(self.signaling.close(viewing.session));
        }
        self.view(who);
    }

    fn leave(&mut self, who: usize) {
        let member = &mut self.people[who];
        let sessions = [
            member.publishing.take().map(|own| own.session),
            member.viewing.take().map(|own| own.session),
        ];
        for session in sessions.into_iter().flatten() {
            drop(self.signaling.close(session));
        }
        self.note(who, "leaves");
    }

    fn vanish(&mut self, who: usize) {
        self.people[who].publishing = None;
        self.people[who].viewing = None;
        self.note(who, "vanishes");
    }

    fn be_cut_off(&mut self, who: usize) {
        let duration = Duration::from_millis(500 + self.random.below(5_000) as u64);
        for link in &self.people[who].links {
            link.black_out(Duration::ZERO, duration);
        }
        self.note(who, &format!("is cut off for {duration:?}"));
    }

    /// Mutes and unmutes a few times in a row, nothing of it awaited.
    fn mute(&mut self, who: usize) {
        let times = 1 + self.random.below(3);
        if let Some(publishing) = &mut self.people[who].publishing {
            for _ in 0..times {
                publishing.muted = !publishing.muted;
                set_paused(&self.signaling, &publishing.session, publishing.muted);
            }
            let what = format!("is muted: {}", publishing.muted);
            self.note(who, &what);
        }
    }

    fn pause_view(&mut self, who: usize) {
        if let Some(viewing) = &mut self.people[who].viewing {
            viewing.paused = !viewing.paused;
            set_paused(&self.signaling, &viewing.session, viewing.paused);
            let what = format!("pauses: {}", viewing.paused);
            self.note(who, &what);
        }
    }

    /// Waits until nothing is under way; then everything has to agree.
    pub(crate) fn settle_and_check(&mut self) {
        self.stage.simulation.run_for(SETTLED_AFTER);
        self.forget_orphans();
        let before = self.received();
        self.stage.simulation.run_for(WATCHED_FOR);
        let after = self.received();
        let mut lines = Vec::new();
        for (who, (before, after)) in before.into_iter().zip(after).enumerate() {
            let (Some(before), Some(after)) = (before, after) else {
                continue;
            };
            let viewing = self.people[who].viewing.as_ref().unwrap();
            let publisher = self.publisher(&viewing.publisher).unwrap();
            let flows = !viewing.paused && !publisher.muted;
            let got = [after[0] - before[0], after[1] - before[1]];
            lines.push(format!("{who} flows: {flows}"));
            assert!(
                got.iter().all(|got| (*got > 0) == flows),
                "person {who} got {got:?} packets; muted: {}, paused: {}; {:#?}",
                publisher.muted,
                viewing.paused,
                self.trace,
            );
        }
        for line in lines {
            let at = self.now().as_millis();
            self.trace.push(format!("{at} {line}"));
        }
        self.check_counts();
    }

    /// What the signaling thread knows, the workers have, the network threads have and the people
    /// believe is the same.
    fn check_counts(&mut self) {
        let stats = self.signaling.stats().wait().unwrap();
        let publishing = self.people.iter().filter(|own| own.publishing.is_some());
        let viewing = self.people.iter().filter(|own| own.viewing.is_some());
        let (publishing, viewing) = (publishing.count(), viewing.count());
        let workers = stats.workers.iter();
        let on_workers = workers.fold([0; 3], |sum, own| {
            [
                sum[0] + own.totals.transports,
                sum[1] + own.totals.producers,
                sum[2] + own.totals.consumers,
            ]
        });
        let networks = stats.network.iter();
        let on_networks = networks.fold([0; 3], |sum, own| {
            [
                sum[0] + own.transports,
                sum[1] + own.producers,
                sum[2] + own.consumers,
            ]
        });
        let expected = [publishing + viewing, 2 * publishing, 2 * viewing];
        let trace = &self.trace;
        assert_eq!(
            publishing + viewing,
            stats.sessions,
            "{stats:#?} {trace:#?}"
        );
        assert_eq!(expected, on_workers, "{stats:#?} {trace:#?}");
        assert_eq!(expected, on_networks, "{stats:#?} {trace:#?}");
        let at = self.now().as_millis();
        self.trace.push(format!("{at} there are {expected:?}"));
    }

    /// Those whose publisher has gone have been told goodbye, or would find out.
    fn forget_orphans(&mut self) {
        for who in 0..self.people.len() {
            let viewing = self.people[who].viewing.as_ref();
            if viewing.is_some_and(|own| self.publisher(&own.publisher).is_none()) {
                self.people[who].viewing = None;
                self.note(who, "is left alone");
            }
        }
    }

    fn publisher(&self, id: &PublisherId) -> Option<&Publishing> {
        let publishing = self.people.iter().filter_map(|own| own.publishing.as_ref());
        publishing.into_iter().find(|own| own.id == *id)
    }

    /// How many packets of each kind each viewer has received.
    fn received(&self) -> Vec<Option<[u64; 2]>> {
        let received = |member: &Member| {
            let viewing = member.viewing.as_ref()?;
            Some(viewing.client.seen(|seen| [seen.audio, seen.video]))
        };
        self.people.iter().map(received).collect()
    }

    /// Everybody goes, one way or another.
    pub(crate) fn go(&mut self) {
        for who in 0..self.people.len() {
            match self.random.one_in(2) {
                true => self.leave(who),
                false => self.vanish(who),
            }
        }
        self.stage.simulation.run_for(SETTLED_AFTER);
    }

    /// What the trace takes of memory.
    pub(crate) fn trace_bytes(&self) -> isize {
        let texts: usize = self.trace.iter().map(String::capacity).sum();
        (texts + self.trace.capacity() * size_of::<String>()) as isize
    }
}

fn set_paused(signaling: &Signaling, session: &SessionToken, paused: bool) {
    drop(match paused {
        true => signaling.pause(session.clone()),
        false => signaling.resume(session.clone()),
    });
}

/// The error without the random names in it.
fn kind(error: &echo_sfu::ApiError) -> String {
    let text = format!("{error:?}");
    text.split('(').next().unwrap_or_default().to_owned()
}
