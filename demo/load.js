// Load for the demo service, for k6:
//
//     k6 run demo/load.js
//     BASE_URL=http://host:7080 k6 run demo/load.js
//
// `demo load` makes the same requests without k6.

import http from 'k6/http';
import { check, sleep } from 'k6';

const BASE_URL = (__ENV.BASE_URL || 'http://localhost:7080').replace(/\/+$/, '');

// Pause of a user after each request, in seconds.
const PAUSE = 0.5;

// Ids in requests are below this.
const IDS = 1000;

const FIRST_NAMES = ['Ada', 'Barbara', 'Dennis', 'Edsger', 'Frances', 'Grace', 'Ivan', 'Margaret'];
const LAST_NAMES = ['Allen', 'Dijkstra', 'Hamilton', 'Hopper', 'Liskov', 'Lovelace', 'Ritchie', 'Sutherland'];
const MAIL_HOSTS = ['example.com', 'example.net', 'example.org'];
const ADDRESSES = [
  '1 Analytical Way, London',
  '12 Compiler Street, New York',
  'Rue du Réseau 19, Paris',
  'Stack Square 404, Zürich',
];

export const options = {
  scenarios: {
    create_users: {
      executor: 'shared-iterations',
      exec: 'createUser',
      vus: 50,
      iterations: 50000,
      maxDuration: '10m',
    },
    update_users: {
      executor: 'constant-arrival-rate',
      exec: 'updateUser',
      rate: 5,
      timeUnit: '1s',
      duration: '5m',
      preAllocatedVUs: 5,
      startTime: '5s',
    },
    delete_users: {
      executor: 'shared-iterations',
      exec: 'deleteUser',
      vus: 2,
      iterations: 1500,
      maxDuration: '10m',
      startTime: '30s',
    },
    get_users: {
      executor: 'constant-arrival-rate',
      exec: 'getUser',
      rate: 20,
      timeUnit: '1s',
      duration: '10m',
      preAllocatedVUs: 10,
      startTime: '5s',
    },
    get_userList: {
      executor: 'constant-arrival-rate',
      exec: 'getUserList',
      rate: 10,
      timeUnit: '1s',
      duration: '10m',
      preAllocatedVUs: 5,
      startTime: '5s',
    },
  },
};

const choose = (list) => list[Math.floor(Math.random() * list.length)];

const randomId = () => Math.floor(Math.random() * IDS);

function randomPerson() {
  const first = choose(FIRST_NAMES);
  const last = choose(LAST_NAMES);
  return JSON.stringify({
    first_name: first,
    last_name: last,
    email: `${first}.${last}@${choose(MAIL_HOSTS)}`.toLowerCase(),
    address: choose(ADDRESSES),
  });
}

// One metric for all ids: by default k6 keeps one for each URL.
const tagged = (name, headers) => ({ headers, tags: { name } });

const JSON_TYPE = { 'Content-Type': 'application/json' };

// Checks the status, and pauses.
function finish(response, name, statuses) {
  check(response, { [name]: (it) => statuses.includes(it.status) });
  sleep(PAUSE);
}

export function createUser() {
  const response = http.post(`${BASE_URL}/person`, randomPerson(), tagged('/person', JSON_TYPE));
  finish(response, 'created', [201]);
}

export function updateUser() {
  const url = `${BASE_URL}/person/${randomId()}`;
  const response = http.put(url, randomPerson(), tagged('/person/{id}', JSON_TYPE));
  finish(response, 'updated or unknown', [200, 404]);
}

export function deleteUser() {
  const url = `${BASE_URL}/person/${randomId()}`;
  const response = http.del(url, null, tagged('/person/{id}'));
  finish(response, 'deleted or unknown', [204, 404]);
}

export function getUser() {
  const url = `${BASE_URL}/person/${randomId()}`;
  finish(http.get(url, tagged('/person/{id}')), 'found or unknown', [200, 404]);
}

export function getUserList() {
  const url = `${BASE_URL}/person/list?start=${randomId()}`;
  finish(http.get(url, tagged('/person/list')), 'listed', [200]);
}
