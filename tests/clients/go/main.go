// Pushes as a job in Go does.
//
//	push-client ADDRESS push|add|delete METRICS CODING JOB [NAME=VALUE ...]
//
// METRICS is batch, rows, wrong, native or nothing, CODING is protobuf (the
// library's default), text or openmetrics.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/push"
	"github.com/prometheus/common/expfmt"
)

func batch() []prometheus.Collector {
	jobs := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "batch_jobs_total", Help: "Jobs done.",
	}, []string{"outcome"})
	jobs.WithLabelValues("done").Add(41)
	jobs.WithLabelValues("failed").Inc()
	last := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "batch_last_success_seconds", Help: "Last success.",
	})
	last.Set(1700000000)
	duration := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "batch_duration_seconds", Help: "Time taken.", Buckets: []float64{0.5, 1, 5},
	})
	for _, seconds := range []float64{0.5, 2, 10} {
		duration.Observe(seconds)
	}
	size := prometheus.NewSummary(prometheus.SummaryOpts{
		Name: "batch_size_bytes", Help: "Size of a job.",
		Objectives: map[float64]float64{0.5: 0.05},
	})
	for _, bytes := range []float64{100, 300} {
		size.Observe(bytes)
	}
	return []prometheus.Collector{jobs, last, duration, size}
}

func rows() []prometheus.Collector {
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "batch_rows", Help: "Rows, \"as\\they\"\nare.",
	}, []string{"table"})
	gauge.WithLabelValues("ü \"quoted\" \\ and\na line").Set(7.25)
	return []prometheus.Collector{gauge}
}

func wrong() []prometheus.Collector {
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "batch_jobs_total", Help: "A gauge by a counter's name.",
	})
	gauge.Set(1)
	return []prometheus.Collector{gauge}
}

// A histogram with both kinds of buckets.
func native() []prometheus.Collector {
	histogram := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "batch_native_seconds", Help: "Time taken.",
		Buckets:                     []float64{0.5, 1, 5},
		NativeHistogramBucketFactor: 1.1,
	})
	for _, seconds := range []float64{0.5, 2, 10} {
		histogram.Observe(seconds)
	}
	return []prometheus.Collector{histogram}
}

func run(arguments []string) error {
	address, verb, metrics, coding, job := arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]
	pusher := push.New(address, job)
	for _, pair := range arguments[5:] {
		name, value, _ := strings.Cut(pair, "=")
		pusher = pusher.Grouping(name, value)
	}
	switch coding {
	case "text":
		pusher = pusher.Format(expfmt.NewFormat(expfmt.TypeTextPlain))
	case "openmetrics":
		pusher = pusher.Format(expfmt.NewFormat(expfmt.TypeOpenMetrics))
	}
	if verb == "delete" {
		return pusher.Delete()
	}
	collectors := map[string]func() []prometheus.Collector{
		"batch": batch, "rows": rows, "wrong": wrong, "native": native,
		"nothing": func() []prometheus.Collector { return nil },
	}[metrics]
	for _, collector := range collectors() {
		pusher = pusher.Collector(collector)
	}
	if verb == "add" {
		return pusher.Add()
	}
	return pusher.Push()
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
