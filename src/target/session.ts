// One fenced session with the target (design: "Apply").
//
//     fence:   WATCH k...; MGET k...; MULTI      in one write, together with the EXEC before them
//     commit:  commands; SELECT db of the checkpoints; SET ...; EXEC
//
// Commands are sent only after WATCH and MULTI were accepted and the values were read; otherwise the session is
// brought back to a clean state (DISCARD, else UNWATCH). Outside MULTI it is always in the checkpoints' database.
// A broken connection ends the session: what an EXEC without a reply did is settled by the checkpoints alone.

import { encodeCommand } from '../binlog/resp.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import { selectCommand } from '../sequencer/batch-builder.ts';
import { Connection } from '../wire/connection.ts';
import { type BatchOutcome, ReplyError } from '../wire/replies.ts';
import { echoOf, REDIS_TRAITS, type TargetTraits } from './traits.ts';

export interface SessionOptions {
  readonly name: string;
  readonly connectTimeoutMs: number;
  readonly replyTimeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** A Redis without it. */
  readonly traits?: (() => TargetTraits) | undefined;
}

/** What the watched keys held when MULTI was accepted; null for a missing key. */
export type FenceValues = readonly (string | null)[];

/**
 * Whether the session sees keys whose time has come, as a replica does: `on`; `off` where the target knows import mode
 * (Valkey 8.1) and is not in it; `unknown` where it does not, or does not let us.
 */
export type ImportMode = 'on' | 'off' | 'unknown';

export class FencedSession {
  readonly #connection: Connection;
  readonly #db: number;
  readonly #traits: () => TargetTraits;
  #state: 'clean' | 'fenced' = 'clean';
  #importMode: ImportMode = 'unknown';

  private constructor(connection: Connection, db: number, traits: () => TargetTraits) {
    this.#connection = connection;
    this.#db = db;
    this.#traits = traits;
  }

  /** @throws what Connection.open throws */
  static async open(endpoint: Endpoint, options: SessionOptions): Promise<FencedSession> {
    const traits = options.traits ?? (() => REDIS_TRAITS);
    return new FencedSession(await Connection.open(endpoint, options), endpoint.db, traits);
  }

  get closed(): boolean {
    return this.#connection.closed;
  }

  /** Database of the checkpoints. */
  get db(): number {
    return this.#db;
  }

  /** As `askForImport` found it last. */
  get importMode(): ImportMode {
    return this.#importMode;
  }

  /** Outside of any fence; holds for the session's life. */
  async askForImport(): Promise<ImportMode> {
    const reply = await this.#connection.call(['CLIENT', 'IMPORT-SOURCE', 'ON']);
    if (!(reply instanceof ReplyError)) this.#importMode = 'on';
    else this.#importMode = /not in import mode/i.test(reply.message) ? 'off' : 'unknown';
    return this.#importMode;
  }

  get traits(): TargetTraits {
    return this.#traits();
  }

  /** Plain read outside of any fence. */
  async read(keys: readonly string[]): Promise<FenceValues> {
    const reply = await this.#connection.call(['MGET', ...keys]);
    if (reply instanceof ReplyError) throw reply;
    return valuesOf(reply);
  }

  /** Any other command outside of a fence; error replies are thrown. */
  async call(args: readonly (string | number | Buffer)[], timeoutMs?: number): Promise<unknown> {
    const reply = await this.#connection.call(args, { timeoutMs });
    if (reply instanceof ReplyError) throw reply;
    return reply;
  }

  /**
   * Watches `keys` and reads them, and `unwatched` behind them.
   * @throws ReplyError when the target refuses WATCH, MGET or MULTI: then the session is clean again.
   */
  async fence(keys: readonly string[], unwatched: readonly string[] = []): Promise<FenceValues> {
    this.#state = 'fenced';
    const read = ['MGET', ...keys, ...unwatched];
    const [watch, values, multi] = await this.#connection.callMany([['WATCH', ...keys], read, ['MULTI']]);
    const refused = [watch, values, multi].find((reply) => reply instanceof ReplyError);
    if (refused instanceof ReplyError) {
      await this.#connection.call(multi instanceof ReplyError ? ['UNWATCH'] : ['DISCARD']);
      this.#state = 'clean';
      throw refused;
    }
    return valuesOf(values);
  }

  /** Leaves the fence without doing anything. */
  async abandon(): Promise<void> {
    if (this.#state === 'clean' || this.#connection.closed) return;
    this.#state = 'clean';
    await this.#connection.call(['DISCARD']);
  }

  /**
   * Runs a batch inside the open fence. `sets` are written behind it in the checkpoints' database. With `next`, the
   * fence of the next batch travels along; its promise is returned and must be awaited before anything else.
   */
  async commit(
    batch: { readonly parts: readonly Buffer[]; readonly count: number; readonly dbLast: number },
    sets: readonly (readonly [key: string, value: string])[],
    options: { readonly next?: readonly string[] | undefined; readonly timeoutMs?: number | undefined } = {},
  ): Promise<{ outcome: BatchOutcome; next: Promise<FenceValues> | undefined }> {
    const parts = [...batch.parts];
    let count = batch.count;
    if (batch.dbLast !== this.#db) {
      parts.push(selectCommand(this.#db));
      count++;
    }
    for (const [key, value] of sets) parts.push(encodeCommand(['SET', key, value]));
    count += sets.length;
    if (this.traits.echo) {
      for (const [key] of sets) parts.push(encodeCommand(echoOf(key)));
      count += sets.length;
    }
    const execution = this.#connection.execBatch(parts, count, { timeoutMs: options.timeoutMs });
    this.#state = 'clean';
    const next = options.next ? this.fence(options.next) : undefined;
    // Its rejection is the caller's to see when it awaits `next`.
    next?.catch(() => {});
    return { outcome: await execution, next };
  }

  close(): void {
    this.#connection.close();
  }
}

function valuesOf(reply: unknown): FenceValues {
  if (!Array.isArray(reply)) throw new Error('the target answered MGET with something that is not a list');
  return reply.map((value) => (value === null ? null : String(value)));
}
