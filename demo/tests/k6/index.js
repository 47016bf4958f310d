// `sleep` and `check` of k6. Calls are recorded, and nothing sleeps.

export const sleeps = [];
export const failedChecks = [];

export function sleep(seconds) {
  sleeps.push(seconds);
}

export function check(value, checks) {
  const failed = Object.keys(checks).filter((name) => !checks[name](value));
  failedChecks.push(...failed);
  return failed.length === 0;
}
