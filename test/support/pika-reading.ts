import { expect } from 'vitest';
import { RespScanner } from '../../src/binlog/resp.ts';
import type { StopError } from '../../src/runtime/errors.ts';
import { parsePikaUrl } from '../../src/sources/pika/url.ts';
import { PikaSource } from '../../src/sources/pika.ts';
import type { Entry, Position } from '../../src/sources/source.ts';

export type SourceOptions = Omit<ConstructorParameters<typeof PikaSource>[0], 'endpoint' | 'databases'>;

const QUICK = { pingMs: 20, silenceMs: 10_000, replyMs: 5_000, takenMs: 10 };

/** A source with short pings; closed on dispose. */
export class Reading implements AsyncDisposable {
  readonly source: PikaSource;

  constructor(url: string, options: SourceOptions = {}) {
    const { timings, ...rest } = options;
    this.source = new PikaSource({
      ...parsePikaUrl('--source', url),
      ...rest,
      timings: { ...QUICK, ...timings },
    });
  }

  async from(where: string): Promise<Position> {
    return (await this.source.resolve(where)).position;
  }

  /** Entries that hold `count` commands or more. `marks`: everything is applied at once. */
  async take(position: Position, count: number, options: { marks?: boolean } = {}): Promise<Entry[]> {
    const entries: Entry[] = [];
    const abort = new AbortController();
    let found = 0;
    for await (const chunk of this.source.read(position, abort.signal)) {
      expect(chunk.length).toBeGreaterThan(0);
      entries.push(...chunk);
      for (const entry of chunk) found += commandsOf([entry]).length;
      if (options.marks !== false) await this.source.acknowledge(chunk.at(-1)?.position ?? '');
      if (found >= count) abort.abort();
    }
    return entries;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.source.close();
  }
}

/** The commands of the entries as text: `db0 SET k v`; PING stands for none. */
export function commandsOf(entries: readonly Entry[]): string[] {
  const scanner = new RespScanner();
  const found: string[] = [];
  for (const { resp, db, malformed } of entries) {
    if (malformed !== undefined) {
      found.push(`db${db} malformed`);
      continue;
    }
    scanner.reset(resp);
    while (scanner.next()) {
      const command = scanner.args().map((arg) => arg.toString('latin1'));
      if (command[0] !== 'PING') found.push(`db${db} ${command.join(' ')}`);
    }
  }
  return found;
}

export async function stopOf(work: Promise<unknown>): Promise<StopError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toMatchObject({ name: 'StopError' });
  return error as StopError;
}
