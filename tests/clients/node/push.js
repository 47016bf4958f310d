// Pushes as a job in Node does.
//
// node push.js ADDRESS push|add|delete METRICS CODING JOB [NAME=VALUE ...]
//
// METRICS is `batch`, `rows` or `wrong`, CODING is `plain` or `gzip`.
'use strict';

const client = require('prom-client');

function batch(registers) {
    const jobs = new client.Counter({
        name: 'batch_jobs_total', help: 'Jobs done.', labelNames: ['outcome'], registers,
    });
    jobs.inc({ outcome: 'done' }, 41);
    jobs.inc({ outcome: 'failed' }, 1);
    const last = new client.Gauge({
        name: 'batch_last_success_seconds', help: 'Last success.', registers,
    });
    last.set(1700000000);
    const duration = new client.Histogram({
        name: 'batch_duration_seconds', help: 'Time taken.', buckets: [0.5, 1, 5], registers,
    });
    [0.5, 2, 10].forEach((seconds) => duration.observe(seconds));
    const size = new client.Summary({
        name: 'batch_size_bytes', help: 'Size of a job.', percentiles: [0.5], registers,
    });
    [100, 300].forEach((bytes) => size.observe(bytes));
}

function rows(registers) {
    const gauge = new client.Gauge({
        name: 'batch_rows', help: 'Rows, "as\\they"\nare.', labelNames: ['table'], registers,
    });
    gauge.set({ table: 'ü "quoted" \\ and\na line' }, 7.25);
}

function wrong(registers) {
    const gauge = new client.Gauge({
        name: 'batch_jobs_total', help: "A gauge by a counter's name.", registers,
    });
    gauge.set(1);
}

async function main() {
    const [address, verb, metrics, coding, jobName, ...pairs] = process.argv.slice(2);
    const groupings = {};
    for (const pair of pairs) {
        const at = pair.indexOf('=');
        groupings[pair.slice(0, at)] = pair.slice(at + 1);
    }
    const registry = new client.Registry();
    const headers = coding === 'gzip' ? { 'Content-Encoding': 'gzip' } : {};
    const gateway = new client.Pushgateway(`http://${address}`, { headers, timeout: 10000 }, registry);
    if (verb !== 'delete') {
        ({ batch, rows, wrong })[metrics]([registry]);
    }
    const call = { push: 'push', add: 'pushAdd', delete: 'delete' }[verb];
    const { resp } = await gateway[call]({ jobName, groupings });
    // The library takes a redirect for success, although nothing is pushed.
    if (resp.statusCode >= 300) {
        throw new Error(`status ${resp.statusCode}`);
    }
}

main().catch((error) => {
    console.error(error.message);
    process.exit(1);
});
