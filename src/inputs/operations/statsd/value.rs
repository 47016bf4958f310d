//! Reads the values of a line.

use super::{MetricType, StatsdLine, not_a_number, number};
use crate::inputs::operations::rejection::Rejection;
use crate::reason::Reason;
use crate::registry::ValueChange;

/// Converts the values of a line into changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::inputs::operations) struct ValueReader {
    metric_type: MetricType,
    /// The sampling rate.
    rate: f64,
    /// The factor for values.
    scale: f64,
}

impl StatsdLine<'_> {
    /// The reader for the values; `None` for a set, whose values are not numbers.
    pub(in crate::inputs::operations) fn reader(&self, scale: f64) -> Option<ValueReader> {
        (self.metric_type != MetricType::Set).then_some(ValueReader {
            metric_type: self.metric_type,
            rate: self.rate,
            scale,
        })
    }

    /// The texts of the values.
    pub(in crate::inputs::operations) fn values(&self) -> impl Iterator<Item = &str> {
        self.values.split(':')
    }
}

impl ValueReader {
    /// Reads one value, a finite number. A signed gauge is added. Durations are in
    /// milliseconds, and become seconds.
    ///
    /// # Errors
    ///
    /// The value is not a number, or the type does not allow it.
    pub(in crate::inputs::operations) fn read(&self, text: &str) -> Result<ValueChange, Rejection> {
        let value = number(text).ok_or_else(|| not_a_number(text))?;
        let bad = |problem: String| Err(Rejection::new(Reason::BadValue, problem));
        let observation = |value: f64| ValueChange::Observe {
            value: value * self.scale,
            times: 1.0 / self.rate,
        };
        Ok(match self.metric_type {
            MetricType::Counter => {
                let value = value / self.rate * self.scale;
                if value < 0.0 {
                    return bad(format!("a counter cannot go down, by {value}"));
                }
                ValueChange::Add(value)
            }
            MetricType::Gauge if text.trim_start().starts_with(['+', '-']) => {
                ValueChange::Add(value * self.scale)
            }
            MetricType::Gauge => ValueChange::Set(value * self.scale),
            MetricType::Timer if value < 0.0 => {
                return bad(format!("a duration cannot be negative: {text:?}"));
            }
            MetricType::Timer => observation(value / 1000.0),
            MetricType::Histogram | MetricType::Set => observation(value),
        })
    }
}
