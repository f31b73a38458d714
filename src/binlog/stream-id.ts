// Ids of Redis Streams: `ms-seq`, two unsigned 64-bit numbers, hence bigint; `ms` alone means `ms-0`.

export interface StreamId {
  readonly ms: bigint;
  readonly seq: bigint;
}

const PATTERN = /^(\d{1,20})(?:-(\d{1,20}))?$/;
const UINT64_MAX = 2n ** 64n - 1n;

export function parseId(id: string): StreamId | undefined {
  const match = PATTERN.exec(id);
  if (match === null) return undefined;
  const ms = BigInt(match[1] as string);
  const seq = BigInt(match[2] ?? '0');
  return ms > UINT64_MAX || seq > UINT64_MAX ? undefined : { ms, seq };
}

export function isId(text: string): boolean {
  return parseId(text) !== undefined;
}

export function formatId({ ms, seq }: StreamId): string {
  return `${ms}-${seq}`;
}

/** Below 0 if a is before b, 0 if they are equal, above 0 if a is after b. Throws TypeError if one is no id. */
export function compareIds(a: string, b: string): number {
  const left = mustParse(a);
  const right = mustParse(b);
  if (left.ms !== right.ms) return left.ms < right.ms ? -1 : 1;
  if (left.seq === right.seq) return 0;
  return left.seq < right.seq ? -1 : 1;
}

/** The smallest id behind `id`. Throws RangeError behind the last one. */
export function nextId(id: string): string {
  const { ms, seq } = mustParse(id);
  if (seq < UINT64_MAX) return formatId({ ms, seq: seq + 1n });
  if (ms === UINT64_MAX) throw new RangeError('no stream id follows the last one');
  return formatId({ ms: ms + 1n, seq: 0n });
}

function mustParse(id: string): StreamId {
  const parsed = parseId(id);
  if (parsed === undefined) throw new TypeError(`not a stream id: ${JSON.stringify(id.slice(0, 64))}`);
  return parsed;
}
