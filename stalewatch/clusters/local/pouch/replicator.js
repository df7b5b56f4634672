'use strict';
// Continuous replication as documents of `_replicator` say it: a job runs for as long as its document stands, through
// restarts of this server and outages of the other one.

const RETRY_MS = 500; // a link that is healed is used again soon

/** Runs a job for every document of `_replicator`. */
module.exports = class Replicator {
  /** `own` tells whether a URL leads to this very server, whose databases need no detour through HTTP. */
  constructor(PouchDB, databases, own) {
    this.PouchDB = PouchDB;
    this.databases = databases;
    this.own = own;
    this.jobs = new Map();
  }

  /** Begin: with the documents that are there, then with every change. */
  start() {
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

  /** Return what PouchDB replicates from or to: a database of ours, or a URL. */
  async endpoint(address) {
    const url = new URL(address);
    if (!this.own(url)) return new this.PouchDB(address, { skip_setup: true });
    const name = decodeURIComponent(url.pathname.replace(/^\/|\/$/g, ''));
    const database = await this.databases.open(name);
    if (!database) throw new Error(`database ${name} does not exist`);
    return database;
  }
};

/** One replication, begun again whenever it ends. */
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
        this.tell(error.message || error.reason || error.name);
      }
      if (!this.stopped) await new Promise((resolve) => (this.waiting = setTimeout(resolve, RETRY_MS)));
    }
  }

  // Without PouchDB's own retries, each of which waits longer than the one before.
  async replicate() {
    const { source, target } = this.document;
    const [from, to] = await Promise.all([this.replicator.endpoint(source), this.replicator.endpoint(target)]);
    if (this.stopped) return;
    this.running = this.replicator.PouchDB.replicate(from, to, { live: true, retry: false });
    await this.running;
  }

  /** Log why it ended, once for a row of equal reasons; never a URL, which holds a password. */
  tell(reason) {
    if (reason !== this.told) console.error(`replication ${this.id}: ${reason}`);
    this.told = reason;
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.waiting);
    if (this.running) this.running.cancel();
  }
}
