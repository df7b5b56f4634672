'use strict';
// What a replication document may say of its source and target: a URL, or {url, auth: {basic}}, or {url, headers}.

/** Return a handler of PUT /_replicator/ID that leaves URLs with credentials, and refuses what would never run. */
module.exports = function plainEndpoints(request, response, next) {
  const document = request.body;
  if (document._deleted) return next();
  try {
    document.source = plain(document.source);
    document.target = plain(document.target);
  } catch {
    return refuse(response, 'source and target must be URLs of databases');
  }
  if (document.continuous !== true) return refuse(response, 'only continuous replication is done here');
  next();
};

function plain(endpoint) {
  const url = new URL(typeof endpoint === 'string' ? endpoint : endpoint.url);
  const [user, password] = credentials(endpoint);
  if (user) Object.assign(url, { username: encodeURIComponent(user), password: encodeURIComponent(password) });
  return url.toString();
}

function credentials({ auth, headers }) {
  if (auth && auth.basic) return [auth.basic.username, auth.basic.password];
  if (!headers || !headers.Authorization) return [];
  const [, user, password] = /^([^:]*):(.*)$/.exec(Buffer.from(headers.Authorization.replace(/^Basic /, ''), 'base64'));
  return [user, password];
}

function refuse(response, reason) {
  response.status(400).json({ error: 'bad_request', reason });
}
