'use strict';
// GET /DB/_changes?feed=continuous: a feed that ends when its client disconnects. (express-pouchdb's own never ends: 400
// of them brought throughput down from 351 to 9 writes per second.)

const HEARTBEAT_MS = 60_000; // CouchDB's default

/** Return a handler of continuous feeds; it passes other feeds to the next handler. */
module.exports = function continuousChanges(databases) {
  return async (request, response, next) => {
    if (request.query.feed !== 'continuous') return next();
    try {
      const database = await databases.open(request.params.db);
      if (database) return follow(database, request.query, response);
      return response.status(404).json({ error: 'not_found', reason: 'Database does not exist.' });
    } catch (error) {
      return next(error);
    }
  };
};

function follow(database, query, response) {
  response.writeHead(200, { 'Content-Type': 'application/json' });
  response.flushHeaders();
  const feed = database.changes({
    live: true,
    since: query.since === 'now' ? 'now' : Number(query.since) || 0,
    include_docs: query.include_docs === 'true',
    conflicts: query.conflicts === 'true',
    style: query.style,
    return_docs: false,
  });
  feed.on('change', (change) => response.write(`${JSON.stringify(change)}\n`));
  feed.on('error', () => response.end());
  const heart = setInterval(() => response.write('\n'), Number(query.heartbeat) || HEARTBEAT_MS);
  response.on('close', () => {
    clearInterval(heart);
    feed.cancel();
  });
}
