'use strict';
// Continuous replication as configured by the documents of `_replicator`: a job runs as long as its document exists,
// across restarts of this server and outages of the other one.

const names = require('./names');

const RETRY_MS = 500; // so that a repaired link is used again soon

/** Runs one job per document of `_replicator`. */
module.exports = class Replicator {
  /** `own` returns whether a URL leads to this server, whose databases are used directly and not by HTTP. */
  constructor(PouchDB, databases, own) {
    this.PouchDB = PouchDB;
    this.databases = databases;
    this.own = own;
    this.jobs = new Map();
    this.ready = false; // whether requests find `_replicator`, which PouchDB lists some time after it opens it
  }

  /** Start jobs for the existing documents, then follow every change. */
  start() {
    this.databases
      .create('_replicator')
      .then(() => (this.ready = true))
      .catch((error) => console.error(`_replicator: ${error.message}`));
    this.documents = new this.PouchDB('_replicator');
    this.documents
      .changes({ live: true, since: 0, include_docs: true, return_docs: false })
      .on('change', ({ id, doc, deleted }) => this.follow(id, deleted ? null : doc))
      .on('error', (error) => console.error(`_replicator: ${error.message}`));
  }

  follow(id, document) {
    const wanted = document && JSON.stringify([document.source, document.target]);
    const job = this.jobs.get(id);
    if (job && job.wanted === wanted) return;
    if (job) job.stop();
    this.jobs.delete(id);
    if (document && !id.startsWith('_design/')) this.jobs.set(id, new Job(this, id, document, wanted));
  }

  /** Return the database for PouchDB to replicate from or to: one of our own, or a remote one. */
  async endpoint(address) {
    const url = new URL(address);
    if (!this.own(url)) return new this.PouchDB(address, { skip_setup: true });
    const name = decodeURIComponent(url.pathname.replace(/^\/|\/$/g, ''));
    const database = await this.databases.open(names.file(name));
    if (!database) throw new Error(`database ${name} does not exist`);
    return database;
  }
};

/** One replication, restarted whenever it ends. */
class Job {
  constructor(replicator, id, document, wanted) {
    this.replicator = replicator;
    this.id = id;
    this.document = document;
    this.wanted = wanted;
    this.stopped = false;
    this.run();
  }

  async run() {
    while (!this.stopped) {
      try {
        await this.replicate();
      } catch (error) {
        this.log(error.message || error.reason || error.name);
      }
      if (!this.stopped) await new Promise((resolve) => (this.waiting = setTimeout(resolve, RETRY_MS)));
    }
  }

  // Without PouchDB's own retries, each of which waits longer than the last.
  async replicate() {
    const { source, target } = this.document;
    const [from, to] = await Promise.all([this.replicator.endpoint(source), this.replicator.endpoint(target)]);
    if (this.stopped) return;
    this.running = this.replicator.PouchDB.replicate(from, to, { live: true, retry: false });
    await this.running;
  }

  /** Log why it ended, unless the reason is the same as before; never a URL, which contains a password. */
  log(reason) {
    if (reason !== this.logged) console.error(`replication ${this.id}: ${reason}`);
    this.logged = reason;
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.waiting);
    if (this.running) this.running.cancel();
  }
}
