import { connect } from 'node:net';

const ANSWER_MS_MAX = 2_000;
const ANSWER_CHARS_MAX = 64 * 1024;

/** What listens on a loopback port, asked once over a connection of its own. */
export type Probe =
  | { readonly state: 'ready' | 'loading'; readonly pid: number }
  /** Nothing listens. */
  | { readonly state: 'refused' }
  /** Something listens that does not know the password. */
  | { readonly state: 'foreign' }
  /** Something took the connection and did not answer in time. */
  | { readonly state: 'silent' };

export interface ProbeAddress {
  readonly port: number;
  readonly password: string;
}

export async function probeQueue(address: ProbeAddress): Promise<Probe> {
  // INFO is answered while the AOF is being read, PING is not.
  const outcome = await converse(address, 'INFO', (text) => {
    if (/^-/m.test(text)) return { state: 'foreign' } as const;
    const pid = /^process_id:(\d+)\r$/m.exec(text)?.[1];
    const loading = /^loading:(\d)\r$/m.exec(text)?.[1];
    if (pid === undefined || loading === undefined) return undefined;
    return { state: loading === '0' ? 'ready' : 'loading', pid: Number(pid) } as const;
  });
  if (typeof outcome !== 'string') return outcome;
  return { state: outcome === 'closed' ? 'silent' : outcome };
}

/** Asks for a shutdown that fsyncs the AOF. False when the server refused or did not answer. */
export async function askForShutdown(address: ProbeAddress): Promise<boolean> {
  const outcome = await converse(address, 'SHUTDOWN NOSAVE', (text) =>
    /^-/m.test(text) ? 'error' : undefined,
  );
  return outcome === 'closed';
}

type Ending = 'refused' | 'silent' | 'closed';

/** One command behind AUTH; `judge` looks at all that was received so far until it has an answer. */
function converse<Answer>(
  address: ProbeAddress,
  command: string,
  judge: (text: string) => Answer | undefined,
): Promise<Answer | Ending> {
  return new Promise((resolve) => {
    const socket = connect(address.port, '127.0.0.1');
    let text = '';
    let connected = false;
    const finish = (outcome: Answer | Ending) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(outcome);
    };
    const timer = setTimeout(() => finish('silent'), ANSWER_MS_MAX);
    socket.on('error', () => finish(connected ? 'closed' : 'refused'));
    socket.on('close', () => finish('closed'));
    socket.on('connect', () => {
      connected = true;
      socket.write(`AUTH ${address.password}\r\n${command}\r\n`);
    });
    socket.on('data', (bytes) => {
      text += bytes.toString('latin1');
      const answer = text.length > ANSWER_CHARS_MAX ? 'silent' : judge(text);
      if (answer !== undefined) finish(answer);
    });
  });
}
