'use strict';
// Access control: everything but the health check needs the name and password of the only user.

const { createHash, timingSafeEqual } = require('crypto');

const OPEN = new Set(['/', '/_up']);

/** Return a middleware that answers 401 to everybody except that user. */
module.exports = function access(user, password) {
  const expected = digest(`Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`);

  return (request, response, next) => {
    const open = OPEN.has(request.path) && (request.method === 'GET' || request.method === 'HEAD');
    if (open || timingSafeEqual(digest(request.headers.authorization || ''), expected)) return next();
    response.status(401).set('WWW-Authenticate', 'Basic realm="server"');
    response.json({ error: 'unauthorized', reason: 'Name or password is incorrect.' });
  };
};

// Digests have equal lengths, as timingSafeEqual requires.
function digest(text) {
  return createHash('sha256').update(text).digest();
}
