import type { EncodedEntry } from '../binlog-writer.ts';
import { type InputCommand, InputError } from './input.ts';

/** A MULTI is held back until its EXEC: this bounds it. The same as the pipeline's default for `transactionBytes`. */
const TRANSACTION_BYTES_MAX = 64 * 1024 * 1024;
const ENTRY_BYTES = 1024 * 1024;

export interface BuiltEntry extends EncodedEntry {
  readonly commands: number;
}

/**
 * Cuts commands into entries of at most `batch` commands and about 1 MiB; a MULTI stays in one, whatever its length. A
 * SELECT holds for the entries that follow, as it does on a connection.
 */
export class EntryBuilder {
  readonly #batch: number;
  #parts: Buffer[] = [];
  #bytes = 0;
  /** Where the entry starts, and where the next one would. */
  #dbAtStart: number;
  #db: number;
  #transaction: InputCommand[] = [];
  #transactionBytes = 0;

  constructor(options: { readonly batch: number; readonly db: number }) {
    this.#batch = options.batch;
    this.#db = options.db;
    this.#dbAtStart = options.db;
  }

  /** Takes a command; calls `emit` for each entry that is full. @throws InputError for a MULTI that is none. */
  add(command: InputCommand, emit: (entry: BuiltEntry) => void): void {
    const inside = this.#transaction.length > 0;
    const { name } = command;
    if (name === 'MULTI' && inside) throw new InputError(command.at, 'MULTI inside MULTI');
    if ((name === 'EXEC' || name === 'DISCARD') && !inside)
      throw new InputError(command.at, `${name} without MULTI`);
    if (!inside && name !== 'MULTI') {
      this.#append([command], emit);
      return;
    }
    this.#transaction.push(command);
    this.#transactionBytes += command.bytes.length;
    if (this.#transactionBytes > TRANSACTION_BYTES_MAX) {
      throw new InputError(command.at, `the MULTI is larger than ${TRANSACTION_BYTES_MAX} bytes`);
    }
    if (name !== 'EXEC' && name !== 'DISCARD') return;
    const whole = this.#transaction;
    this.#transaction = [];
    this.#transactionBytes = 0;
    this.#append(whole, emit);
  }

  /** Where a MULTI stands whose EXEC has not come. */
  get openTransactionAt(): number | undefined {
    return this.#transaction[0]?.at;
  }

  /** The entry that is not full yet, without a MULTI that is not complete. */
  flush(emit: (entry: BuiltEntry) => void): void {
    if (this.#parts.length === 0) return;
    emit({
      resp: Buffer.concat(this.#parts, this.#bytes),
      db: this.#dbAtStart,
      commands: this.#parts.length,
    });
    this.#parts = [];
    this.#bytes = 0;
    this.#dbAtStart = this.#db;
  }

  /** `commands`: one, or a whole transaction. */
  #append(commands: readonly InputCommand[], emit: (entry: BuiltEntry) => void): void {
    if (this.#parts.length + commands.length > this.#batch) this.flush(emit);
    const discarded = commands.at(-1)?.name === 'DISCARD';
    for (const { bytes, name, db } of commands) {
      this.#parts.push(bytes);
      this.#bytes += bytes.length;
      if (name === 'SELECT' && db !== undefined && !discarded) this.#db = db;
    }
    if (this.#parts.length >= this.#batch || this.#bytes >= ENTRY_BYTES) this.flush(emit);
  }
}
