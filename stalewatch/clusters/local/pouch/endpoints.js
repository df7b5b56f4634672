'use strict';
// The source and target of a replication document: a URL, or {url, auth: {basic}}, or {url, headers}.

/** Handle PUT /_replicator/ID: convert both ends to URLs with credentials, and refuse what would never run. */
module.exports = function plainEndpoints(request, response, next) {
  const document = request.body;
  if (document._deleted) return next();
  try {
    document.source = plain(document.source);
    document.target = plain(document.target);
  } catch {
    return refuse(response, 'source and target must be URLs of databases');
  }
  if (document.continuous !== true) return refuse(response, 'only continuous replication is supported');
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
