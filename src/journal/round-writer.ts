import { ConnectionLost } from '../wire/connection.ts';
import type { Link } from '../wire/link.ts';
import type { CommitOutcome, Journal, Round } from './journal.ts';
import { runScriptOver } from './scripts.ts';

/** The server copies and stores a huge round before it answers: a time of its own, at the pace of a slow disk. */
const REPLY_MS = 15_000;
const STORED_BYTES_PER_MS = 10_000;
const LOG_IS_AHEAD = 'is equal or smaller than the target stream top item';

/** Appends rounds to the journal. Their bytes go from the sequencer's memory to the socket without a copy. */
export class RoundWriter {
  readonly #journal: Journal;
  readonly #link: Link;

  constructor(journal: Journal, link: Link) {
    this.#journal = journal;
    this.#link = link;
  }

  /** May be repeated: commit.lua knows a round that is in. The round's memory must not change before this settles. */
  async commit(
    id: string,
    epoch: number,
    lanes: number,
    headBefore: number,
    round: Round,
  ): Promise<CommitOutcome> {
    const { keys } = this.#journal;
    const named = [
      keys.state,
      keys.positions,
      keys.gates,
      keys.gateCommands,
      keys.counters,
      keys.deadLetters,
    ];
    const { lastSeq, position, timeMs, ignored, undetermined, items } = round;
    const args: (string | number | Buffer)[] = [
      ...[id, epoch, headBefore, lastSeq, position, timeMs, ignored, undetermined, items.length],
    ];
    let bytes = 0;
    for (const item of items) {
      args.push(item.where, item.seq, item.header, item.index, item.commands);
      bytes += item.commands.length;
    }
    const timeoutMs = REPLY_MS + bytes / STORED_BYTES_PER_MS;
    const call = runScriptOver(this.#link, 'commit', [...named, ...keys.logs(lanes)], args, { timeoutMs });
    const reply = (await call.catch((error: unknown) => {
      if (error instanceof Error && error.message.includes(LOG_IS_AHEAD)) return 'damaged';
      throw error;
    })) as (Buffer | number)[] | 'damaged';
    if (reply === 'damaged') {
      await this.#journal.reportHole(id, '');
      return { kind: 'damaged' };
    }
    const [kind, ...rest] = reply.map(String);
    if (kind === 'missing') return { kind };
    if (kind === 'fenced') return { kind, by: rest.join(' ') };
    const [unappliedBytes, ...asleep] = rest.map(Number);
    return { kind: kind === 'ok' ? 'ok' : 'repeated', unappliedBytes: unappliedBytes ?? 0, asleep };
  }

  close(): void {
    this.#link.close();
  }
}

/** For messages: what kind of trouble a commit met. */
export function commitTrouble(error: unknown): string {
  if (error instanceof ConnectionLost) return 'CONNECTION';
  return error instanceof Error ? (error.message.split(' ')[0] ?? 'ERROR') : 'ERROR';
}
