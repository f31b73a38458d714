import type { Endpoint } from '../../runtime/endpoint.ts';
import { AbortedError } from '../../runtime/errors.ts';
import { isReplyError, Session } from '../redis-stream/connection.ts';
import type { Point } from './position.ts';

/** What the source says of its own log. */
export interface Replication {
  readonly role: string;
  readonly at: Point;
  readonly before: Point | undefined;
}

/** An ordinary connection beside the link, for questions. A user of replication alone may not ask them. */
export class SourceControl {
  readonly #endpoint: Endpoint;
  readonly #connectionName: string;
  #session: Promise<Session> | undefined;
  #closed = false;

  constructor(endpoint: Endpoint, connectionName: string) {
    this.#endpoint = endpoint;
    this.#connectionName = connectionName;
  }

  /** Undefined where the user may not ask. */
  async replication(): Promise<Replication | undefined> {
    const info = await this.#info('replication');
    return info === undefined ? undefined : parseReplication(info);
  }

  async runId(): Promise<string | undefined> {
    return /^run_id:(\w+)/m.exec((await this.#info('server')) ?? '')?.[1];
  }

  async close(): Promise<void> {
    this.#closed = true;
    const session = this.#session;
    this.#session = undefined;
    await session?.then((open) => open.close()).catch(() => {});
  }

  async #info(section: string): Promise<string | undefined> {
    if (this.#closed) throw new AbortedError('the source is closed');
    this.#session ??= Session.open(this.#endpoint, this.#connectionName);
    const opening = this.#session;
    let session: Session | undefined;
    try {
      session = await opening;
      return await session.redis.info(section);
    } catch (error) {
      if ((session === undefined || session.ended) && this.#session === opening) this.#session = undefined;
      if (isReplyError(error) && error.message.startsWith('NOPERM')) return undefined;
      throw session === undefined ? error : session.explain(error);
    }
  }
}

function parseReplication(info: string): Replication | undefined {
  const field = (name: string) => new RegExp(`^${name}:(\\S+)`, 'm').exec(info)?.[1];
  const [role, replid, offset] = [field('role'), field('master_replid'), field('master_repl_offset')];
  if (role === undefined || replid === undefined || offset === undefined) return undefined;
  const [replid2, second] = [field('master_replid2'), Number(field('second_repl_offset') ?? -1)];
  // The offset that it names is the first byte that the two histories need not share.
  const before = replid2 === undefined || second < 1 ? undefined : { replid: replid2, offset: second - 1 };
  return { role, at: { replid, offset: Number(offset) }, before };
}
