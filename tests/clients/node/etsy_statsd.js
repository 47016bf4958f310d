// Prints what etsy's StatsD makes of lines.
//
// node etsy_statsd.js [HOST:PORT] < lines.json
//
// Standard input is a JSON list of lines, whose names should differ. Standard
// output is a JSON object: `bad` lists how many values of each line were
// refused, and `counters`, `gauges`, `timers`, `timer_counters` and `sets` map
// names to what they came to. The server is StatsD's own; this file is its
// input and its backend, so no port is taken. With HOST:PORT, StatsD's backend
// `repeater` also sends the lines there, over UDP.
'use strict';

const fs = require('fs');
const os = require('os');
const path = require('path');

const bad = [];

// StatsD loads this file as its server ...
exports.start = (config, receive) => {
    // Backends are loaded after servers.
    setImmediate(() => {
        for (const line of JSON.parse(fs.readFileSync(0, 'utf8'))) {
            bad.push(0);
            receive(Buffer.from(line), {});
        }
    });
    return true;
};

// ... and as its backend.
exports.init = (startup, config, events) => {
    events.once('flush', (time, metrics) => {
        const { counters, gauges, timers, timer_counters } = metrics;
        const sets = {};
        for (const name of Object.keys(metrics.sets)) {
            sets[name] = metrics.sets[name].values().length;
        }
        fs.writeSync(1, JSON.stringify({ bad, counters, gauges, timers, timer_counters, sets }));
        process.exit(0);
    });
    return true;
};

if (require.main === module) {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'etsy-statsd-'));
    process.on('exit', () => fs.rmSync(directory, { recursive: true }));
    const file = path.join(directory, 'config.js');
    const settings = { server: __filename, backends: [__filename], flushInterval: 100 };
    if (process.argv[2]) {
        const [host, port] = process.argv[2].split(':');
        settings.backends.push('./backends/repeater');
        settings.repeater = [{ host, port: Number(port) }];
    }
    fs.writeFileSync(file, JSON.stringify(settings));
    // StatsD reports rejected lines there.
    require('util').log = (text) => {
        if (text.includes('Bad line')) bad[bad.length - 1] += 1;
    };
    require('statsd/lib/mgmt_server').start = () => true;
    process.argv[2] = file;
    // StatsD must load this instance of the module.
    require.cache[__filename] = module;
    require('statsd/stats.js');
}
