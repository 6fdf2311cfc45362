//! Samples and what is told of them.

use std::fmt;
use std::time::Duration;

/// Measured values of one kind, in milliseconds or megabytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples {
    values: Vec<f64>,
}

impl Samples {
    pub(super) fn push(&mut self, duration: Duration) {
        self.values.push(duration.as_secs_f64() * 1000.0);
    }

    pub(super) fn push_value(&mut self, value: f64) {
        self.values.push(value);
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.values.extend(other.values);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.values.len()
    }

    pub(super) fn median(&self) -> f64 {
        self.quantile(50)
    }

    /// The first or last `count` of the samples, in the order they were taken.
    pub(super) fn part(&self, last: bool, count: usize) -> Self {
        let count = count.min(self.values.len());
        let from = if last { self.values.len() - count } else { 0 };
        Self {
            values: self.values[from..from + count].to_vec(),
        }
    }

    /// The value that this per cent of the samples do not exceed.
    pub(super) fn quantile(&self, per_cent: usize) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (sorted.len() * per_cent).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.values.len() {
            0 => f.write_str("—"),
            1 => write!(f, "{}", Number(self.median())),
            _ => write!(
                f,
                "{} (p95 {})",
                Number(self.median()),
                Number(self.quantile(95))
            ),
        }
    }
}

/// A number with as many digits as mean something.
pub(super) struct Number(pub(super) f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = match self.0.abs() {
            large if large >= 100.0 => 0,
            middle if middle >= 10.0 => 1,
            _ => 2,
        };
        write!(f, "{:.decimals$}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_samples() {
        let mut samples = Samples::default();
        for value in [5.0, 1.0, 3.0, 2.0, 4.0] {
            samples.push_value(value);
        }
        assert!((samples.median() - 3.0).abs() < f64::EPSILON);
        assert!((samples.quantile(95) - 5.0).abs() < f64::EPSILON);
        assert_eq!(samples.to_string(), "3.00 (p95 5.00)");
        assert_eq!(samples.part(true, 2).values, [2.0, 4.0]);
    }
}
