// Who may ask, and what. Bull Board has no authentication of its own, and its API can add and edit jobs, so every
// request passes here first: host (DNS rebinding), password (with a limit on guesses), method, origin (CSRF).
import { createHash, timingSafeEqual } from 'node:crypto';
import { isIPv6 } from 'node:net';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

const FAILURES_MAX = 10;
const FAILURE_WINDOW_MS = 60_000;
const ADDRESSES_MAX = 10_000;
const SAFE_METHODS = ['GET', 'HEAD'];

export interface Credentials {
  readonly user: string;
  readonly password: string;
}

export interface GuardOptions {
  readonly credentials: Credentials | undefined;
  /** Lets requests other than GET and HEAD through. */
  readonly write: boolean;
  /** Host names that a request may carry; undefined: any. */
  readonly hosts: ReadonlySet<string> | undefined;
  /** Paths that are open to everyone. */
  readonly open: readonly string[];
}

export function installGuard(app: FastifyInstance, options: GuardOptions): void {
  const failures = new FailureLimit();
  app.addHook('onRequest', async (request, reply) => {
    const route = request.routeOptions.url;
    if (route !== undefined && options.open.includes(route)) return;
    const refusal =
      refuseHost(request, options) ??
      refuseCaller(request, options, failures) ??
      refuseWrite(request, options);
    if (refusal !== undefined) return refuse(reply, refusal);
  });
}

interface Refusal {
  readonly status: number;
  readonly message: string;
  readonly headers?: Readonly<Record<string, string>>;
}

function refuse(reply: FastifyReply, refusal: Refusal): FastifyReply {
  return reply
    .code(refusal.status)
    .headers({ ...refusal.headers, 'cache-control': 'no-store' })
    .send({ error: refusal.message });
}

function refuseHost(request: FastifyRequest, options: GuardOptions): Refusal | undefined {
  // A page of another site whose name was made to point at loopback still sends its own name.
  if (options.hosts === undefined || options.hosts.has(hostNameOf(request.headers.host))) return undefined;
  return { status: 421, message: 'this board answers to its own host name only' };
}

export function hostNameOf(header: string | undefined): string {
  return (header ?? '').toLowerCase().replace(/:\d+$/, '');
}

function refuseCaller(
  request: FastifyRequest,
  options: GuardOptions,
  failures: FailureLimit,
): Refusal | undefined {
  if (options.credentials === undefined) return undefined;
  const address = callerOf(request.socket.remoteAddress ?? '');
  const retryAfterMs = failures.blockedForMs(address);
  if (retryAfterMs > 0) {
    const seconds = String(Math.ceil(retryAfterMs / 1000));
    return { status: 429, message: 'too many wrong passwords', headers: { 'retry-after': seconds } };
  }
  const header = request.headers.authorization;
  if (header !== undefined && matches(header, options.credentials)) return undefined;
  // A browser's first request carries nothing; that is no guess.
  if (header !== undefined) failures.record(address);
  const challenge = { 'www-authenticate': 'Basic realm="lanegate", charset="UTF-8"' };
  return { status: 401, message: 'user and password needed', headers: challenge };
}

function matches(header: string, credentials: Credentials): boolean {
  const encoded = /^Basic +([A-Za-z0-9+/=]+)$/i.exec(header)?.[1] ?? '';
  const given = Buffer.from(encoded, 'base64').toString('utf8');
  // Hashing the pair makes both sides equally long, which timingSafeEqual needs and which hides the length.
  return timingSafeEqual(digest(given), digest(`${credentials.user}:${credentials.password}`));
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function refuseWrite(request: FastifyRequest, options: GuardOptions): Refusal | undefined {
  if (SAFE_METHODS.includes(request.method)) return undefined;
  if (!options.write) {
    return { status: 405, message: 'this board is read-only', headers: { allow: SAFE_METHODS.join(', ') } };
  }
  // The browser attaches the password to requests of any page; only our own may write.
  const { origin, host } = request.headers;
  const site = request.headers['sec-fetch-site'];
  const foreignSite = site !== undefined && site !== 'same-origin' && site !== 'none';
  const foreignOrigin = origin !== undefined && hostOfOrigin(origin) !== host?.toLowerCase();
  if (!foreignSite && !foreignOrigin) return undefined;
  return { status: 403, message: 'requests that write must come from this board' };
}

function hostOfOrigin(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host : undefined;
}

/** Whom guesses are counted for: an IPv6 caller has a whole /64 of addresses to guess from. */
export function callerOf(address: string): string {
  if (!isIPv6(address)) return address;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  const [left = '', right] = (address.split('%')[0] as string).split('::');
  const groups = (text: string) => text.split(':').filter((group) => group !== '');
  const behind = right === undefined ? [] : groups(right);
  // A dotted end stands for two groups.
  const length = behind.length + (behind.at(-1)?.includes('.') ? 1 : 0);
  const filled =
    right === undefined ? [] : Array<string>(Math.max(0, 8 - groups(left).length - length)).fill('0');
  const prefix = [...groups(left), ...filled, ...behind].slice(0, 4);
  return `${prefix.map((group) => Number.parseInt(group, 16).toString(16)).join(':')}::/64`;
}

/** Counts wrong passwords per address in windows of a minute; bounded, the oldest address is forgotten first. */
export class FailureLimit {
  readonly #now: () => number;
  readonly #windows = new Map<string, { readonly begun: number; failures: number }>();

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  blockedForMs(address: string): number {
    const window = this.#windows.get(address);
    if (window === undefined || window.failures < FAILURES_MAX) return 0;
    return Math.max(0, window.begun + FAILURE_WINDOW_MS - this.#now());
  }

  record(address: string): void {
    const window = this.#windows.get(address);
    if (window !== undefined && this.#now() < window.begun + FAILURE_WINDOW_MS) {
      window.failures++;
      return;
    }
    this.#windows.delete(address);
    const oldest = this.#windows.size < ADDRESSES_MAX ? undefined : this.#windows.keys().next().value;
    if (oldest !== undefined) this.#windows.delete(oldest);
    this.#windows.set(address, { begun: this.#now(), failures: 1 });
  }
}
