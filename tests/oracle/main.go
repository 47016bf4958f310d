// Parses texts with the reference's own parsers, for the tests beside this.
//
// Standard input holds requests, each a line "text N" or "openmetrics N" and
// N bytes of text. Standard output answers each with one line of JSON: for
// every parser its error, or the samples that it saw.
//
// "messages N" is followed by delimited protobuf, which is answered as text,
// and "encode N" by text, which is answered as delimited protobuf.
package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

type sample struct {
	// The name first, then the labels, sorted by name.
	Labels [][2]string `json:"labels"`
	// The double's bits in decimal, or "nan".
	Value     string `json:"value"`
	Timestamp *int64 `json:"timestamp"`
}

type verdict struct {
	Error   string   `json:"error"`
	Samples []sample `json:"samples"`
}

type answer struct {
	Scrape verdict  `json:"scrape"`
	Expfmt *verdict `json:"expfmt"`
	// The request in the other format.
	Text string `json:"text,omitempty"`
	// In hexadecimal.
	Messages string `json:"messages,omitempty"`
	// Native histograms, as Prometheus' scrape parser prints them.
	Natives []string `json:"natives,omitempty"`
}

func main() {
	in := bufio.NewReader(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	for {
		var format string
		var size int
		if _, err := fmt.Fscanf(in, "%s %d\n", &format, &size); err != nil {
			if errors.Is(err, io.EOF) {
				return
			}
			panic(err)
		}
		text := make([]byte, size)
		if _, err := io.ReadFull(in, text); err != nil {
			panic(err)
		}
		if format == "messages" || format == "encode" {
			if err := encoder.Encode(convert(text, format)); err != nil {
				panic(err)
			}
			continue
		}
		var reply answer
		reply.Scrape = guarded(func() verdict { return scrape(bytes.Clone(text), format) })
		if format == "text" {
			read := guarded(func() verdict { return families(text) })
			reply.Expfmt = &read
		}
		if err := encoder.Encode(reply); err != nil {
			panic(err)
		}
	}
}

// A parser that panics has refused.
func guarded(read func() verdict) (result verdict) {
	defer func() {
		if fault := recover(); fault != nil {
			result = verdict{Error: fmt.Sprint("panic: ", fault)}
		}
	}()
	return read()
}

// scrape reads as a server does that scrapes, up to what it refuses in labels.
func scrape(text []byte, format string) verdict {
	symbols := labels.NewSymbolTable()
	var parser textparse.Parser
	if format == "text" {
		parser = textparse.NewPromParser(text, symbols, false)
	} else {
		parser = textparse.NewOpenMetricsParser(text, symbols)
	}
	var result verdict
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return result
		}
		if err != nil {
			return verdict{Error: err.Error()}
		}
		if entry != textparse.EntrySeries {
			continue
		}
		_, timestamp, value := parser.Series()
		var set labels.Labels
		parser.Labels(&set)
		if name, twice := set.HasDuplicateLabelNames(); twice {
			return verdict{Error: "label name twice: " + name}
		}
		if !set.IsValid(model.UTF8Validation) {
			return verdict{Error: "invalid metric name or label names: " + set.String()}
		}
		if set.Get(labels.MetricName) == "" {
			return verdict{Error: "no metric name"}
		}
		read := sample{Value: bits(value)}
		if timestamp != nil {
			copied := *timestamp
			read.Timestamp = &copied
		}
		read.Labels = append(read.Labels, [2]string{"", set.Get(labels.MetricName)})
		set.Range(func(label labels.Label) {
			if label.Name != labels.MetricName {
				read.Labels = append(read.Labels, [2]string{label.Name, label.Value})
			}
		})
		result.Samples = append(result.Samples, read)
	}
}

// convert brings messages into text and text into messages. Messages are also
// read as a scraping server does.
func convert(body []byte, format string) (reply answer) {
	read := guarded(func() verdict {
		var err error
		if format == "messages" {
			reply.Text, err = messagesToText(body)
		} else {
			var messages []byte
			messages, err = textToMessages(body)
			reply.Messages = hex.EncodeToString(messages)
		}
		if err != nil {
			return verdict{Error: err.Error()}
		}
		return verdict{}
	})
	reply.Expfmt = &read
	if format == "messages" {
		reply.Scrape = guarded(func() verdict {
			var err error
			if reply.Natives, err = natives(body); err != nil {
				return verdict{Error: err.Error()}
			}
			return verdict{}
		})
	}
	return reply
}

func messagesToText(body []byte) (string, error) {
	format := expfmt.NewFormat(expfmt.TypeProtoDelim).WithEscapingScheme(model.NoEscaping)
	decoder := expfmt.NewDecoder(bytes.NewReader(body), format)
	var text bytes.Buffer
	for {
		var family dto.MetricFamily
		if err := decoder.Decode(&family); errors.Is(err, io.EOF) {
			return text.String(), nil
		} else if err != nil {
			return "", err
		}
		if _, err := expfmt.MetricFamilyToText(&text, &family); err != nil {
			return "", err
		}
	}
}

func textToMessages(text []byte) ([]byte, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	var messages bytes.Buffer
	format := expfmt.NewFormat(expfmt.TypeProtoDelim).WithEscapingScheme(model.NoEscaping)
	encoder := expfmt.NewEncoder(&messages, format)
	for _, family := range families {
		if err := encoder.Encode(family); err != nil {
			return nil, err
		}
	}
	return messages.Bytes(), nil
}

// natives reads messages as a server does that scrapes native histograms.
func natives(body []byte) ([]string, error) {
	parser := textparse.NewProtobufParser(body, false, false, false, false, labels.NewSymbolTable())
	var found []string
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		if entry != textparse.EntryHistogram {
			continue
		}
		_, _, whole, float := parser.Histogram()
		var set labels.Labels
		parser.Labels(&set)
		if whole != nil {
			if err := whole.Validate(); err != nil {
				return nil, err
			}
			found = append(found, set.String()+" "+whole.String())
		} else {
			if err := float.Validate(); err != nil {
				return nil, err
			}
			found = append(found, set.String()+" "+float.String())
		}
	}
}

// families reads as Pushgateway and promtool do. It keeps no order of samples
// across families, so only its verdict is told.
func families(text []byte) verdict {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	if _, err := parser.TextToMetricFamilies(bytes.NewReader(text)); err != nil {
		return verdict{Error: err.Error()}
	}
	return verdict{}
}

func bits(value float64) string {
	if value != value {
		return "nan"
	}
	return strconv.FormatUint(math.Float64bits(value), 10)
}
