'use strict';
// A leader: CouchDB's protocol over PouchDB and LevelDB, at one address.
// usage: COUCH_USER=... COUCH_PASSWORD=... node server.js HOST:PORT DATA_FOLDER

const { mkdirSync } = require('fs');
const path = require('path');
const express = require('express');
const expressPouchDB = require('express-pouchdb');
const access = require('./access');
const continuousChanges = require('./changes');
const Databases = require('./databases');
const plainEndpoints = require('./endpoints');
const names = require('./names');
const Replicator = require('./replicator');

const KEEP_ALIVE_MS = 65_000;
const LARGEST_BODY = '64mb';
const FORM = 'application/x-www-form-urlencoded';

const [address, folder] = [process.argv[2], path.resolve(process.argv[3])];
const [host, port] = address.split(':');

// A failed request must not end the server for all others.
for (const event of ['uncaughtException', 'unhandledRejection']) {
  process.on(event, (error) => console.error(`${event}: ${(error && (error.stack || error.message)) || error}`));
}

mkdirSync(folder, { recursive: true });
process.chdir(folder); // PouchDB stores its list of databases in the current folder
require('events').defaultMaxListeners = 0; // many feeds of one database are not a leak

const PouchDB = require('pouchdb').defaults({ prefix: folder + path.sep });
const app = express();
const pouch = expressPouchDB(PouchDB, {
  mode: 'minimumForPouchDB',
  overrideMode: { exclude: ['compression', 'routes/session-stub'] }, // not worth their cost here
});
const databases = new Databases(PouchDB);
const replicator = new Replicator(PouchDB, databases, (url) => url.host === address);

app.disable('etag');
app.disable('x-powered-by');
app.use(access(process.env.COUCH_USER, process.env.COUCH_PASSWORD));
app.get('/', (request, response) => response.json({ couchdb: 'Welcome', vendor: { name: 'PouchDB in place of CouchDB' } }));
app.get('/_up', (request, response) => {
  if (replicator.ready) response.json({ status: 'ok', seeds: {} });
  else response.status(404).json({ status: 'starting' });
});
// Makes CouchDB's own replicator use basic authentication.
app.post('/_session', (request, response) => response.status(404).json({ error: 'not_found', reason: 'missing' }));
// With another content type, such as that of `curl -d`, an empty document would be stored.
app.use((request, response, next) => {
  const type = request.headers['content-type'] || FORM;
  if (type.startsWith(FORM)) request.headers['content-type'] = 'application/json';
  next();
});
app.use(names.rewrite);
app.get('/_all_dbs', (request, response, next) => {
  PouchDB.allDbs()
    .then((files) => response.json(files.map(names.database).sort()))
    .catch(next);
});
app.put('/_replicator/:id', express.json({ limit: LARGEST_BODY }), plainEndpoints);
app.put('/:db', databases.creation());
app.get('/:db/_changes', continuousChanges(databases));
app.use(pouch);

const server = app.listen(Number(port), host, () => {
  replicator.start();
  console.log(`listening on ${address}, data in ${folder}`);
});
server.keepAliveTimeout = KEEP_ALIVE_MS;
server.on('error', (error) => {
  console.error(`cannot listen on ${address}: ${error.code === 'EADDRINUSE' ? 'address already in use' : error}`);
  process.exit(1);
});
process.on('SIGTERM', () => process.exit(0));
