// Runs each function of load.js as often as the argument says, and prints the options and the
// actions of each call as JSON.

import { sleeps, failedChecks } from 'k6';
import { requests } from 'k6/http';

globalThis.__ENV = process.env;
const script = await import('./load.mjs');
const rounds = Number(process.argv[2]);

const calls = {};
for (const [name, scenario] of Object.entries(script.options.scenarios)) {
  calls[name] = [];
  for (let round = 0; round < rounds; round += 1) {
    script[scenario.exec]();
    calls[name].push({
      requests: requests.splice(0),
      sleeps: sleeps.splice(0),
      failed_checks: failedChecks.splice(0),
    });
  }
}
console.log(JSON.stringify({ options: script.options, calls }));
process.exit(0);
