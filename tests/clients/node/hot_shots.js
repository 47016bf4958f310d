// Sends StatsD lines with hot-shots, over UDP and over TCP.
//
// node hot_shots.js UDP TCP
//
// Both are HOST:PORT.
'use strict';

const StatsD = require('hot-shots');

function use(protocol, address) {
    const [host, port] = address.split(':');
    const client = new StatsD({
        protocol, host, port: Number(port), prefix: `shop.${protocol}.`, globalTags: { env: 'prod' },
        errorHandler: (error) => { throw error; },
    });
    client.increment('orders', 2, { size: 'big' });
    client.increment('orders', { size: 'big' });
    client.timing('time', 250);
    client.gauge('load', 0.5);
    client.gaugeDelta('load', -0.25);
    client.set('users', 'ann');
    client.set('users', 'bob');
    client.distribution('spread', 0.3);
    client.check('shop', client.CHECKS.WARNING, { hostname: protocol });
    client.event('a title', 'a text', { alert_type: 'error' });
    client.increment('debug.cache');
    client.close((error) => { if (error) throw error; });
}

use('udp', process.argv[2]);
use('tcp', process.argv[3]);
