//! The metrics of the service, under the names and types of prometric.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::process::{Process, ProcessMetrics};
use super::routes::Measured;

/// Upper bounds of durations, in seconds.
const DURATIONS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The smallest upper bound of sizes in bytes, the ratio of neighbouring bounds, and their
/// number: 100 to 51200.
const SIZES: (f64, f64, usize) = (100.0, 2.0, 10);

/// All metrics of the service.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    status_codes: IntCounterVec,
    in_progress: IntGaugeVec,
    durations: HistogramVec,
    pub created: IntCounter,
    pub deleted: IntCounter,
    pub not_found: IntCounter,
    pub payload_sizes: Histogram,
    persons: IntGauge,
    cpu_percent: Gauge,
    memory_megabytes: Gauge,
    process: ProcessMetrics,
    /// The time and the CPU time of the last sample.
    sampled: Mutex<(Instant, f64)>,
}

impl Metrics {
    /// Creates all metrics.
    pub fn new() -> prometheus::Result<Self> {
        let sizes = prometheus::exponential_buckets(SIZES.0, SIZES.1, SIZES.2)?;
        let registry = Registry::new();
        let metrics = Metrics {
            requests: IntCounterVec::new(
                Opts::new(
                    "http_requests_total",
                    "Requests, by status code, method and path.",
                ),
                &["code", "method", "path"],
            )?,
            status_codes: IntCounterVec::new(
                Opts::new("http_status_code", "Replies, by status code."),
                &["code"],
            )?,
            in_progress: IntGaugeVec::new(
                Opts::new(
                    "http_requests_in_progress",
                    "Requests in progress, by method.",
                ),
                &["method"],
            )?,
            durations: HistogramVec::new(
                HistogramOpts::new(
                    "http_request_duration_seconds",
                    "Durations of requests, with the artificial delay, by method and path.",
                )
                .buckets(DURATIONS.to_vec()),
                &["method", "path"],
            )?,
            created: IntCounter::new("person_created_total", "Persons created.")?,
            deleted: IntCounter::new("person_deleted_total", "Persons deleted.")?,
            not_found: IntCounter::new(
                "person_not_found_total",
                "Persons that were to be read or changed and do not exist.",
            )?,
            payload_sizes: Histogram::with_opts(
                HistogramOpts::new(
                    "person_payload_size_bytes",
                    "Sizes of the bodies that create persons, valid or not.",
                )
                .buckets(sizes),
            )?,
            persons: IntGauge::new("person_store_count", "Persons in the store.")?,
            cpu_percent: Gauge::new(
                "app_cpu_usage_percent",
                "CPU time of the last 5 seconds, in percent of one core.",
            )?,
            memory_megabytes: Gauge::new(
                "app_memory_usage_megabytes",
                "Resident memory, in units of 1048576 bytes.",
            )?,
            process: ProcessMetrics::new()?,
            sampled: Mutex::new((Instant::now(), Process::read().cpu_seconds)),
            registry,
        };
        let families: [Box<dyn Collector>; 11] = [
            Box::new(metrics.requests.clone()),
            Box::new(metrics.status_codes.clone()),
            Box::new(metrics.in_progress.clone()),
            Box::new(metrics.durations.clone()),
            Box::new(metrics.created.clone()),
            Box::new(metrics.deleted.clone()),
            Box::new(metrics.not_found.clone()),
            Box::new(metrics.payload_sizes.clone()),
            Box::new(metrics.persons.clone()),
            Box::new(metrics.cpu_percent.clone()),
            Box::new(metrics.memory_megabytes.clone()),
        ];
        for family in families {
            metrics.registry.register(family)?;
        }
        metrics.process.register(&metrics.registry)?;
        Ok(metrics)
    }

    /// Begins to measure a request.
    pub fn begin(&self, request: Measured<'_>) -> Measurement<'_> {
        let (method, path) = request.labels();
        self.in_progress.with_label_values(&[method]).inc();
        Measurement {
            metrics: self,
            method,
            path,
            start: Instant::now(),
        }
    }

    /// Sets the gauges of CPU and memory from their use since the last call.
    pub fn sample_use(&self) {
        let process = Process::read();
        let now = Instant::now();
        let mut sampled = self.sampled.lock().unwrap_or_else(PoisonError::into_inner);
        let (then, cpu_seconds) = std::mem::replace(&mut *sampled, (now, process.cpu_seconds));
        let seconds = now.duration_since(then).as_secs_f64();
        if seconds > 0.0 {
            let used = process.cpu_seconds - cpu_seconds;
            self.cpu_percent.set(100.0 * used / seconds);
        }
        self.memory_megabytes
            .set(process.resident_bytes / 1_048_576.0);
    }

    /// The exposition in text format 0.0.4, with the number of persons in the store.
    pub fn text(&self, persons: usize) -> prometheus::Result<Vec<u8>> {
        self.persons.set(i64::try_from(persons).unwrap_or(i64::MAX));
        self.process.update(&Process::read());
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// A request in progress. It stops being in progress when this is dropped, even if the
/// client leaves or the handler panics.
#[derive(Debug)]
pub struct Measurement<'m> {
    metrics: &'m Metrics,
    method: &'static str,
    path: &'static str,
    start: Instant,
}

impl Measurement<'_> {
    /// Counts the reply.
    pub fn finish(self, code: u16) {
        let metrics = self.metrics;
        let code = code.to_string();
        metrics
            .requests
            .with_label_values(&[code.as_str(), self.method, self.path])
            .inc();
        metrics.status_codes.with_label_values(&[&code]).inc();
        metrics
            .durations
            .with_label_values(&[self.method, self.path])
            .observe(self.start.elapsed().as_secs_f64());
    }
}

impl Drop for Measurement<'_> {
    fn drop(&mut self) {
        let gauge = self.metrics.in_progress.with_label_values(&[self.method]);
        gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_in_progress_until_it_is_dropped() {
        let metrics = Metrics::new().unwrap();
        let text = || String::from_utf8(metrics.text(1).unwrap()).unwrap();
        let measurement = metrics.begin(Measured::List);
        assert!(text().contains("http_requests_in_progress{method=\"GET\"} 1\n"));
        drop(measurement);
        assert!(text().contains("http_requests_in_progress{method=\"GET\"} 0\n"));
        assert!(!text().contains("http_requests_total{"));
        metrics.begin(Measured::Get("7")).finish(404);
        assert!(text().contains(
            "http_requests_total{code=\"404\",method=\"GET\",path=\"/person/{id}\"} 1\n"
        ));
        assert!(text().contains("http_status_code{code=\"404\"} 1\n"));
    }

    #[test]
    fn cpu_is_that_of_the_time_since_the_last_sample() {
        const USED: f64 = 0.05;
        let start = Instant::now();
        let metrics = Metrics::new().unwrap();
        let before = Process::read().cpu_seconds;
        while Process::read().cpu_seconds < before + USED {}
        metrics.sample_use();
        let least = 100.0 * USED / start.elapsed().as_secs_f64();
        let busy = metrics.cpu_percent.get();
        assert!(busy > 0.99 * least, "{busy} of {least}");
        assert!(metrics.memory_megabytes.get() > 1.0);
    }
}
