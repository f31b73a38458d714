// What a Pika says to an ordinary client: where its logs end, and which server it is.

import type { Endpoint } from '../../runtime/endpoint.ts';
import { Session } from '../redis-stream/connection.ts';
import type { Place, Places } from './position.ts';

// 3.x: "db0 binlog_offset=3 81920,safety_purge=none"; 3.5 and newer: "db0:binlog_offset=...".
const ENDS = /^([\w-]+)[: ]binlog_offset=(\d+) (\d+)/gm;

export class PikaServer {
  readonly #endpoint: Endpoint;
  #session: Promise<Session> | undefined;
  #isClosed = false;

  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint;
  }

  /** End of each database's log. @throws Error when the server does not answer, or has no logs */
  async ends(): Promise<Places> {
    const places = endsIn(await this.#info('replication'));
    if (places.size === 0) {
      throw new Error(
        `${this.#endpoint.display} names no binlog in INFO replication: is it a Pika with write-binlog yes?`,
      );
    }
    return places;
  }

  async runId(): Promise<string | undefined> {
    return /^run_id:(\w+)/m.exec(await this.#info('server'))?.[1];
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const session = this.#session;
    this.#session = undefined;
    await session?.then((open) => open.close()).catch(() => {});
  }

  async #info(section: string): Promise<string> {
    const session = await this.#open();
    try {
      return String(await session.redis.call('INFO', section));
    } catch (error) {
      this.#session = undefined;
      session.close();
      throw session.explain(error);
    }
  }

  async #open(): Promise<Session> {
    const known = await this.#session?.catch(() => undefined);
    if (known !== undefined && !known.ended) return known;
    if (this.#isClosed) throw new Error('the source is closed');
    const { host, port, username, password, display } = this.#endpoint;
    // Without a name: not every version knows CLIENT SETNAME.
    const access = {
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
    };
    this.#session = Session.openWith({ host, port, db: 0, ...access }, display);
    return await this.#session;
  }
}

export function endsIn(info: string): Places {
  const places: [string, Place][] = [];
  for (const [, db, filenum, offset] of info.matchAll(ENDS))
    places.push([db as string, { filenum: Number(filenum), offset: Number(offset) }]);
  return new Map(places.sort(([a], [b]) => (a < b ? -1 : 1)));
}
