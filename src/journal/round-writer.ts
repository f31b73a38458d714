// Appends rounds to the journal, all of a round or nothing.
//
//     look:    WATCH fence; HMGET state ...; MULTI       in one write, together with the EXEC before them
//     commit:  XADD ...; HSET state ...; SET fence; EXEC
//
// The same fence as at the target (session.ts), and no script: Redis' Lua hashes every byte of every argument and copies it
// twice more, which was a third of what a round cost the queue's server. Whatever changes id, epoch or head of the
// journal sets `fence` in the same step (begin.lua, rebuild.lua, a commit), and an EXEC behind it does nothing.

import { failpoint } from '../runtime/failpoints.ts';
import { type Connection, ConnectionLost } from '../wire/connection.ts';
import { type Argument, encodeCommands, encodeParts } from '../wire/encode.ts';
import type { Link } from '../wire/link.ts';
import { ReplyError, refusalCode } from '../wire/replies.ts';
import { itemBytes } from './item.ts';
import type { CommitOutcome, Journal, Round } from './journal.ts';
import type { JournalKeys } from './keys.ts';

/** The server stores a huge round before it answers: a time of its own, at the pace of a slow disk. */
const REPLY_MS = 15_000;
const STORED_BYTES_PER_MS = 10_000;

/** What weighs more must not be read by a script only for its header (snapshot.lua). */
const HEAVY_BYTES = 4 * 1024 * 1024;

const STATE_FIELDS = ['id', 'epoch', 'head', 'in:g', 'out:g'] as const;
const LANE_FIELDS = ['tail', 'in', 'out', 'awake', 'heavy', 'seen'] as const;

/** The journal when the fence was set; what lanes write (out, awake, seen) may have changed since. */
interface Look {
  readonly connection: Connection;
  /** Undefined when there is no journal. */
  readonly inForce: { readonly id: string; readonly epoch: number; readonly head: number } | undefined;
  readonly gateInBytes: number;
  readonly unappliedBytes: number;
  readonly lanes: readonly Readonly<LaneState>[];
}

interface LaneState {
  tail: number;
  inBytes: number;
  readonly awake: boolean;
  heavy: string;
  readonly seen: number;
}

/** One ingest's way to the journal. Its bytes go from the sequencer's memory to the socket without a copy. */
export class RoundWriter {
  readonly #journal: Journal;
  readonly #link: Link;
  readonly #lanes: readonly number[];
  /** WATCH, HMGET and MULTI: the same bytes for every look. */
  readonly #lookBytes: Buffer;
  /** In hand: its connection is inside the MULTI behind it. */
  #look: Promise<Look> | undefined;
  /** The round of this last seq is in, but not whole. */
  #damage: { readonly lastSeq: number; readonly why: string } | undefined;

  /** The link is this writer's own: its connection stays inside a MULTI. */
  constructor(journal: Journal, link: Link, lanes: number) {
    const { fence, state } = journal.keys;
    this.#journal = journal;
    this.#link = link;
    this.#lanes = Array.from({ length: lanes }, (_, lane) => lane);
    const fields = this.#lanes.flatMap((lane) => LANE_FIELDS.map((field) => `${field}:${lane}`));
    this.#lookBytes = encodeCommands([
      ['WATCH', fence],
      ['HMGET', state, ...STATE_FIELDS, ...fields],
      ['MULTI'],
    ]);
  }

  /**
   * May be repeated: a round that is in is known by its last seq. The round's memory must not change before this settles.
   * @throws ReplyError for what the server refuses, ConnectionLost: the round is in or is not
   */
  async commit(id: string, epoch: number, headBefore: number, round: Round): Promise<CommitOutcome> {
    for (;;) {
      // Its head has moved: what is sent again would be taken for a round that is in.
      if (this.#damage?.lastSeq === round.lastSeq) {
        await this.#journal.reportHole(id, '');
        return { kind: 'damaged', why: this.#damage.why };
      }
      const look = await this.#lookInHand();
      const { inForce } = look;
      if (inForce === undefined) return { kind: 'missing' };
      const isOurs = inForce.id === id && inForce.epoch === epoch;
      if (isOurs && inForce.head === round.lastSeq && headBefore !== round.lastSeq)
        return outcomeOf('repeated', look, round);
      if (!isOurs || inForce.head !== headBefore)
        return { kind: 'fenced', by: `${inForce.id} ${inForce.epoch} ${inForce.head}` };
      const commands = commandsOf(round, epoch, look, this.#journal.keys);
      const done = await this.#execute(look.connection, commands, round);
      if (done === 'done') return outcomeOf('ok', await this.#lookInHand(), round);
    }
  }

  close(): void {
    this.#link.close();
  }

  async #lookInHand(): Promise<Look> {
    const known = await this.#look?.catch(() => undefined);
    if (known && !known.connection.closed) return known;
    const connection = await this.#link.connection();
    this.#look = this.#lookThrough(connection);
    return await this.#look;
  }

  /** @throws ReplyError when the server refuses a part of it, and the connection is closed: nothing may run outside a fence */
  async #lookThrough(connection: Connection): Promise<Look> {
    const replies = await connection.callEncoded([this.#lookBytes], 3);
    const refusal = replies.find((reply) => reply instanceof ReplyError);
    if (refusal instanceof ReplyError) {
      connection.close();
      throw refusal;
    }
    const values = (replies[1] as (Buffer | null)[]).map((value) =>
      value === null ? undefined : String(value),
    );
    const [id, epoch, head, gateIn, gateOut, ...rest] = values;
    const gateInBytes = Number(gateIn ?? 0);
    let unappliedBytes = gateInBytes - Number(gateOut ?? 0);
    const lanes = this.#lanes.map((lane): LaneState => {
      const [tail, inBytes, outBytes, awake, heavy, seen] = rest.slice(lane * LANE_FIELDS.length);
      unappliedBytes += Number(inBytes ?? 0) - Number(outBytes ?? 0);
      return {
        tail: Number(tail ?? 0),
        inBytes: Number(inBytes ?? 0),
        awake: awake !== undefined,
        heavy: heavy ?? '',
        seen: Number(seen ?? 0),
      };
    });
    const isWhole = id !== undefined && epoch !== undefined && head !== undefined;
    const inForce = isWhole ? { id, epoch: Number(epoch), head: Number(head) } : undefined;
    return { connection, inForce, gateInBytes, unappliedBytes, lanes };
  }

  /** @throws ReplyError: nothing was done; ConnectionLost */
  async #execute(
    connection: Connection,
    commands: readonly (readonly Argument[])[],
    round: Round,
  ): Promise<'done' | 'fenced' | 'damaged'> {
    await failpoint('between-look-and-commit');
    const bytes = round.items.reduce((sum, item) => sum + item.commands.length, 0);
    const timeoutMs = REPLY_MS + bytes / STORED_BYTES_PER_MS;
    const execution = connection.execBatch(encodeParts(commands), commands.length, { timeoutMs });
    // In the same write: the next round finds its fence in place.
    this.#look = this.#lookThrough(connection);
    // Whoever uses it sees its rejection.
    this.#look.catch(() => {});
    const outcome = await execution;
    if (outcome.kind === 'fenced') return 'fenced';
    if (outcome.kind === 'committed') {
      const [failed] = outcome.errors;
      if (failed === undefined) return 'done';
      const [name, key] = commands[failed.index] ?? [];
      this.#damage = { lastSeq: round.lastSeq, why: `${name} ${key}: ${failed.error.message}` };
      return 'damaged';
    }
    const refusal = outcome.errors[0]?.error ?? outcome.error;
    // Behind a failover the address belongs to another server.
    if (refusalCode(refusal) === 'READONLY') connection.close();
    throw refusal;
  }
}

function outcomeOf(kind: 'ok' | 'repeated', look: Look, round: Round): CommitOutcome {
  // Emptied behind the fence, which nobody who knows of it does.
  if (look.inForce === undefined) return { kind: 'missing' };
  const touched = new Set(round.items.map(({ where }) => where));
  const asleep = look.lanes.flatMap(({ awake }, lane) => (touched.has(lane) && !awake ? [lane] : []));
  return { kind, unappliedBytes: look.unappliedBytes, asleep };
}

/** Everything that the round changes, as what stands between MULTI and EXEC. */
function commandsOf(round: Round, epoch: number, look: Look, keys: JournalKeys): Argument[][] {
  const commands: Argument[][] = [];
  const lanes = look.lanes.map((lane): LaneState => ({ ...lane }));
  let { gateInBytes } = look;
  let letters = 0;
  const changed = new Map<string, Argument>();
  for (const item of round.items) {
    const { where, header, index, commands: payload } = item;
    const id = `${item.seq}-0`;
    if (where === 'd') {
      commands.push(['XADD', keys.deadLetters, '*', 'record', header, 'commands', payload]);
      letters++;
    } else if (where === 'g') {
      commands.push(['XADD', keys.gates, id, 'h', `${header} ${gateInBytes}`]);
      commands.push(['XADD', keys.gateCommands, id, 'i', index, 'c', payload]);
      gateInBytes += itemBytes(item);
      changed.set('in:g', gateInBytes);
    } else {
      const lane = lanes[where] as LaneState;
      const whole = `${header} ${lane.inBytes}`;
      if (payload.length === 0) {
        // A marker weighs nothing: nobody reports it as behind, and its gate is counted.
        commands.push(['XADD', keys.log(where), id, 'h', whole]);
      } else {
        commands.push(['XADD', keys.log(where), id, 'h', whole, 'i', index, 'c', payload]);
        if (payload.length > HEAVY_BYTES) {
          lane.heavy = notedHeavy(lane, item.seq, whole);
          changed.set(`heavy:${where}`, lane.heavy);
        }
        lane.inBytes += itemBytes(item);
        changed.set(`in:${where}`, lane.inBytes);
      }
      lane.tail = item.seq;
      changed.set(`tail:${where}`, item.seq);
    }
  }
  const { lastSeq, position, timeMs } = round;
  const tails = lanes.map(({ tail }) => tail).join(',');
  changed.set('head', lastSeq).set('position', position).set('headTimeMs', timeMs);
  commands.push(['XADD', keys.positions, `${lastSeq}-0`, 'p', position, 't', tails]);
  commands.push(['HSET', keys.state, ...[...changed].flat()]);
  const counts = { deadLettered: letters, ignored: round.ignored, undetermined: round.undetermined };
  for (const [counter, by] of Object.entries(counts))
    if (by > 0) commands.push(['HINCRBY', keys.counters, counter, by]);
  commands.push(['SET', keys.fence, `${epoch}:${lastSeq}`]);
  return commands;
}

/** One line per item, 'seq before it, seq, header', until it is applied. */
function notedHeavy({ heavy, seen, tail }: LaneState, seq: number, header: string): string {
  const kept = heavy.split('\n').filter((line) => Number(line.split(' ')[1] ?? 0) > seen);
  return `\n${[...kept, `${tail} ${seq} ${header}`].join('\n')}\n`;
}

/** For messages: what kind of trouble a commit met. */
export function commitTrouble(error: unknown): string {
  if (error instanceof ConnectionLost) return 'CONNECTION';
  if (error instanceof ReplyError) return refusalCode(error);
  return error instanceof Error ? (error.message.split(' ')[0] ?? 'ERROR') : 'ERROR';
}
