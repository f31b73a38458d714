import type { Argument } from '../support/pika-log.ts';
import { PikaMaster } from '../support/pika-master.ts';

// A Pika under one address, whoever is the master there just now. A master that is down logs nothing.

/** The master has others beside them. */
export const PIKA_DATABASES = ['db0', 'db1', 'db2', 'db5'] as const;
const OTHERS = ['db3', 'db4'] as const;
/** Small, so that logs roll. */
const FILE_BYTES = 512 * 1024;
const WINDOW_ITEMS = 900;

export type PikaDatabase = (typeof PIKA_DATABASES)[number];

export class PikaOrigin implements AsyncDisposable {
  #master: PikaMaster;
  /** Of masters that are gone. */
  readonly #complaints: string[] = [];
  #clockS = 0;

  private constructor(master: PikaMaster) {
    this.#master = master;
  }

  static async start(): Promise<PikaOrigin> {
    const databases = [...PIKA_DATABASES, ...OTHERS];
    return new PikaOrigin(
      await PikaMaster.start({ databases, fileBytes: FILE_BYTES, windowItems: WINDOW_ITEMS }),
    );
  }

  get master(): PikaMaster {
    return this.#master;
  }

  get port(): number {
    return this.#master.port;
  }

  /** What a real master would have closed a connection, or died, for. */
  get complaints(): readonly string[] {
    return [...this.#complaints, ...this.#master.complaints];
  }

  write(db: PikaDatabase, commands: readonly (readonly Argument[])[]): void {
    this.#clockS = Math.max(this.#clockS, Math.floor(Date.now() / 1_000));
    this.#master.write(commands, db, this.#clockS);
  }

  /**
   * One item in the log of one database empties them all. Nothing but the time orders it among the others' items, so it
   * has a second of its own: what a real log does not promise cannot be verified.
   */
  writeFlushAll(db: PikaDatabase): void {
    this.#clockS++;
    this.write(db, [['flushall']]);
    this.#clockS++;
  }

  async kill(): Promise<void> {
    await this.#master.stop();
  }

  async restart(): Promise<void> {
    await this.#master.restart();
  }

  /** A slave that has all of the log takes over. */
  async failOver(): Promise<void> {
    const old = this.#master;
    this.#master = await old.failover();
    this.#complaints.push(...old.complaints);
  }

  async heal(): Promise<void> {
    for (const fault of Object.keys(this.#master.faults) as (keyof PikaMaster['faults'])[])
      delete this.#master.faults[fault];
    if (!this.#master.isRunning) await this.restart();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#master[Symbol.asyncDispose]();
  }
}
