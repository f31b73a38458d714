// A Pika master over real sockets, as far as a slave and an ordinary client see it: written from the protocol's
// description, with its strictness (an acknowledgement that does not fit closes the connection; a ping or a request for
// a foreign session is ignored; new writes are sent only when all before is acknowledged) and with faults by switch.
// Behind the client port a real redis-server may hold the data.

import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { FrameReader, frameOf } from '../../src/sources/pika/frames.ts';
import { comparePlaces, type Place } from '../../src/sources/pika/position.ts';
import { isPlainRead, PikaData, type PikaSession } from './pika-data.ts';
import type { PikaFaults, PikaMasterOptions } from './pika-faults.ts';
import { type Argument, PikaLog } from './pika-log.ts';
import { encodeReply, PikaPorts, serveClient } from './pika-ports.ts';
import { infoOf, refusalOf, type Slave } from './pika-slaves.ts';
import { encodeResponse, nameOf, placeOf, type RawRequest, readRequest } from './pika-wire.ts';

const MESSAGE_ITEMS = 100;
const PASS_MESSAGES = 40;

export class PikaMaster implements AsyncDisposable {
  readonly #options: PikaMasterOptions;
  readonly logs: Map<string, PikaLog>;
  readonly replicationId: string;
  readonly faults: Partial<PikaFaults> = {};
  /** Ranges that were acknowledged, in order: `db0 0:69-0:138`. */
  readonly acknowledged: string[] = [];
  /** What a real master would have closed the connection, or died, for. */
  readonly complaints: string[] = [];
  /** Clients that have introduced themselves: `ip:port`. */
  readonly met: string[] = [];
  readonly removed: string[] = [];
  /** Pings that kept a session alive. */
  pings = 0;
  /** Most items that stood unacknowledged in one database. */
  unacknowledgedMax = 0;
  #slaves: Slave[] = [];
  readonly #nodes = new Map<string, Socket>();
  #ports: PikaPorts | undefined;
  #port: number | undefined;
  readonly #data: PikaData | undefined;
  #session = 0;
  /** Of this start, as INFO has it. */
  runId = '';
  #timer: NodeJS.Timeout | undefined;

  private constructor(options: PikaMasterOptions, logs: Map<string, PikaLog>) {
    this.#options = options;
    this.logs = logs;
    this.replicationId = options.replicationId ?? randomBytes(25).toString('hex');
    const { data, beforeLog = async () => {}, beforeFlushLog = beforeLog, losesAppend = false } = options;
    const { typeOfStreams = 'streams' } = options;
    if (data === undefined) return;
    this.#data = new PikaData({
      databases: [...logs.keys()],
      port: data.port,
      log: (command, db) => this.write([command], db),
      beforeLog,
      beforeFlushLog,
      losesAppend,
      typeOfStreams,
      info: () => this.#info(),
    });
  }

  static async start(options: PikaMasterOptions = {}): Promise<PikaMaster> {
    const { databases = ['db0'], fileBytes = 100 * 1024 * 1024 } = options;
    const master = new PikaMaster(options, new Map(databases.map((db) => [db, new PikaLog(fileBytes)])));
    await master.#listen();
    return master;
  }

  /** Also of a master that is stopped. */
  get port(): number {
    if (this.#port === undefined) throw new Error('the master has never run');
    return this.#port;
  }

  get isRunning(): boolean {
    return this.#ports !== undefined;
  }

  get url(): string {
    return `pika://127.0.0.1:${this.port}`;
  }

  /** Slaves that the master sends to: `ip:port db`. */
  get slaves(): string[] {
    return this.#slaves.map(({ node, db }) => `${node} ${db}`);
  }

  log(db = 'db0'): PikaLog {
    const log = this.logs.get(db);
    if (log === undefined) throw new Error(`no ${db}`);
    return log;
  }

  /** Logs commands and lets the slaves have them. */
  write(commands: readonly (readonly Argument[])[], db = 'db0', timeS = this.#nowS()): Place {
    const log = this.log(db);
    for (const command of commands) log.append(command, timeS);
    this.#flush(db);
    return log.end;
  }

  writeContent(content: Buffer, db = 'db0'): Place {
    const end = this.log(db).appendContent(content, this.#nowS());
    this.#flush(db);
    return end;
  }

  purge(db: string, firstFile: number): void {
    this.log(db).firstFile = firstFile;
  }

  /** Forgets its slaves and says nothing; their connections stay. */
  dropSilently(): void {
    this.#slaves = [];
  }

  cutConnections(): void {
    for (const socket of new Set(this.#nodes.values())) socket.destroy();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    const ports = this.#ports;
    this.#ports = undefined;
    this.#slaves = [];
    this.#nodes.clear();
    await ports?.[Symbol.asyncDispose]();
  }

  /** The same log, port and id, also behind a `stop`. */
  async restart(): Promise<void> {
    await this.stop();
    this.#session = 0;
    await this.#listen(this.port);
  }

  /** This master dies, and a slave with the same log takes over its address. `behind`: items that it had not got. */
  async failover(behind = 0): Promise<PikaMaster> {
    await this.stop();
    for (const log of this.logs.values()) log.loseLast(behind);
    const heir = new PikaMaster({ ...this.#options, replicationId: this.replicationId }, this.logs);
    await heir.#listen(this.port);
    return heir;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    this.#data?.close();
  }

  async #listen(port?: number): Promise<void> {
    this.runId = randomBytes(20).toString('hex');
    this.#ports = await PikaPorts.open(
      {
        client: (socket) => {
          const session = this.#data?.session();
          serveClient(socket, (args) => this.#command(args, session), isPlainRead);
        },
        slave: (socket) => this.#welcome(socket),
      },
      port,
    );
    this.#port = this.#ports.port;
    this.#timer = setInterval(() => this.#tick(), Math.min(this.#pingMs, this.#dropMs) / 4);
  }

  get #pingMs(): number {
    return this.#options.pingMs ?? 2_000;
  }

  get #dropMs(): number {
    return this.#options.dropMs ?? 20_000;
  }

  #nowS(): number {
    return Math.floor((this.#options.now ?? Date.now)() / 1000);
  }

  async #command(args: readonly Buffer[], session: PikaSession | undefined): Promise<Buffer> {
    const name = String(args[0]).toUpperCase();
    if (name === 'INFO' && session === undefined) return encodeReply(this.#info());
    if (name === 'AUTH') {
      if (String(args.at(-1)) === this.#options.password) return Buffer.from('+OK\r\n');
      throw new Error('WRONGPASS invalid username-password pair or user is disabled.');
    }
    if (session !== undefined) return encodeReply(await session.command(args));
    if (name === 'SELECT') return encodeReply('OK');
    throw new Error(`ERR unknown or unsupported command '${name}'`);
  }

  #info(): string {
    return infoOf({ runId: this.runId, replicationId: this.replicationId }, this.logs, this.#slaves);
  }

  #welcome(socket: Socket): void {
    const frames = new FrameReader();
    socket.setNoDelay();
    socket.on('data', (chunk) => {
      for (const frame of frames.push(chunk)) {
        this.#request(socket, readRequest(frame));
        if (socket.destroyed) return;
      }
    });
    socket.once('close', () => {
      this.#slaves = this.#slaves.filter((slave) => slave.socket !== socket);
      for (const [node, owner] of this.#nodes) if (owner === socket) this.#nodes.delete(node);
    });
  }

  #request(socket: Socket, request: RawRequest): void {
    if (request.metaSync) this.#metaSync(socket, request.metaSync);
    else if (request.trySync) this.#trySync(socket, request.trySync);
    else if (request.binlogSync) this.#binlogSync(socket, request.binlogSync);
    else if (request.removeSlaveNode.length > 0) this.#removeSlaveNode(socket, request.removeSlaveNode);
  }

  #metaSync(socket: Socket, { node, auth }: NonNullable<RawRequest['metaSync']>): void {
    const name = nameOf(node);
    this.met.push(name);
    if (this.#options.password !== undefined && auth !== this.#options.password) {
      const reply = 'Auth with master error, Invalid masterauth';
      this.#send(socket, { type: 1, code: 2, reply });
      return;
    }
    const { refusals = 0 } = this.faults;
    const owner = this.#nodes.get(name);
    if (refusals > 0 || (owner !== undefined && owner !== socket)) {
      this.faults.refusals = Math.max(0, refusals - 1);
      // As it is: the refused one takes the stream over all the same.
      for (const slave of this.#slaves) if (slave.node === name) slave.socket = socket;
      this.#send(socket, { type: 1, code: 3, reply: 'Slave AlreadyExist' });
      return;
    }
    this.#nodes.set(name, socket);
    const dbsInfo = [...this.logs.keys()].map((dbName) => ({ dbName, slotNum: 1, dbInstanceNum: 3 }));
    const { replicationId } = this;
    const metaSync = { classicMode: true, dbsInfo, runId: this.runId, replicationId };
    this.#send(socket, { type: 1, code: 1, metaSync });
  }

  #trySync(socket: Socket, { node, slot, binlogOffset }: NonNullable<RawRequest['trySync']>): void {
    const log = this.logs.get(slot.dbName);
    if (log === undefined) {
      this.#send(socket, { type: 2, code: 2, reply: 'DB not found' });
      return;
    }
    const place = placeOf(binlogOffset);
    const answer = (replyCode: number, sessionId?: number) => {
      const trySync = {
        replyCode,
        slot,
        binlogOffset: log.end,
        ...(sessionId === undefined ? {} : { sessionId }),
      };
      this.#send(socket, { type: 2, code: 1, trySync });
    };
    const refusal = refusalOf(log, place);
    if (refusal !== undefined) {
      answer(refusal);
      return;
    }
    const known = this.#slaves.find((slave) => slave.node === nameOf(node) && slave.db === slot.dbName);
    const nowMs = performance.now();
    const slave = known ?? {
      node: nameOf(node),
      db: slot.dbName,
      session: this.#session++,
      socket,
      next: undefined,
      window: [],
      heardMs: nowMs,
      toldMs: nowMs,
    };
    if (known === undefined) this.#slaves.push(slave);
    answer(1, slave.session);
  }

  #binlogSync(socket: Socket, request: NonNullable<RawRequest['binlogSync']>): void {
    const { node, dbName, sessionId, firstSend } = request;
    const slave = this.#slaves.find((one) => one.node === nameOf(node) && one.db === dbName);
    if (slave === undefined || slave.session !== sessionId) return;
    slave.heardMs = performance.now();
    const [first, last] = [placeOf(request.ackRangeStart), placeOf(request.ackRangeEnd)];
    if (firstSend) {
      if (comparePlaces(first, last) !== 0) {
        this.#complain(socket, 'a first BinlogSync with a range');
        return;
      }
      slave.next = this.log(dbName).indexBehind(first);
      slave.window = [];
      this.#pump(slave);
      return;
    }
    // A ping.
    if (last.filenum === 0 && last.offset === 0) {
      this.pings++;
      return;
    }
    const from = slave.window.findIndex((end) => comparePlaces(end, first) === 0);
    const to = slave.window.findIndex((end) => comparePlaces(end, last) === 0);
    const range = `${dbName} ${first.filenum}:${first.offset}-${last.filenum}:${last.offset}`;
    if (from < 0 || to < from) {
      this.#complain(socket, `${range} is not in the window`);
      return;
    }
    if (from > 0) this.complaints.push(`${range} leaves a hole`);
    this.acknowledged.push(range);
    slave.window.splice(0, to + 1);
    this.#pump(slave);
  }

  #removeSlaveNode(socket: Socket, removed: RawRequest['removeSlaveNode']): void {
    for (const { node, slot } of removed) {
      if (!this.logs.has(slot.dbName))
        this.#complain(socket, `RemoveSlaveNode of ${slot.dbName}: the master dies`);
      this.removed.push(`${nameOf(node)} ${slot.dbName}`);
      this.#slaves = this.#slaves.filter((slave) => slave.node !== nameOf(node) || slave.db !== slot.dbName);
      this.#nodes.delete(nameOf(node));
    }
    this.#send(socket, { type: 6, code: 1, removeSlaveNode: removed });
  }

  #complain(socket: Socket, what: string): void {
    this.complaints.push(what);
    socket.destroy();
  }

  #flush(db: string): void {
    for (const slave of this.#slaves) if (slave.db === db && slave.window.length === 0) this.#pump(slave);
  }

  #pump(slave: Slave): void {
    const { items } = this.log(slave.db);
    const { windowItems = 9_000 } = this.#options;
    for (let pass = 0; pass < PASS_MESSAGES; pass++) {
      if (slave.next === undefined || slave.next >= items.length || slave.window.length >= windowItems)
        return;
      const room = Math.min(MESSAGE_ITEMS, windowItems - slave.window.length);
      const batch = items.slice(slave.next, slave.next + room);
      slave.next += batch.length;
      slave.window.push(...batch.map(({ end }) => end));
      this.unacknowledgedMax = Math.max(this.unacknowledgedMax, slave.window.length);
      this.#deliver(slave, batch);
      if (this.faults.dropAfterItems !== undefined) {
        this.faults.dropAfterItems -= batch.length;
        if (this.faults.dropAfterItems <= 0) {
          delete this.faults.dropAfterItems;
          this.dropSilently();
          return;
        }
      }
    }
  }

  #deliver(slave: Slave, batch: readonly { readonly bytes: Buffer; readonly end: Place }[]): void {
    const slot = { dbName: slave.db, slotId: 0 };
    const message = (sessionId: number, change: (bytes: Buffer) => Buffer) => ({
      type: 4,
      code: 1,
      binlogSync: batch.map(({ bytes, end }) => ({
        slot,
        binlogOffset: { ...end, term: 0, index: 0 },
        binlog: change(bytes),
        sessionId,
      })),
    });
    slave.toldMs = performance.now();
    if (this.faults.wrongSession) {
      const foreign = (bytes: Buffer) =>
        Buffer.concat([bytes.subarray(0, 34), Buffer.alloc(bytes.length - 34, 120)]);
      this.#send(slave.socket, message(slave.session + 1, foreign));
    }
    const own = message(slave.session, (bytes) => bytes);
    for (let i = this.faults.duplicates ? 2 : 1; i > 0; i--) this.#send(slave.socket, own);
  }

  #tick(): void {
    const nowMs = performance.now();
    this.#slaves = this.#slaves.filter(({ heardMs }) => nowMs - heardMs <= this.#dropMs);
    for (const slave of this.#slaves) {
      if (slave.next === undefined || slave.window.length > 0 || nowMs - slave.toldMs < this.#pingMs)
        continue;
      slave.toldMs = nowMs;
      const slot = { dbName: slave.db, slotId: 0 };
      const nowhere = { filenum: 0, offset: 0, term: 0, index: 0 };
      const ping = { slot, binlogOffset: nowhere, binlog: Buffer.alloc(0), sessionId: slave.session };
      this.#send(slave.socket, { type: 4, code: 1, binlogSync: [ping] });
    }
  }

  #send(socket: Socket, response: Record<string, unknown>): void {
    // Field 31, as a later version might add it.
    const added = this.faults.unknownFields ? Buffer.from('fa010568656c6c6f', 'hex') : Buffer.alloc(0);
    const frame = frameOf(Buffer.concat([encodeResponse(response), added]));
    const { fragmentBytes } = this.faults;
    if (fragmentBytes === undefined) socket.write(frame);
    else
      for (let at = 0; at < frame.length; at += fragmentBytes)
        socket.write(frame.subarray(at, at + fragmentBytes));
  }
}
