import type { Redis } from 'ioredis';

/** Everything that a test saw lanegate print, serve or store, with the name of the place. */
export class Heard {
  readonly #texts: { readonly place: string; readonly text: string }[] = [];

  add(place: string, text: string): void {
    this.#texts.push({ place, text });
  }

  get bytes(): number {
    return this.#texts.reduce((sum, { text }) => sum + text.length, 0);
  }

  /** Where one of `secrets` can be read, also in base64, as it stands in an Authorization header or a data URL. */
  leaks(secrets: readonly string[]): string[] {
    const forms = secrets.flatMap((secret) => [secret, ...base64Forms(secret)]);
    return this.#texts.flatMap(({ place, text }) => {
      const at = forms.map((form) => text.indexOf(form)).find((index) => index >= 0);
      return at === undefined ? [] : [`${place}: ...${text.slice(Math.max(0, at - 80), at + 60)}`];
    });
  }
}

/** What of the base64 of a longer text stays the same, for each of the three places in which `secret` may begin. */
function base64Forms(secret: string): string[] {
  return [0, 1, 2].map((shift) => {
    const encoded = Buffer.from(' '.repeat(shift) + secret).toString('base64');
    return encoded.slice(shift === 0 ? 0 : shift + 1, Math.floor(((shift + secret.length) * 8) / 6));
  });
}

/** Every key with all that it holds, as latin1 text, of all 16 databases. */
export async function contentsOf(redis: Redis): Promise<{ key: string; text: string }[]> {
  const found: { key: string; text: string }[] = [];
  const client = redis.duplicate();
  try {
    for (let db = 0; db < 16; db++) {
      await client.select(db);
      for (const key of await client.keys('*'))
        found.push({ key, text: `${key}\n${await textOf(client, key)}` });
    }
  } finally {
    client.disconnect();
  }
  return found;
}

async function textOf(client: Redis, key: string): Promise<string> {
  const read: Readonly<Record<string, readonly string[]>> = {
    string: ['GET', key],
    hash: ['HGETALL', key],
    list: ['LRANGE', key, '0', '-1'],
    set: ['SMEMBERS', key],
    zset: ['ZRANGE', key, '0', '-1'],
    stream: ['XRANGE', key, '-', '+'],
  };
  const [name, ...args] = read[await client.type(key)] ?? [];
  if (name === undefined) return '';
  return flat(await client.callBuffer(name, ...args));
}

function flat(reply: unknown): string {
  if (Buffer.isBuffer(reply)) return reply.toString('latin1');
  return Array.isArray(reply) ? reply.map(flat).join('\n') : String(reply);
}
