// What we know of one command, and its two written forms: an element of a server's COMMAND reply, and a
// line of text (`SET -3 denyoom,write i1/r0,1,0/RW`), which is what is shipped, hashed and stored.
//
// Key specs, https://redis.io/docs/latest/develop/reference/key-specs/
//   begin   i<pos>                               k<KEYWORD>,<startfrom>      ?
//   find    r<lastkey>,<keystep>,<limit>         n<numkeysidx>,<firstkey>,<keystep>      ?
//   flags   RO RW OW RM, with + behind it if incomplete, - if what is there is not a key (a channel)

export type BeginSearch =
  | { readonly type: 'index'; readonly index: number }
  | { readonly type: 'keyword'; readonly keyword: string; readonly startFrom: number }
  | { readonly type: 'unknown' };

export type FindKeys =
  | { readonly type: 'range'; readonly lastKey: number; readonly keyStep: number; readonly limit: number }
  | {
      readonly type: 'keynum';
      readonly keyNumIndex: number;
      readonly firstKey: number;
      readonly keyStep: number;
    }
  | { readonly type: 'unknown' };

export interface KeySpec {
  readonly begin: BeginSearch;
  readonly find: FindKeys;
  readonly access: string;
  readonly incomplete: boolean;
  readonly notKey: boolean;
}

/** shipped: made from a Redis 7.0; handmade: written by us for newer servers; target: from the target's COMMAND. */
export type SpecOrigin = 'shipped' | 'handmade' | 'target';

/** The facts, before a table gives it its index and the marks for the hot path. */
export interface SpecFacts {
  /** Upper case; of a subcommand with its container: 'XGROUP CREATE'. */
  readonly name: string;
  /** Positive: exactly so many arguments, name included; negative: at least. */
  readonly arity: number;
  readonly flags: readonly string[];
  readonly keySpecs: readonly KeySpec[];
}

const UNKNOWN_SPEC: KeySpec = {
  begin: { type: 'unknown' },
  find: { type: 'unknown' },
  access: 'RW',
  incomplete: false,
  notKey: false,
};

export function encodeSpec(spec: SpecFacts): string {
  const flags = spec.flags.length === 0 ? '-' : [...spec.flags].sort().join(',');
  return [spec.name.replaceAll(' ', '|'), spec.arity, flags, ...spec.keySpecs.map(encodeKeySpec)].join(' ');
}

function encodeKeySpec(spec: KeySpec): string {
  return `${encodeBegin(spec.begin)}/${encodeFind(spec.find)}/${spec.access}${spec.incomplete ? '+' : ''}${spec.notKey ? '-' : ''}`;
}

function encodeBegin(begin: BeginSearch): string {
  if (begin.type === 'index') return `i${begin.index}`;
  return begin.type === 'keyword' ? `k${begin.keyword},${begin.startFrom}` : '?';
}

function encodeFind(find: FindKeys): string {
  if (find.type === 'range') return `r${find.lastKey},${find.keyStep},${find.limit}`;
  return find.type === 'keynum' ? `n${find.keyNumIndex},${find.firstKey},${find.keyStep}` : '?';
}

/** Throws on a line that `encodeSpec` cannot have written. */
export function decodeSpec(line: string): SpecFacts {
  const [name, arity, flags, ...specs] = line.split(' ');
  if (!name || !flags || !Number.isInteger(Number(arity))) throw new Error(`not a command spec: ${line}`);
  return {
    name: name.replaceAll('|', ' '),
    arity: Number(arity),
    flags: flags === '-' ? [] : flags.split(','),
    keySpecs: specs.map(decodeKeySpec),
  };
}

function decodeKeySpec(text: string): KeySpec {
  const [begin = '', find = '', access = ''] = text.split('/');
  return {
    begin: decodeBegin(begin),
    find: decodeFind(find),
    access: access.slice(0, 2),
    incomplete: access.includes('+'),
    notKey: access.includes('-'),
  };
}

function decodeBegin(text: string): BeginSearch {
  if (text.startsWith('i')) return { type: 'index', index: Number(text.slice(1)) };
  const [keyword = '', startFrom] = text.slice(1).split(',');
  return text.startsWith('k')
    ? { type: 'keyword', keyword, startFrom: Number(startFrom) }
    : { type: 'unknown' };
}

function decodeFind(text: string): FindKeys {
  const [a = 0, b = 1, c = 0] = text.slice(1).split(',').map(Number);
  if (text.startsWith('r')) return { type: 'range', lastKey: a, keyStep: b, limit: c };
  return text.startsWith('n')
    ? { type: 'keynum', keyNumIndex: a, firstKey: b, keyStep: c }
    : { type: 'unknown' };
}

/**
 * Reads a COMMAND reply as it comes from the wire (nested arrays; strings or Buffers; RESP2 flat pairs).
 * Elements that cannot be understood are left out: such a command stays unknown, which stops its lane.
 */
export function specsFromReply(reply: readonly unknown[]): SpecFacts[] {
  return reply.flatMap((element) => specsFromElement(element));
}

function specsFromElement(element: unknown): SpecFacts[] {
  if (!Array.isArray(element) || element.length < 6) return [];
  const [name, arity, flags, first, last, step] = element;
  const specName = textOf(name).toUpperCase().replaceAll('|', ' ');
  if (!/^[!-~]+( [!-~]+)?$/.test(specName) || !Number.isInteger(Number(arity))) return [];
  const flagNames = listOf(flags).map(textOf);
  const keySpecs: KeySpec[] =
    element.length >= 9
      ? listOf(element[8]).map(keySpecFromReply).map(wholeOrUnknown)
      : legacyKeySpecs(Number(first), Number(last), Number(step), flagNames);
  return [
    { name: specName, arity: Number(arity), flags: flagNames.toSorted(), keySpecs },
    ...specsFromReply(listOf(element[9])),
  ];
}

/** Servers before 7.0 say only first, last, step, and `movablekeys` where that is not the whole truth. */
function legacyKeySpecs(first: number, last: number, step: number, flags: readonly string[]): KeySpec[] {
  const specs: KeySpec[] = [];
  const access = flags.includes('readonly') ? 'RO' : 'RW';
  if (first > 0) {
    const lastKey = last < 0 ? last : last - first;
    specs.push({
      begin: { type: 'index', index: first },
      find: { type: 'range', lastKey, keyStep: step, limit: 0 },
      access,
      incomplete: false,
      notKey: false,
    });
  }
  if (flags.includes('movablekeys')) specs.push(UNKNOWN_SPEC);
  return specs;
}

function keySpecFromReply(reply: unknown): KeySpec {
  const fields = pairsOf(reply);
  const flags = listOf(fields.get('flags')).map(textOf);
  return {
    begin: beginFromReply(pairsOf(fields.get('begin_search'))),
    find: findFromReply(pairsOf(fields.get('find_keys'))),
    access: flags.find((flag) => /^(RO|RW|OW|RM)$/.test(flag)) ?? 'RW',
    incomplete: flags.includes('incomplete'),
    notKey: flags.includes('not_key'),
  };
}

/** A spec with a number that is none says nothing, and must not be read as "no keys". */
function wholeOrUnknown(spec: KeySpec): KeySpec {
  const numbers = [...Object.values(spec.begin), ...Object.values(spec.find)].filter(
    (field) => typeof field === 'number',
  );
  return numbers.every(Number.isInteger) ? spec : UNKNOWN_SPEC;
}

function beginFromReply(search: ReadonlyMap<string, unknown>): BeginSearch {
  const spec = pairsOf(search.get('spec'));
  const type = textOf(search.get('type'));
  if (type === 'index') return { type, index: Number(spec.get('index')) };
  if (type !== 'keyword') return { type: 'unknown' };
  return {
    type,
    keyword: textOf(spec.get('keyword')).toUpperCase(),
    startFrom: Number(spec.get('startfrom')),
  };
}

function findFromReply(search: ReadonlyMap<string, unknown>): FindKeys {
  const spec = pairsOf(search.get('spec'));
  const number = (field: string): number => Number(spec.get(field));
  const type = textOf(search.get('type'));
  if (type === 'range') {
    return { type, lastKey: number('lastkey'), keyStep: number('keystep'), limit: number('limit') };
  }
  if (type !== 'keynum') return { type: 'unknown' };
  return { type, keyNumIndex: number('keynumidx'), firstKey: number('firstkey'), keyStep: number('keystep') };
}

/** A RESP2 map is a flat list of pairs; RESP3 clients may have made it a Map or an object. */
function pairsOf(reply: unknown): ReadonlyMap<string, unknown> {
  if (reply instanceof Map) return new Map([...reply].map(([key, value]) => [textOf(key), value]));
  const pairs = new Map<string, unknown>();
  if (!Array.isArray(reply)) return new Map(Object.entries(reply ?? {}));
  for (let i = 0; i + 1 < reply.length; i += 2) pairs.set(textOf(reply[i]), reply[i + 1]);
  return pairs;
}

function listOf(reply: unknown): readonly unknown[] {
  if (reply instanceof Set) return [...reply];
  return Array.isArray(reply) ? reply : [];
}

function textOf(reply: unknown): string {
  return Buffer.isBuffer(reply) ? reply.toString('latin1') : String(reply);
}
