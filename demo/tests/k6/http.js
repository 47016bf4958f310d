// `k6/http`: requests that return when they are answered. A worker sends them, and this
// thread waits for it. Requests are recorded with their status.

import { MessageChannel, Worker, receiveMessageOnPort } from 'node:worker_threads';

export const requests = [];

const SENDER = `
const { parentPort, workerData } = require('node:worker_threads');
const signal = new Int32Array(workerData.signal);
parentPort.on('message', async ({ method, url, body, headers }) => {
  let answer;
  try {
    const response = await fetch(url, { method, body, headers, redirect: 'manual' });
    answer = { status: response.status, body: await response.text() };
  } catch (problem) {
    answer = { status: 0, body: '', error: String(problem) };
  }
  workerData.port.postMessage(answer);
  Atomics.store(signal, 0, 1);
  Atomics.notify(signal, 0);
});
`;

const shared = new SharedArrayBuffer(4);
const signal = new Int32Array(shared);
const { port1, port2 } = new MessageChannel();
const worker = new Worker(SENDER, {
  eval: true,
  workerData: { signal: shared, port: port2 },
  transferList: [port2],
});
// Neither keeps the program alive.
worker.unref();
port1.unref();

function request(method, url, body, params = {}) {
  const headers = params.headers || {};
  Atomics.store(signal, 0, 0);
  worker.postMessage({ method, url, body: body ?? undefined, headers });
  if (Atomics.wait(signal, 0, 0, 30000) === 'timed-out') {
    throw new Error(`no answer to ${method} ${url}`);
  }
  const response = receiveMessageOnPort(port1).message;
  requests.push({ method, url, body: body ?? null, headers, status: response.status });
  return response;
}

export default {
  get: (url, params) => request('GET', url, null, params),
  post: (url, body, params) => request('POST', url, body, params),
  put: (url, body, params) => request('PUT', url, body, params),
  del: (url, body, params) => request('DELETE', url, body, params),
};
