'use strict';
// The databases of this server, by name: each is opened once, and forgotten when it is deleted.

/** Opens databases that exist; to open one that does not would create it. */
module.exports = class Databases {
  constructor(PouchDB) {
    this.PouchDB = PouchDB;
    this.opened = new Map();
    PouchDB.on('destroyed', (name) => this.opened.delete(name));
  }

  /** Return the database of that name, or null where there is none. */
  async open(name) {
    if (!(await this.PouchDB.allDbs()).includes(name)) return null;
    if (!this.opened.has(name)) this.opened.set(name, new this.PouchDB(name));
    return this.opened.get(name);
  }
};
