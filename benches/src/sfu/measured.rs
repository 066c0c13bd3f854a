//! What was measured of one system, and the figures that come of it.

use serde_json::{Value, json};

use super::Case;
use super::media::PACKETS_PER_FRAME;
use crate::measures::Measures;

pub(super) const CPU: &str = "CPU µs per packet";
pub(super) const P50: &str = "p50 ms";
pub(super) const P99: &str = "p99 ms";
pub(super) const P99_IN_FRAMES: &str = "p99 ÷ fan-out";
pub(super) const LOST: &str = "lost %";

/// Times are in seconds.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) wall: f64,
    /// Processor time of the system.
    pub(super) cpu: f64,
    /// Packets that were to come out, and that did.
    pub(super) expected: f64,
    pub(super) arrived: f64,
    /// From the publisher's send to the viewer's kernel: at the median, at 99 and at 99.9 per cent.
    pub(super) latency: [f64; 3],
    pub(super) clients: Option<Clients>,
}

/// What there is only with real clients.
#[derive(Debug)]
pub(super) struct Clients {
    /// Of those that arrived, packets that the system had to send again.
    pub(super) repaired: f64,
    /// Their own processor time, of all of them.
    pub(super) cpu: f64,
    /// From a viewer's first request to its first packet, at the median and at 99 per cent.
    pub(super) join: [f64; 2],
    /// What a viewer takes of the system's memory.
    pub(super) kib_per_viewer: f64,
}

impl Measured {
    pub(super) fn measures(&self, case: Case) -> Result<Measures, String> {
        if self.arrived == 0.0 {
            return Err("nothing came out".into());
        }
        let per_packet = self.cpu / self.arrived;
        let fan_out = per_packet * (PACKETS_PER_FRAME * case.viewers) as f64;
        let [p50, p99, p999] = self.latency;
        let mut figures = vec![
            (CPU, per_packet * 1e6),
            ("CPU %", self.cpu / self.wall * 1e2),
            ("k packets/s", self.arrived / self.wall / 1e3),
            ("of one core", self.arrived / self.cpu / 1e3),
            (LOST, (1.0 - self.arrived / self.expected) * 1e2),
            (P50, p50 * 1e3),
            (P99, p99 * 1e3),
            ("p99.9 ms", p999 * 1e3),
            (P99_IN_FRAMES, p99 / fan_out),
        ];
        if let Some(clients) = &self.clients {
            figures.extend([
                ("repaired %", clients.repaired / self.arrived * 1e2),
                ("join p50 ms", clients.join[0] * 1e3),
                ("join p99 ms", clients.join[1] * 1e3),
                ("KiB per viewer", clients.kib_per_viewer),
                ("clients' CPU %", clients.cpu / self.wall * 1e2),
            ]);
        }
        Ok(Measures { figures, how: None })
    }

    /// For the process that started the one that measured.
    pub(super) fn to_json(&self) -> Value {
        let clients = self.clients.as_ref().map(|clients| {
            json!([
                clients.repaired,
                clients.cpu,
                clients.join[0],
                clients.join[1],
                clients.kib_per_viewer
            ])
        });
        json!({
            "all": [self.wall, self.cpu, self.expected, self.arrived],
            "latency": self.latency,
            "clients": clients,
        })
    }

    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let numbers = |key: &str| -> Option<Vec<f64>> {
            value[key].as_array()?.iter().map(Value::as_f64).collect()
        };
        let [wall, cpu, expected, arrived] = numbers("all")?.try_into().ok()?;
        let clients = numbers("clients").and_then(|all| {
            let [repaired, cpu, join_p50, join_p99, kib_per_viewer] = all.try_into().ok()?;
            Some(Clients {
                repaired,
                cpu,
                join: [join_p50, join_p99],
                kib_per_viewer,
            })
        });
        Some(Self {
            wall,
            cpu,
            expected,
            arrived,
            latency: numbers("latency")?.try_into().ok()?,
            clients,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_to_another_process_arrives() {
        let measured = Measured {
            wall: 1.0,
            cpu: 0.5,
            expected: 1_000.0,
            arrived: 990.0,
            latency: [0.1, 0.2, 0.3],
            clients: Some(Clients {
                repaired: 1.0,
                cpu: 0.25,
                join: [0.01, 0.02],
                kib_per_viewer: 100.0,
            }),
        };
        let told = Measured::from_json(&measured.to_json()).unwrap();
        assert_eq!(format!("{measured:?}"), format!("{told:?}"));
    }
}
