// Makes the servers that MEMBERS names (HOST:PORT,...) the replica set rs0, and ends when it has a primary and all others
// are secondaries. What stands already is left as it is. For mongosh: mongosh --nodb --file mongo_setup.js

const NAME = "rs0";
const TIMEOUT_MS = 120_000;
const NEW = "UNINITIALIZED";
const NOT_YET_INITIALIZED = 94; // MongoDB's code

// MongoDB's own defaults (10 s and 2 s) would make every failover a test of patience.
const SETTINGS = { electionTimeoutMillis: 2000, heartbeatIntervalMillis: 500 };

const hosts = process.env.MEMBERS.split(",");
const deadline = Date.now() + TIMEOUT_MS;

// mongosh awaits the calls that it sees as statements, but not those inside callbacks (`map`) and `return` in a `try`: hence
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

// Returns what a member calls itself. What goes wrong, but for being new, is thrown, and tried again.
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

// Returns what is still to come, in words; nothing when all is as it should be.
function step() {
  const roles = [];
  for (const host of hosts) {
    const role = roleOf(host);
    roles.push(role);
  }
  if (roles.every((role) => role === NEW)) {
    initiate();
    return "forming the replica set";
  }
  const whole = roles.includes("PRIMARY") && roles.every((role) => role === "PRIMARY" || role === "SECONDARY");
  return whole ? "" : `waiting for a primary and its secondaries: ${hosts.map((host, i) => `${host} ${roles[i]}`).join(", ")}`;
}

function tried() {
  try {
    const waiting = step();
    return waiting;
  } catch (error) {
    return error.message;
  }
}

let told = "";
let waiting = tried();
while (waiting) {
  if (waiting !== told) print(waiting);
  told = waiting;
  if (Date.now() > deadline) {
    print(`not done after ${TIMEOUT_MS / 1000} s: see the log of that server, and that each reaches all by these names`);
    quit(1);
  }
  sleep(500);
  waiting = tried();
}
print(`${NAME} serves: ${hosts.join(", ")}`);
