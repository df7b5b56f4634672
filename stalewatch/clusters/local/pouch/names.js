'use strict';
// Databases with a slash in their name: their files have another character there, which no name may contain.

const IN_FILES = '=';

/** Return the name of a database's files; express-pouchdb would drop slashes, so that a/b and ab were the same. */
exports.file = (name) => name.replaceAll('/', IN_FILES);

/** Return the name of the database with these files. */
exports.database = (file) => file.replaceAll(IN_FILES, '/');

/** Replace the database in a request's path by the name of its files. */
exports.rewrite = (request, response, next) => {
  const [, encoded, rest] = /^\/([^/?]*)(.*)$/s.exec(request.url) || [];
  if (/%2f/i.test(encoded)) request.url = `/${encodeURIComponent(exports.file(decodeURIComponent(encoded)))}${rest}`;
  next();
};
