//! What one measurement says.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Long enough that both threads sleep: what idle means here.
pub(crate) const PAUSE: Duration = Duration::from_micros(100);

/// The figures of one measurement, by name; the name has the unit.
#[derive(Debug, Default)]
pub(crate) struct Measures {
    pub(crate) figures: Vec<(&'static str, f64)>,
    /// How it was done, if that differs from other systems.
    pub(crate) how: Option<&'static str>,
}

impl<const N: usize> From<[(&'static str, f64); N]> for Measures {
    fn from(figures: [(&'static str, f64); N]) -> Self {
        Self {
            figures: figures.into(),
            how: None,
        }
    }
}

pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("the bounds are valid")
}

pub(crate) fn percentiles(histogram: &Histogram<u64>) -> [(&'static str, f64); 2] {
    let us = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    [("p50 µs", us(0.5)), ("p99 µs", us(0.99))]
}
