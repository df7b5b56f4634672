'use strict';
// The databases of this server by the name of their files: each is opened once, and dropped from the map when it is deleted.

const names = require('./names');

const LEGAL = /^[a-z][a-z0-9_$()+/-]*$/;
const POLL_MS = 5;

/** Opens existing databases only, because opening a missing one would create it, and creates them on request. */
module.exports = class Databases {
  constructor(PouchDB) {
    this.PouchDB = PouchDB;
    this.opened = new Map();
    PouchDB.on('destroyed', (name) => this.opened.delete(name));
  }

  async exists(name) {
    return (await this.PouchDB.allDbs()).includes(name);
  }

  /** Return the database of that name, or null if there is none. */
  async open(name) {
    if (!(await this.exists(name))) return null;
    if (!this.opened.has(name)) this.opened.set(name, new this.PouchDB(name));
    return this.opened.get(name);
  }

  /** Return when the database is listed: PouchDB lists it later, and a kill in between would lose it. */
  async create(name) {
    await new this.PouchDB(name).info();
    while (!(await this.exists(name))) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }

  /** Return a handler of PUT /DB; it passes system databases to the next handler. */
  creation() {
    return async (request, response, next) => {
      const name = request.params.db;
      if (!LEGAL.test(names.database(name))) return next();
      try {
        if (await this.exists(name)) {
          return response.status(412).json({ error: 'file_exists', reason: 'The database could not be created.' });
        }
        await this.create(name);
        return response.status(201).json({ ok: true });
      } catch (error) {
        return next(error);
      }
    };
  }
};
