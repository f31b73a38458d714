import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { FrameReader } from '../../src/sources/pika/frames.ts';
import { encodeReply, PikaPorts, serveClient } from './pika-ports.ts';

interface Line {
  readonly port: number;
  readonly from?: 'slave' | 'master';
  readonly hex?: string;
}

const META_SYNC = 1;
const TRY_SYNC = 2;
const DB_SYNC = 3;
const BINLOG_SYNC = 4;

/** Answers with the very bytes, and in the pieces, that a real master sent in a recorded session. */
export class PikaReplay implements AsyncDisposable {
  readonly #ports: PikaPorts;

  private constructor(ports: PikaPorts) {
    this.#ports = ports;
  }

  /** `end`: where the recorded log ends, as INFO says it. */
  static async start(path: URL | string, replicationPort: number, end: string): Promise<PikaReplay> {
    const lines = readFileSync(path, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Line);
    const pieces = lines
      .filter(({ port, from }) => port === replicationPort && from === 'master')
      .map(({ hex = '' }) => Buffer.from(hex, 'hex'));
    const info = `# Replication(MASTER)\r\nrole:master\r\ndb0:binlog_offset=${end},safety_purge=none\r\n`;
    const ports = await PikaPorts.open({
      client: (socket) => serveClient(socket, async () => encodeReply(info)),
      slave: (socket) => replay(socket, pieces),
    });
    return new PikaReplay(ports);
  }

  get url(): string {
    return `pika://127.0.0.1:${this.#ports.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#ports[Symbol.asyncDispose]();
  }
}

function replay(socket: Socket, pieces: readonly Buffer[]): void {
  const frames = new FrameReader();
  // The slave that was recorded asked for a full sync in between.
  const answers = pieces.filter((piece) => typeOf(piece) !== DB_SYNC);
  const handshake = new Map(answers.slice(0, 2).map((piece) => [typeOf(piece), piece]));
  let isStreaming = false;
  socket.setNoDelay();
  socket.on('data', (chunk) => {
    for (const frame of frames.push(chunk)) {
      const type = frame[1] as number;
      if (type === META_SYNC || type === TRY_SYNC) socket.write(handshake.get(type) as Buffer);
      else if (type === BINLOG_SYNC && !isStreaming) {
        isStreaming = true;
        for (const piece of answers.slice(2)) socket.write(piece);
      }
    }
  });
}

/** The first field of a message is its type, a number below 128. */
function typeOf(piece: Buffer): number | undefined {
  return piece[5];
}
