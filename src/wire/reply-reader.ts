// Reads a server's replies from the chunks of a socket.
//
// Two ways of reading. A call wants its reply as a value. A batch wants only to know what became of it: its replies are
// counted, error replies are kept, and everything else is skipped without being built or buffered, so that a reply costs
// a few nanoseconds and one of 512 MiB costs no memory.
//
//   batch:  +QUEUED or -error, once for each command; then EXEC's reply:
//           *n        committed; n replies follow, an error among them is a command that failed
//           *-1       fenced: a watched key changed, nothing was applied
//           -error    aborted: nothing was applied
//
// Only a reply's first line must be complete to be read: what is kept between two chunks is part of a line. Bytes and
// nested replies that are to be skipped, and bytes of a value that are to be collected, are debts, paid before anything
// else is looked at; a debt outlives chunks. Whatever does not fit is a ProtocolError: the stream cannot be trusted from
// there on, and there is no way back.

import assert from 'node:assert/strict';
import type { Arena } from './arena.ts';
import {
  type BatchOutcome,
  type CommandError,
  isAggregate,
  isBlob,
  LEFT_OUT,
  type LeaveOut,
  lineLength,
  lineReply,
  ProtocolError,
  RESP,
  type Reply,
  ReplyBuilder,
  ReplyError,
  shownLine,
} from './replies.ts';

/** What the next replies on the wire are for; `count` is the number of replies, of a batch the commands before EXEC. */
export type Expectation =
  | {
      readonly kind: 'replies';
      readonly count: number;
      resolve(replies: Reply[]): void;
      readonly arena?: Arena | undefined;
      readonly leaveOut?: LeaveOut | undefined;
    }
  | { readonly kind: 'batch'; readonly count: number; resolve(outcome: BatchOutcome): void };

/** Why a step ended: for want of bytes, with a debt or a push message to be dealt with first, or done. */
type Progress = 'starved' | 'indebted' | 'complete';

interface Bulk {
  readonly type: number | undefined;
  readonly bytes: Buffer;
  filled: number;
}

const LINE_BYTES_MAX = 64 * 1024;
const PROTOCOL_ERROR = /^ERR Protocol error/;
const EMPTY = Buffer.alloc(0);
const CR = 0x0d;
const LF = 0x0a;
const K = 0x4b;
const O = 0x4f;
const Q = 0x51;
const QUEUED_BYTES = '+QUEUED\r\n'.length;
const OK_BYTES = '+OK\r\n'.length;

export class ReplyReader {
  readonly #builder: ReplyBuilder;
  #buffer: Buffer = EMPTY;
  #at = 0;
  #owedBytes = 0;
  #owedReplies = 0;
  #bulk: Bulk | undefined;
  /** Of the values that are being read. */
  #arena: Arena | undefined;
  #reading: Expectation | undefined;

  #queued = 0;
  /** Of EXEC's reply; undefined before its first line. */
  #bodyReplies: number | undefined;
  #bodySeen = 0;
  #errors: CommandError[] = [];
  #outcome: BatchOutcome | undefined;

  /** `replyBytesMax` bounds a reply that is read as a value. */
  constructor(replyBytesMax: number) {
    this.#builder = new ReplyBuilder(replyBytesMax);
  }

  /**
   * Reads what has arrived; the heads of `expected` are shifted and resolved. The chunk may be reused afterwards.
   * @throws ProtocolError; the reader is unusable from then on
   */
  feed(chunk: Buffer, expected: Expectation[]): void {
    this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk]);
    this.#at = 0;
    while (this.#payDebts()) {
      const head = expected[0];
      if (this.#buffer[this.#at] === RESP.push && this.#builder.atTop) {
        if (!this.#skipOne()) break;
      } else if (head === undefined) {
        if (this.#at === this.#buffer.length) break;
        throw new ProtocolError(`a reply that nothing asked for: ${this.#shown()}`);
      } else {
        if (head !== this.#reading) this.#begin(head);
        const progress = head.kind === 'batch' ? this.#readBatch(head.count) : this.#readReplies(head.count);
        if (progress === 'starved') break;
        if (progress === 'complete') {
          expected.shift();
          this.#resolve(head);
        }
      }
    }
    const left = this.#buffer.length - this.#at;
    if (left > LINE_BYTES_MAX) throw new ProtocolError(`a line of more than ${LINE_BYTES_MAX} bytes`);
    this.#buffer = left === 0 ? EMPTY : Buffer.from(this.#buffer.subarray(this.#at));
  }

  /** The connection has ended. Behind a protocol error a server reads nothing: EXEC has not run, the batch is aborted. */
  end(expected: Expectation[]): void {
    const [head] = expected;
    const last = this.#errors.at(-1);
    if (head?.kind !== 'batch' || head !== this.#reading || last === undefined) return;
    if (this.#bodyReplies !== undefined || last.index !== this.#queued - 1) return;
    if (!PROTOCOL_ERROR.test(last.error.message)) return;
    expected.shift();
    head.resolve({ kind: 'aborted', errors: [last], error: last.error });
  }

  #begin(head: Expectation): void {
    this.#reading = head;
    this.#arena = head.kind === 'replies' ? head.arena : undefined;
    this.#arena?.reset();
  }

  #resolve(head: Expectation): void {
    if (head.kind === 'replies') {
      head.resolve(this.#builder.take());
      return;
    }
    const outcome = this.#outcome;
    assert(outcome !== undefined);
    this.#queued = 0;
    this.#bodyReplies = undefined;
    this.#bodySeen = 0;
    this.#errors = [];
    this.#outcome = undefined;
    head.resolve(outcome);
  }

  // ---- debts ----

  /** False if the chunk ends before all debts are paid. */
  #payDebts(): boolean {
    for (;;) {
      if (this.#bulk !== undefined && !this.#fillBulk(this.#bulk)) return false;
      const left = this.#buffer.length - this.#at;
      if (this.#owedBytes > left) {
        this.#owedBytes -= left;
        this.#at = this.#buffer.length;
        return false;
      }
      this.#at += this.#owedBytes;
      this.#owedBytes = 0;
      if (this.#owedReplies === 0) return true;
      // An attribute comes before the reply that it describes and does not count as one.
      const counts = this.#buffer[this.#at] !== RESP.attribute;
      if (!this.#skipOne()) return false;
      if (counts) this.#owedReplies--;
    }
  }

  /** Consumes one reply's first line and turns what belongs to it into debts; false if the line is incomplete. */
  #skipOne(): boolean {
    const start = this.#at;
    const type = this.#buffer[start];
    const end = this.#lineEnd();
    if (end === -1) return false;
    if (isBlob(type)) {
      const length = lineLength(this.#buffer, start, end);
      this.#owedBytes = length === -1 ? 0 : length + 2;
    } else if (isAggregate(type)) {
      this.#owedReplies += Math.max(0, this.#elements(end));
    } else if (type !== RESP.simple && type !== RESP.integer) {
      lineReply(this.#buffer, start, end);
    }
    this.#at = end + 2;
    return true;
  }

  // ---- batches ----

  #readBatch(commands: number): Progress {
    if (this.#queued < commands) {
      const progress = this.#readQueued(commands);
      if (progress !== 'complete') return progress;
    }
    if (this.#bodyReplies === undefined) {
      const progress = this.#readExecHeader(commands);
      if (progress !== 'complete' || this.#outcome !== undefined) return progress;
    }
    return this.#readBody(commands);
  }

  #readQueued(commands: number): Progress {
    const buffer = this.#buffer;
    const length = buffer.length;
    let at = this.#at;
    let queued = this.#queued;
    while (queued < commands) {
      if (at + 8 < length && buffer[at] === RESP.simple && buffer[at + 1] === Q && buffer[at + 8] === LF) {
        at += QUEUED_BYTES;
        queued++;
        continue;
      }
      this.#at = at;
      this.#queued = queued;
      if (buffer[at] === RESP.push) return 'indebted';
      const end = this.#lineEnd();
      if (end === -1) return 'starved';
      // A command that is neither queued nor refused ran by itself: no transaction is open, and nothing fences it.
      if (buffer[at] !== RESP.error) throw new ProtocolError(`not +QUEUED in a batch: ${this.#shown()}`);
      this.#errors.push({ index: queued, error: new ReplyError(buffer.toString('utf8', at + 1, end)) });
      at = end + 2;
      queued++;
    }
    this.#at = at;
    this.#queued = queued;
    return 'complete';
  }

  #readExecHeader(commands: number): Progress {
    const start = this.#at;
    const type = this.#buffer[start];
    if (type === RESP.push) return 'indebted';
    const end = this.#lineEnd();
    if (end === -1) return 'starved';
    const replies =
      type === RESP.array || type === RESP.bulk ? lineLength(this.#buffer, start, end) : undefined;
    const due = commands - this.#errors.length;
    if (type === RESP.error) {
      const error = new ReplyError(this.#buffer.toString('utf8', start + 1, end));
      this.#outcome = { kind: 'aborted', errors: this.#errors, error };
    } else if (type === RESP.null || replies === -1) {
      this.#outcome = { kind: 'fenced' };
    } else if (type === RESP.array && replies === due) {
      this.#bodyReplies = due;
    } else {
      throw new ProtocolError(`EXEC's reply to ${due} queued commands begins ${this.#shown()}`);
    }
    this.#at = end + 2;
    return 'complete';
  }

  /** The hot loop: most commands answer +OK or an integer, which are passed over here without a call. */
  #readBody(commands: number): Progress {
    const buffer = this.#buffer;
    const length = buffer.length;
    const replies = this.#bodyReplies ?? 0;
    let at = this.#at;
    let seen = this.#bodySeen;
    while (seen < replies && at < length) {
      const type = buffer[at];
      if (
        type === RESP.simple &&
        at + 4 < length &&
        buffer[at + 1] === O &&
        buffer[at + 2] === K &&
        buffer[at + 4] === LF
      ) {
        at += OK_BYTES;
        seen++;
        continue;
      }
      if (type === RESP.integer) {
        let end = at + 2;
        while (end < length && buffer[end] !== LF) end++;
        if (end >= length) break;
        at = end + 1;
        seen++;
        continue;
      }
      this.#at = at;
      this.#bodySeen = seen;
      if (!this.#readBodyReply(commands)) return 'starved';
      seen = this.#bodySeen;
      if (this.#owedReplies > 0 || this.#owedBytes > length - this.#at) return 'indebted';
      at = this.#at + this.#owedBytes;
      this.#owedBytes = 0;
    }
    this.#at = at;
    this.#bodySeen = seen;
    if (seen < replies) return 'starved';
    this.#outcome = { kind: 'committed', errors: this.#errors, replies };
    return 'complete';
  }

  /** Any reply of EXEC's body, with its content as debts; false if the chunk ends too early. */
  #readBodyReply(commands: number): boolean {
    const start = this.#at;
    const type = this.#buffer[start];
    if (type === RESP.error || type === RESP.blobError) {
      const end = this.#lineEnd();
      if (end === -1) return false;
      const from = type === RESP.error ? start + 1 : end + 2;
      const to = type === RESP.error ? end : from + lineLength(this.#buffer, start, end);
      if (to + 2 > this.#buffer.length) return false;
      const error = new ReplyError(this.#buffer.toString('utf8', from, to));
      this.#errors.push({ index: this.#commandIndex(commands), error });
      this.#at = to + 2;
    } else if (!this.#skipOne()) {
      return false;
    }
    if (type !== RESP.attribute) this.#bodySeen++;
    return true;
  }

  /** Commands that were refused without dooming the transaction (a MULTI inside it) have no reply in EXEC's body. */
  #commandIndex(commands: number): number {
    const refused = commands - (this.#bodyReplies ?? commands);
    let index = this.#bodySeen;
    for (let at = 0; at < refused && (this.#errors[at]?.index ?? commands) <= index; at++) index++;
    return index;
  }

  // ---- values ----

  #readReplies(count: number): Progress {
    while (this.#builder.completeReplies < count) {
      const start = this.#at;
      const type = this.#buffer[start];
      if (type === RESP.push && this.#builder.atTop) return 'indebted';
      const end = this.#lineEnd();
      if (end === -1) return 'starved';
      this.#builder.count(end - start);
      if (type === RESP.attribute) {
        this.#skipOne();
        return 'indebted';
      }
      if (isBlob(type)) {
        this.#beginBlob(type, end);
        return 'indebted';
      }
      if (isAggregate(type)) {
        const elements = this.#elements(end);
        if (elements === -1) this.#builder.add(null);
        else this.#builder.openArray(elements);
      } else {
        this.#builder.add(lineReply(this.#buffer, start, end));
      }
      this.#at = end + 2;
    }
    return 'complete';
  }

  #beginBlob(type: number | undefined, end: number): void {
    const length = lineLength(this.#buffer, this.#at, end);
    this.#at = end + 2;
    if (length === -1) {
      this.#builder.add(null);
    } else if (this.#isLeftOut(type, length)) {
      this.#owedBytes = length + 2;
      this.#builder.add(LEFT_OUT);
    } else {
      this.#builder.count(length);
      this.#bulk = { type, bytes: this.#arena?.take(length) ?? Buffer.allocUnsafe(length), filled: 0 };
    }
  }

  #isLeftOut(type: number | undefined, length: number): boolean {
    const leaveOut = this.#reading?.kind === 'replies' ? this.#reading.leaveOut : undefined;
    if (leaveOut === undefined || type !== RESP.bulk) return false;
    const { aboveBytes, before } = leaveOut;
    return length > aboveBytes && (before === undefined || this.#builder.element < before);
  }

  #fillBulk(bulk: Bulk): boolean {
    const copied = this.#buffer.copy(bulk.bytes, bulk.filled, this.#at);
    bulk.filled += copied;
    this.#at += copied;
    if (bulk.filled < bulk.bytes.length) return false;
    this.#bulk = undefined;
    this.#owedBytes = 2;
    if (bulk.type === RESP.blobError) this.#builder.add(new ReplyError(bulk.bytes.toString()));
    // A verbatim string begins with its format, as in `txt:`.
    else this.#builder.add(bulk.type === RESP.verbatim ? bulk.bytes.subarray(4) : bulk.bytes);
    return true;
  }

  // ---- lines ----

  /** Where the CR of the line at the current position stands; -1 if the chunk ends before its LF. */
  #lineEnd(): number {
    const lf = this.#buffer.indexOf(LF, this.#at);
    if (lf === -1) return -1;
    if (lf === this.#at || this.#buffer[lf - 1] !== CR)
      throw new ProtocolError(`a line without CR: ${this.#shown()}`);
    return lf - 1;
  }

  /** The replies inside an aggregate, -1 for RESP2's null array. */
  #elements(end: number): number {
    const type = this.#buffer[this.#at];
    const count = lineLength(this.#buffer, this.#at, end);
    return type === RESP.map || type === RESP.attribute ? 2 * count : count;
  }

  #shown(): string {
    return shownLine(this.#buffer, this.#at);
  }
}
