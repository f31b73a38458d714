import { describe, expect, test } from 'vitest';
import { Classifier, type ClassifierOptions, type Verdict } from '../../../src/binlog/classify.ts';
import { CommandTable } from '../../../src/binlog/command-table.ts';
import { scanned } from './scanned.ts';

const table = CommandTable.shipped();

function classify(line: string, options: Partial<ClassifierOptions> = {}): Verdict {
  const all = {
    table,
    splitMultiKey: true,
    publish: false,
    scriptKeys: 'all',
    pipeline: 'default',
  } as const;
  return new Classifier({ ...all, ...options }).classify(scanned(line));
}

/** The verdict in one line, for tables. */
function brief(line: string, options: Partial<ClassifierOptions> = {}): string {
  const verdict = classify(line, options);
  if (verdict.kind === 'keyed') {
    const marks = [
      verdict.split && 'split',
      verdict.rewrite && 'rewrite',
      verdict.undetermined && 'undetermined',
      verdict.databases.length > 0 && `db ${verdict.databases}`,
    ].filter(Boolean);
    return ['keyed', ...verdict.keys.map(String), ...marks.map((mark) => `(${mark})`)].join(' ');
  }
  if (verdict.kind === 'all') return ['all', verdict.reason, verdict.erases, ...verdict.databases].join(' ');
  if (verdict.kind === 'poison') return `poison ${verdict.code}`;
  if (verdict.kind === 'context') return verdict.what === 'SELECT' ? `SELECT ${verdict.db}` : verdict.what;
  return verdict.kind;
}

describe('a command with keys goes to the lanes of its keys', () => {
  test.each([
    ['SET key1 a1', 'keyed key1'],
    ['set k v EX 10', 'keyed k (rewrite)'],
    ['SET k v PXAT 99999', 'keyed k'],
    ['SET k v NX GET', 'keyed k'],
    ['INCR n', 'keyed n'],
    ['EXPIRE k 10', 'keyed k (rewrite)'],
    ['PEXPIREAT k 10', 'keyed k'],
    ['RESTORE k 5 payload', 'keyed k (rewrite)'],
    ['RESTORE k 5 payload ABSTTL', 'keyed k'],
    ['MSET a 1 b 2', 'keyed a b (split)'],
    ['MSET a 1', 'keyed a'],
    ['MSETNX a 1 b 2', 'keyed a b'],
    ['MSETEX 2 a 1 b 2 EX 5', 'keyed a b (rewrite)'],
    ['DEL a b c', 'keyed a b c (split)'],
    ['UNLINK a', 'keyed a'],
    ['TOUCH a b', 'keyed a b (split)'],
    ['RENAME a b', 'keyed a b'],
    ['SINTERSTORE d a b', 'keyed d a b'],
    ['ZUNIONSTORE d 2 a b WEIGHTS 1 2', 'keyed d a b'],
    ['ZINTERSTORE d 1 a', 'keyed d a'],
    ['ZDIFFSTORE d 2 a b', 'keyed d a b'],
    ['ZRANGESTORE d s 0 -1', 'keyed d s'],
    ['LMPOP 2 a b LEFT', 'keyed a b'],
    ['ZMPOP 2 a b MIN COUNT 2', 'keyed a b'],
    ['LMOVE a b LEFT RIGHT', 'keyed a b'],
    ['RPOPLPUSH a b', 'keyed a b'],
    ['SMOVE a b m', 'keyed a b'],
    ['BITOP AND d a b', 'keyed d a b'],
    ['BITFIELD k SET u8 0 1', 'keyed k'],
    ['PFMERGE d a b', 'keyed d a b'],
    ['PFCOUNT a', 'keyed a'],
    ['COPY a b', 'keyed a b'],
    ['COPY a b DB 3 REPLACE', 'keyed a b (db 3)'],
    ['copy a b replace db 3', 'keyed a b (db 3)'],
    ['MOVE a 5', 'keyed a (db 5)'],
    ['SORT a STORE d', 'keyed a d'],
    ['SORT a LIMIT 0 5 GET # STORE d ALPHA', 'keyed a d'],
    ['SORT a BY nosort STORE d', 'keyed a d'],
    ['SORT a STORE x STORE d', 'keyed a d'],
    ['GEORADIUS g 1 2 3 km STORE d', 'keyed g d'],
    ['GEORADIUS g 1 2 3 km STORE x STOREDIST d', 'keyed g d'],
    ['GEORADIUSBYMEMBER g m 3 km STOREDIST d', 'keyed g d'],
    ['GEOSEARCHSTORE d g FROMMEMBER m BYRADIUS 1 km', 'keyed d g'],
    ['XADD s 1-1 f v', 'keyed s'],
    ['XADD s * f v', 'keyed s (undetermined)'],
    ['XADD s 5-* f v', 'keyed s (undetermined)'],
    ['XADD s NOMKSTREAM MAXLEN ~ 10 LIMIT 5 * f v', 'keyed s (rewrite) (undetermined)'],
    ['XADD s MAXLEN = 10 1-1 f *', 'keyed s'],
    ['XGROUP CREATE s g $ MKSTREAM', 'keyed s'],
    ['XGROUP DESTROY s g', 'keyed s'],
    ['XREADGROUP GROUP g c COUNT 1 STREAMS a b > >', 'keyed a b'],
    ['XREADGROUP GROUP g BLOCK STREAMS a >', 'keyed a'],
    ['XACK s g 1-1', 'keyed s'],
    ['SPOP s', 'keyed s (undetermined)'],
    ['HEXPIRE h 5 FIELDS 1 f', 'keyed h (rewrite)'],
    ['HSETEX h EX 5 FIELDS 1 f v', 'keyed h (rewrite)'],
    ['HSETEX h FIELDS 1 EX v', 'keyed h'],
    ['HGETDEL h FIELDS 1 f', 'keyed h'],
    ['VADD v VALUES 1 1 e', 'keyed v'],
    ['SUNIONSTORE "{t}d" "{t}a"', 'keyed {t}d {t}a'],
    ['SETRANGE k 0 v', 'keyed k'],
    ['SET "" v', 'keyed '],
  ])('%s', (line, expected) => {
    expect(brief(line)).toBe(expected);
  });

  test('multi-key commands stay whole without splitMultiKey', () => {
    expect(brief('DEL a b', { splitMultiKey: false })).toBe('keyed a b');
  });
});

describe('a command that may touch any key waits for all lanes', () => {
  test.each([
    ['FLUSHDB', 'all erases db'],
    ['flushdb async', 'all erases db'],
    ['FLUSHALL', 'all erases everything'],
    ['SWAPDB 0 3', 'all swaps swap 0 3'],
    ['FUNCTION LOAD code', 'all library nothing'],
    ['FUNCTION DELETE lib', 'all library nothing'],
    ['FUNCTION FLUSH', 'all library nothing'],
    ['FUNCTION RESTORE dump', 'all library nothing'],
    ['SCRIPT LOAD code', 'all library nothing'],
    ['SCRIPT FLUSH', 'all library nothing'],
    ['EVAL code 1 k', 'all script nothing'],
    ['EVALSHA sha 0', 'all script nothing'],
    ['FCALL f 1 k', 'all script nothing'],
    ['SORT a BY w_* STORE d', 'all sort patterns nothing'],
    ['SORT a GET # GET o_* STORE d', 'all sort patterns nothing'],
  ])('%s', (line, expected) => {
    expect(brief(line)).toBe(expected);
  });

  test('a script goes to its declared keys if the operator trusts them', () => {
    const scriptKeys = 'declared' as const;
    expect(brief('EVAL code 2 a b c', { scriptKeys })).toBe('keyed a b');
    expect(brief('FCALL f 1 a', { scriptKeys })).toBe('keyed a');
    expect(brief('EVAL code 0 a', { scriptKeys })).toBe('all script nothing');
  });
});

describe('what has no effect on data is ignored, and context is handed on', () => {
  test.each([
    ...[
      'GET k',
      'PING',
      'ECHO x',
      'REPLCONF GETACK *',
      'WAIT 1 0',
      'WATCH a',
      'UNWATCH',
      'INFO',
      'COMMAND',
      'COMMAND COUNT',
    ],
    ...[
      'KEYS *',
      'SCAN 0',
      'OBJECT FREQ k',
      'MEMORY USAGE k',
      'MEMORY PURGE',
      'LCS a b',
      'STRALGO LCS KEYS a b',
      'XINFO STREAM s',
    ],
    ...[
      'SORT a',
      'SORT a BY w_*',
      'SORT_RO a',
      'GEORADIUS g 1 2 3 km',
      'GEORADIUS_RO g 1 2 3 km',
      'PFCOUNT a b',
      'XREAD BLOCK 0 STREAMS a 0',
    ],
    ...[
      'EVAL_RO code 1 k',
      'FCALL_RO f 0',
      'SCRIPT EXISTS x',
      'FUNCTION LIST',
      'PUBLISH c m',
      'SPUBLISH c m',
      'XGROUP HELP',
      'DBSIZE',
    ],
    ...['HTTL h FIELDS 1 f', 'WAITAOF 0 1 0', 'GET lanegate:x'],
  ])('%s', (line) => {
    expect(brief(line)).toBe('ignored');
  });

  test.each([
    ['SELECT 5', 'SELECT 5'],
    ['multi', 'MULTI'],
    ['EXEC', 'EXEC'],
    ['DISCARD', 'DISCARD'],
  ])('%s', (line, expected) => {
    expect(brief(line)).toBe(expected);
  });

  test('messages go to the lane of their channel if they are asked for, whatever its name', () => {
    expect(brief('PUBLISH c m', { publish: true })).toBe('keyed c');
    expect(brief('SPUBLISH lanegate:c m', { publish: true })).toBe('keyed lanegate:c');
  });
});

describe('what must not or cannot be sent is poison', () => {
  test.each([
    ...[
      'CONFIG SET a b',
      'CONFIG',
      'SHUTDOWN',
      'DEBUG SLEEP 1',
      'MODULE LOAD x',
      'REPLICAOF a 1',
      'SLAVEOF a 1',
      'ACL SETUSER x',
    ],
    ...[
      'CLUSTER RESET',
      'CLUSTER NEWTHING',
      'FAILOVER',
      'MIGRATE h 1 k 0 5',
      'CLIENT KILL x',
      'CLIENT',
      'AUTH x',
      'HELLO',
      'MONITOR',
    ],
    ...[
      'PSYNC ? -1',
      'SYNC',
      'SAVE',
      'BGSAVE',
      'BGREWRITEAOF',
      'LATENCY RESET',
      'RESET',
      'QUIT',
      'SUBSCRIBE a',
      'PUNSUBSCRIBE',
    ],
    ...[
      'PFDEBUG ENCODING k',
      'SCRIPT DEBUG YES',
      'SLOWLOG RESET',
      'XREADGROUP GROUP g c BLOCK 0 STREAMS a >',
    ],
    ...[
      'BLPOP a 0',
      'BRPOP a 0',
      'BLMOVE a b LEFT LEFT 0',
      'BRPOPLPUSH a b 0',
      'BLMPOP 0 1 a LEFT',
      'BZPOPMIN a 0',
      'BZMPOP 0 1 a MIN',
    ],
  ])('%s is forbidden', (line) => {
    expect(brief(line)).toBe('poison FORBIDDEN_COMMAND');
  });

  test.each([
    ['NOSUCH a', 'UNKNOWN_COMMAND'],
    ['XGROUP NOSUCH a', 'UNKNOWN_COMMAND'],
    ['"" a', 'UNKNOWN_COMMAND'],
    ['SET a', 'WRONG_ARITY'],
    ['GET', 'WRONG_ARITY'],
    ['XGROUP', 'WRONG_ARITY'],
    ['EXEC now', 'WRONG_ARITY'],
    ['MSET a 1 b', 'WRONG_ARITY'],
    ['INCR a b', 'WRONG_ARITY'],
    ['SELECT x', 'SYNTAX'],
    ['SELECT -1', 'SYNTAX'],
    ['SWAPDB 0 x', 'SYNTAX'],
    ['MOVE a x', 'SYNTAX'],
    ['COPY a b DB', 'SYNTAX'],
    ['LMPOP 5 a LEFT', 'SYNTAX'],
    ['LMPOP x a LEFT', 'SYNTAX'],
    ['EVAL code -1 a', 'SYNTAX'],
    ['EVAL code 2 a', 'SYNTAX'],
    ['SORT a STORE', 'SYNTAX'],
    ['SORT a FOO', 'SYNTAX'],
    ['SET lanegate:x 1', 'RESERVED_KEY'],
    ['DEL a lanegate:demo:ck:0', 'RESERVED_KEY'],
    ['EVAL code 1 lanegate:x', 'RESERVED_KEY'],
    ['SORT a BY w_* STORE lanegate:x', 'RESERVED_KEY'],
  ])('%s: %s', (line, code) => {
    expect(brief(line)).toBe(`poison ${code}`);
  });

  test('the reason names the command and the key, shortened and escaped, and no value', () => {
    const verdict = classify(`SET "lanegate:\\n${'k'.repeat(100)}" secret`);
    expect(verdict).toMatchObject({ kind: 'poison', code: 'RESERVED_KEY' });
    const reason = verdict.kind === 'poison' ? verdict.reason : '';
    expect(reason).toContain('SET on "lanegate:\\nkkk');
    expect(reason).not.toContain('secret');
    expect(reason.length).toBeLessThan(160);
  });

  test('a refused command names its key where the table knows it, and never a value', () => {
    expect(classify('BLPOP a 0')).toMatchObject({ key: Buffer.from('a') });
    expect(classify('INCR a b')).toMatchObject({ key: Buffer.from('a') });
    expect(classify('MOVE a x')).toMatchObject({ key: Buffer.from('a') });
    expect(classify('AUTH secret')).toMatchObject({ key: undefined });
    expect(classify('CONFIG SET requirepass secret')).toMatchObject({ key: undefined });
    expect(classify('NOSUCH secret')).toMatchObject({ key: undefined });
  });

  test('the operator may deny a command, or allow one that is forbidden or unknown, but never one that breaks the session', () => {
    expect(brief('SET a 1', { deny: ['set'] })).toBe('poison DENIED_COMMAND');
    expect(brief('FUNCTION FLUSH', { deny: ['FUNCTION'] })).toBe('poison DENIED_COMMAND');
    expect(brief('BLPOP a b 0', { allow: ['blpop'] })).toBe('keyed a b');
    expect(brief('BLPOP a 0', { allow: ['blpop'], deny: ['BLPOP'] })).toBe('poison DENIED_COMMAND');
    expect(brief('CONFIG SET a b', { allow: ['CONFIG SET'] })).toBe('all no keys nothing');
    expect(brief('my.cmd a', { allow: ['MY.CMD'] })).toBe('all keys unknown nothing');
    expect(brief('MONITOR', { allow: ['MONITOR'] })).toBe('poison FORBIDDEN_COMMAND');
  });
});

describe('the hot path', () => {
  const options = {
    table,
    splitMultiKey: true,
    publish: false,
    scriptKeys: 'all',
    pipeline: 'default',
  } as const;

  function passes(line: string, more: Partial<ClassifierOptions> = {}): boolean {
    const scanner = scanned(line);
    const { buffer, argStart, argEnd } = scanner;
    const spec = table.lookup(buffer, argStart[0] as number, argEnd[0] as number);
    return spec !== undefined && new Classifier({ ...options, ...more }).passesPlain(spec, scanner);
  }

  test('passes one key without anything to rewrite, check or count', () => {
    for (const line of [
      'SET k v',
      'incr k',
      'HSET h f v',
      'DEL k',
      'RPUSH l a b c',
      'SET k v PXAT 99',
      'PEXPIREAT k 99',
      'RESTORE k 5 payload ABSTTL',
    ])
      expect(passes(line), line).toBe(true);
  });

  test('passes nothing else', () => {
    const others = [
      'SET k v EX 1',
      'SET k',
      'DEL a b',
      'SET lanegate:x v',
      'GET k',
      'FLUSHDB',
      'SPOP s',
      'XADD s * f v',
      'PING',
      'BLPOP a 0',
    ];
    for (const line of others) expect(passes(line), line).toBe(false);
    expect(passes('SET k v', { deny: ['SET'] })).toBe(false);
  });

  test('never passes what `classify` would not send to the lane of argument 1 as it is', () => {
    const tails = ['', ' a', ' a b', ' a b c', ' lanegate:a b c', ' a EX 5', ' 1 a b c', ' a b c d e f'];
    for (const spec of table.specs) {
      for (const tail of tails) {
        const line = `${spec.name}${tail}`;
        if (!passes(line)) continue;
        expect(brief(line), line).toBe(`keyed ${tail.split(' ')[1]}`);
      }
    }
  });
});
