// The end of a migration, while the workers run:
//
//   writes held or over -> lag 0 -> true deadlines -> keys that records name -> verify -> writes go on -> keys removed
//
// The order is chosen so that it may end anywhere: nothing but deadlines is written before the last step, each of them the
// source's own. Whatever ends it, the pause of the source's writes ends with it (finish/freeze.ts).

import { infoOf } from '../../queues/connection.ts';
import { CommandTable } from '../binlog/command-table.ts';
import { formatKey } from '../binlog/quoting.ts';
import { Deadlines } from '../finish/deadlines.ts';
import { Freeze } from '../finish/freeze.ts';
import { atTargetOnly, type Lone } from '../finish/lone.ts';
import { namedKeys } from '../finish/named-keys.ts';
import { readWriteMark, type WriteMark, waitUntilQuiet } from '../finish/writes.ts';
import type { Registration } from '../roles/registration.ts';
import { sleep } from '../runtime/backoff.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import { AbortedError, ConfigurationError, StopError } from '../runtime/errors.ts';
import { parseLinkUrl } from '../sources/redis-link/url.ts';
import type { Identity } from '../target/control.ts';
import { Link } from '../verify/link.ts';
import { lookAtKey } from '../verify/look.ts';
import type { CommandContext } from './context.ts';
import { finishFile } from './finish-file.ts';
import { removeControlKeys, say, telling, untilApplied, untilNoWorkers, workersOf } from './finish-steps.ts';
import { type FinishReport, renderFinish, stopCommands } from './finish-view.ts';
import { formatCount } from './format.ts';
import { type OpenPipeline, withPipeline } from './open-pipeline.ts';
import { compareServers } from './verify.ts';

const QUIET_MS = 3_000;
const ROUNDS = 5;
const PATIENCE_MS = 60_000;
const LOOK_AGAIN_MS = 500;
const LOOKS = 3;
const FIRST_MAX = 100;
const TTL = { toleranceMs: 2_000, graceMs: 0 } as const;
const SOURCE_RIGHTS = '~* +@read +info +select';
const TARGET_RIGHTS = `${SOURCE_RIGHTS} +pexpireat +persist`;

export async function finish(context: CommandContext): Promise<number> {
  const { config } = context;
  const { source = '', target } = config;
  if (/^aof:/i.test(source)) return await finishFile(context);
  if (!/^rediss?:\/\//i.test(source)) {
    throw new ConfigurationError([
      '--source: finish is the end of following a live server, or of an AOF: it needs a URL that begins with redis://, rediss:// or aof://',
    ]);
  }
  if (target === undefined) throw new ConfigurationError(['--target is missing']);
  const { endpoint } = parseLinkUrl('--source', source, config.sourceSecrets);
  return await withPipeline(context, (pipeline) => new Finish(context, pipeline, endpoint, target).run());
}

class Finish {
  readonly #context: CommandContext;
  readonly #pipeline: OpenPipeline;
  readonly #ends: { readonly source: Endpoint; readonly target: Endpoint };
  readonly #source: Link;
  readonly #target: Link;
  readonly #freeze: Freeze;
  readonly #report: FinishReport;
  #deadlines: Deadlines | undefined;
  #mark: WriteMark | undefined;

  constructor(context: CommandContext, pipeline: OpenPipeline, source: Endpoint, target: Endpoint) {
    const { signal, log, config } = context;
    this.#context = context;
    this.#pipeline = pipeline;
    this.#ends = { source, target };
    const link = (side: 'source' | 'target', endpoint: Endpoint, rights: string) =>
      new Link({
        side,
        endpoint,
        signal,
        rights,
        name: `lanegate:${config.name}:finish`,
        patienceMs: PATIENCE_MS,
        onTrouble: (what) => log.warn({ side }, `finish waits: ${what}`),
      });
    this.#source = link('source', source, SOURCE_RIGHTS);
    this.#target = link('target', target, TARGET_RIGHTS);
    this.#freeze = new Freeze(source);
    this.#report = { frozen: config.freeze, writes: 'not looked at', done: [], open: [] };
  }

  async run(): Promise<number> {
    const { config, signal, stdout } = this.#context;
    let failure: unknown;
    try {
      await this.#steps();
    } catch (error) {
      failure = error;
      this.#report.open.unshift(error instanceof AbortedError ? 'interrupted' : 'cut short by an error');
    } finally {
      await this.#thaw();
      this.#freeze.close();
      this.#source.close();
      this.#target.close();
    }
    if (config.json) stdout.write(`${JSON.stringify(this.#report)}\n`);
    else {
      const workers = await this.#workers().catch(() => []);
      stdout.write(renderFinish(this.#report, { config, ...this.#ends, workers }));
    }
    if (failure !== undefined && !(failure instanceof AbortedError && signal.aborted)) throw failure;
    return this.#report.open.length === 0 ? 0 : 1;
  }

  async #steps(): Promise<void> {
    const { config } = this.#context;
    const identity = await this.#open();
    this.#deadlines = new Deadlines({
      source: this.#source,
      target: this.#target,
      graceMs: identity.graceMs,
    });
    await this.#restoreDeadlines(this.#deadlines);
    // Under the freeze the source logs no DEL of a key whose time comes: those keys can be told afterwards alone.
    if (!config.freeze) await this.#settleLone(this.#deadlines);
    if (identity.importMode) this.#report.importMode = true;
    await this.#compareNamed(identity);
    if (config.verify) await this.#verify(this.#deadlines);
    await this.#thaw();
    if (config.freeze) await this.#settleLone(this.#deadlines);
    if (config.removeKeys) await this.#removeKeys();
  }

  async #open(): Promise<Identity> {
    const { identity, status } = await this.#pipeline.observer.observe();
    const { name } = this.#context.config;
    if (identity === undefined) {
      throw new StopError(
        'NOT_BEGUN',
        status.target.waiting?.hint ?? `the target knows nothing of pipeline "${name}"`,
        { hint: 'look whether --name, --target and --queue are those of the workers' },
      );
    }
    if (!identity.source.startsWith('redis-link:')) {
      throw new StopError(
        'NOT_LIVE',
        `pipeline "${name}" does not follow a live server, but ${identity.source}`,
        {
          hint: 'its deadlines are not held back: lanegate status --wait, then switch',
        },
      );
    }
    await Promise.all([this.#source.open(), this.#target.open()]);
    if (this.#source.run !== '' && this.#source.run === this.#target.run) {
      throw new ConfigurationError(['--source and --target are the same server']);
    }
    return identity;
  }

  /** Until a pass was made in which nobody wrote. */
  async #restoreDeadlines(deadlines: Deadlines): Promise<void> {
    const { config, signal } = this.#context;
    const timeoutMs = config.timeout * 1000;
    for (let round = 1; round <= ROUNDS; round++) {
      if (config.freeze) await this.#hold();
      else this.#say(`waiting until the source was not written to for ${QUIET_MS / 1000} s`);
      const quietMs = config.freeze ? 0 : QUIET_MS;
      this.#mark = await waitUntilQuiet(this.#source, { quietMs, timeoutMs, signal });
      this.#report.writes = config.freeze ? 'held' : 'quiet';
      await this.#caughtUp();
      this.#say('putting the true deadlines back');
      const end = await telling(
        this.#context,
        () => `${formatCount(deadlines.counts.scanned)} keys, ${formatCount(deadlines.counts.restored)} set`,
        () => deadlines.pass(this.#mark ?? ''),
      );
      const { counts } = deadlines;
      this.#report.deadlines = { ...counts, rounds: round, exact: end === 'complete' };
      if (end === 'complete') {
        this.#report.done.push('deadlines');
        return;
      }
      this.#say('the source was written to meanwhile: once more');
    }
    throw new StopError('NOT_QUIET', `the source was written to during each of ${ROUNDS} passes`, {
      hint: 'stop the writers and repeat it, or let --freeze hold their writes',
    });
  }

  async #hold(): Promise<void> {
    if (this.#freeze.held) return;
    const queue = /^run_id:(\S+)/m.exec(await infoOf(this.#pipeline.redis, 'server'))?.[1];
    if (queue !== undefined && queue === this.#source.run) {
      throw new StopError('FREEZE_QUEUE', 'the queue lives on the source: frozen, nothing could be applied', {
        hint: 'stop the writers, and repeat without --freeze',
      });
    }
    await this.#freeze.begin();
    this.#say('the writes at the source are held');
  }

  /** May be repeated. */
  async #thaw(): Promise<void> {
    if (!this.#freeze.held) return;
    if (await this.#freeze.release()) this.#report.writes = 'released';
    else this.#report.writes = 'released within 15 s';
    this.#say(
      this.#report.writes === 'released'
        ? 'the writes at the source go on'
        : 'the source does not answer: the pause of its writes ends by itself within 15 s',
    );
  }

  async #caughtUp(): Promise<void> {
    this.#say('waiting until all of it is applied');
    this.#report.caughtUp = await untilApplied(this.#context, this.#pipeline);
  }

  /** What had a deadline at the target, and was not there at the source: gone on both sides once the source's DEL is applied. */
  async #settleLone({ lone, loneMore }: Deadlines): Promise<void> {
    const pair = { source: this.#source, target: this.#target };
    const left = await atTargetOnly(pair, lone, () => this.#caughtUp());
    const first = left.slice(0, FIRST_MAX).map(({ db, key }) => ({ db, key: formatKey(key, 256) }));
    this.#report.targetOnly = { count: left.length, first, notLookedAt: loneMore };
    if (left.length > 0)
      this.#report.open.push(`${formatCount(left.length)} keys with a deadline are at the target only`);
    if (loneMore > 0)
      this.#report.open.push(
        `${formatCount(loneMore)} more keys were not at the source, and were not looked at again`,
      );
  }

  async #compareNamed(identity: Identity): Promise<void> {
    const { redis, journal } = this.#pipeline;
    const { records, unnamed, keys } = await namedKeys(
      redis,
      journal,
      CommandTable.withAdditions(identity.commands),
    );
    const different: { db: number; key: string; kind: string; detail: string }[] = [];
    if (keys.length > 0) this.#say(`comparing ${formatCount(keys.length)} keys that records name`);
    const databases = new Set([
      ...(await this.#source.databases()).keys(),
      ...(await this.#target.databases()).keys(),
    ]);
    for (const db of keys.length === 0 ? [] : databases) {
      if (!(await this.#source.select(db)) || !(await this.#target.select(db))) continue;
      for (const key of keys) {
        const finding = await this.#lookAt(key);
        if (finding !== undefined) different.push({ db, key: formatKey(key, 256), ...finding });
      }
    }
    this.#report.records = {
      records,
      unnamed,
      keys: keys.length,
      different: different.length,
      first: different.slice(0, FIRST_MAX),
    };
    this.#report.done.push('records');
    if (different.length > 0)
      this.#report.open.push(`${formatCount(different.length)} keys that records name differ`);
    if (unnamed > 0 && !this.#context.config.verify) {
      this.#report.open.push(
        `the keys of ${formatCount(unnamed)} records are not known any more: --verify compares everything`,
      );
    }
  }

  async #lookAt(key: Buffer): Promise<{ kind: string; detail: string } | undefined> {
    for (let look = 1; ; look++) {
      const verdict = await lookAtKey({ source: this.#source, target: this.#target }, key, TTL);
      if (typeof verdict === 'string') return undefined;
      if (look === LOOKS) return verdict;
      await sleep(LOOK_AGAIN_MS, this.#context.signal);
    }
  }

  async #verify({ lone }: Deadlines): Promise<void> {
    this.#say('comparing both sides');
    const pardoned = new Set(lone.map(nameOf));
    const pardon = (db: number, key: Buffer) => pardoned.has(nameOf({ db, key }));
    const { source, target } = this.#ends;
    const result = await compareServers(this.#context, source, target, pardon);
    this.#report.verify = result;
    this.#report.done.push('verify');
    const count = Object.values(result.differences).reduce((sum, some) => sum + some, 0);
    if (count > 0) this.#report.open.push(`${formatCount(count)} keys differ`);
  }

  async #removeKeys(): Promise<void> {
    const refuse = (why: string) =>
      this.#report.open.push(`the pipeline's keys at the target are kept: ${why}`);
    if (this.#report.open.length > 0) return void refuse('not everything is done');
    const alive = await untilNoWorkers(this.#context, this.#pipeline, 'all is done: stop the workers now');
    if (alive.length > 0) return void refuse(`its processes run; stop them: ${stopCommands(alive)}`);
    if ((await readWriteMark(this.#source)) !== this.#mark) {
      return void refuse('the source was written to since; start the workers and repeat lanegate finish');
    }
    const removed = await removeControlKeys(this.#context, this.#target, this.#ends.target.db);
    if (removed === undefined) return void refuse('not confirmed');
    this.#report.removed = removed;
    this.#report.done.push('keys removed');
  }

  #workers(): Promise<readonly Registration[]> {
    return workersOf(this.#context, this.#pipeline);
  }

  #say(what: string): void {
    say(this.#context, what);
  }
}

function nameOf({ db, key }: Lone): string {
  return `${db}:${key.toString('latin1')}`;
}
