// Forms the replica set rs0 of the servers in MEMBERS (HOST:PORT,...), and ends when it has a primary and all others are
// secondaries. An existing set is left as it is. Run with: mongosh --nodb --file mongo_setup.js

const NAME = "rs0";
const TIMEOUT_MS = 120_000;
const NEW = "UNINITIALIZED";
const NOT_YET_INITIALIZED = 94; // MongoDB's code

// With MongoDB's defaults (10 s and 2 s) every failover would take ten seconds longer. With chaining, a secondary may
// replicate from another one, and stall with it.
const SETTINGS = { electionTimeoutMillis: 2000, heartbeatIntervalMillis: 500, chainingAllowed: false };

const hosts = process.env.MEMBERS.split(",");
const deadline = Date.now() + TIMEOUT_MS;

// mongosh awaits asynchronous calls in statements, but not in callbacks (`map`), nor in a `return` inside a `try`: hence the
// plain loops and variables.

function ask(host, command) {
  const member = new Mongo(`mongodb://${host}/?directConnection=true&serverSelectionTimeoutMS=2000`);
  try {
    const answer = member.getDB("admin").runCommand(command);
    return answer;
  } finally {
    member.close();
  }
}

// Returns a member's role. Errors are thrown and retried, except that of a new member.
function roleOf(host) {
  try {
    const status = ask(host, { replSetGetStatus: 1 });
    return status.members.find((one) => one.self).stateStr;
  } catch (error) {
    if (error.code === NOT_YET_INITIALIZED) return NEW;
    throw error;
  }
}

function initiate() {
  const members = hosts.map((host, index) => ({ _id: index, host }));
  ask(hosts[0], { replSetInitiate: { _id: NAME, members, settings: SETTINGS } });
}

// Takes the next step, and returns what is being waited for; empty when the set is complete.
function step() {
  const roles = [];
  for (const host of hosts) {
    const role = roleOf(host);
    roles.push(role);
  }
  if (roles.every((role) => role === NEW)) {
    initiate();
    return "initiating the replica set";
  }
  const complete = roles.includes("PRIMARY") && roles.every((role) => role === "PRIMARY" || role === "SECONDARY");
  return complete ? "" : `waiting for a primary and its secondaries: ${hosts.map((host, i) => `${host} ${roles[i]}`).join(", ")}`;
}

function attempt() {
  try {
    const waiting = step();
    return waiting;
  } catch (error) {
    return error.message;
  }
}

let reported = "";
let waiting = attempt();
while (waiting) {
  if (waiting !== reported) print(waiting);
  reported = waiting;
  if (Date.now() > deadline) {
    print(`not done after ${TIMEOUT_MS / 1000} s: see that server's log, and check that all servers reach each other by these names`);
    quit(1);
  }
  sleep(500);
  waiting = attempt();
}
print(`${NAME} is ready: ${hosts.join(", ")}`);
