import { describe, expect, test } from 'vitest';
import { ConfigurationError } from '../../../src/runtime/errors.ts';
import {
  coversPika,
  formatPikaPosition,
  parsePikaPosition,
  positionAt,
} from '../../../src/sources/pika/position.ts';
import { endsIn } from '../../../src/sources/pika/server.ts';
import { databaseNumbers, parseNode, parsePikaUrl } from '../../../src/sources/pika/url.ts';

const LOG = 'a'.repeat(50);

describe("positions in Pika's binlog", () => {
  test.each([
    `${LOG}/db0:3:81920`,
    'db0:0:0',
    `${LOG}/db0:3:81920,db1:0:7`,
    `${LOG}/db0:3:81920,db1:0:7;db0:4:1,db1:0:9`,
    `${LOG}/db0:3:81920,db1:0:7;db0:4:1,db1:0:9!`,
    `${LOG}/db0:3:81920~0@1!`,
    `${LOG}/db0:3:81920~2s*0+12@1!`,
    `${LOG}/db0:3:81920~1.q5k,db1:0:7~7*2.5k;db0:4:1,db1:0:9+3@2`,
  ])('%s is read and written alike', (text) => {
    expect(formatPikaPosition(parsePikaPosition(text))).toBe(text);
  });

  test('without a replication id, and with databases in any order, it can be typed', () => {
    expect(formatPikaPosition(parsePikaPosition('db1:0:7,db0:3:9'))).toBe('db0:3:9,db1:0:7');
    // As the files' positions are printed (lanegate pika-binlog).
    expect(formatPikaPosition(parsePikaPosition('db0=3:9'))).toBe('db0:3:9');
  });

  test('the largest one fits into 512 bytes', () => {
    const places = new Map(
      Array.from({ length: 8 }, (_, i) => [`db${i}`, { filenum: 9_999, offset: 1_610_612_736 }]),
    );
    const since = new Map([...places].map(([db, place]) => [db, { ...place, filenum: place.filenum - 1 }]));
    const text = formatPikaPosition({
      ...positionAt(LOG, places),
      window: places,
      announced: true,
      since,
      through: new Map(
        [...places].map(([db, place]) => [db, { ...place, offset: place.offset + 1_000_000 }]),
      ),
      reserved: 30_000,
      steps: 99,
    });
    expect(text.length).toBeLessThanOrEqual(512);
    expect(parsePikaPosition(text).window?.size).toBe(8);
  });

  test.each([
    '',
    'db0',
    'db0:1',
    'db0:1:x',
    'db0:1:2,db0:1:3',
    'db0:1:2;',
    '1-0@1',
    `${LOG}/`,
    'db0:1:2~',
    'db0:1:2*0',
    'db0:1:2~5*',
    'db0:1:2;db0:1:3~5',
  ])('%j is refused', (text) => {
    expect(() => parsePikaPosition(text)).toThrow(ConfigurationError);
  });

  test('a head is covered when every database of it is', () => {
    expect(coversPika('x/db0:1:5,db1:0:9', '/db0:1:5,db1:0:9')).toBe(true);
    expect(coversPika('x/db0:2:0,db1:0:9', '/db0:1:5,db1:0:9')).toBe(true);
    expect(coversPika('x/db0:1:5,db1:0:8', '/db0:1:5,db1:0:9')).toBe(false);
    expect(coversPika('x/db0:1:5', '/db0:1:5,db1:0:9')).toBe(false);
    // As long as something is to be repaired it is not there.
    expect(coversPika('x/db0:1:5~5', '/db0:1:5')).toBe(true);
    expect(coversPika('x/db0:1:5~5*0', '/db0:1:5')).toBe(false);
    expect(coversPika('x/db0:1:5~5+1', '/db0:1:5')).toBe(false);
  });
});

describe('the URL of a Pika', () => {
  test('names databases in any order; the port is 9221 unless given', () => {
    const { endpoint, databases } = parsePikaUrl('--source', 'pika://user:secret@10.0.0.1?db=db1,db0');
    expect(databases).toEqual(['db0', 'db1']);
    expect(endpoint).toMatchObject({ host: '10.0.0.1', port: 9221, username: 'user', password: 'secret' });
    expect(endpoint.display).toBe('pika://10.0.0.1:9221?db=db1,db0');
    expect(parsePikaUrl('--source', 'pika://h:6379').endpoint.port).toBe(6379);
  });

  test.each(['pika://h/0', 'pika://h?key=a', 'pika://h?db=', 'pika://h?db=db0,db0', 'pika://h?db=a:b'])(
    '%s is refused',
    (url) => {
      expect(() => parsePikaUrl('--source', url)).toThrow(ConfigurationError);
    },
  );

  test('a node is an address and a port', () => {
    expect(parseNode('--pika-node', '10.0.0.7:9999')).toEqual({ ip: '10.0.0.7', port: 9999 });
    for (const bad of ['10.0.0.7', '10.0.0.7:0', ':1', '::1:9', 'a:70000'])
      expect(() => parseNode('--pika-node', bad)).toThrow(ConfigurationError);
  });

  test('a database is the number in its name, or what the map says', () => {
    const map = new Map([['main', 4]]);
    expect([...databaseNumbers(['db0', 'db3', 'main'], map)]).toEqual([
      ['db0', 0],
      ['db3', 3],
      ['main', 4],
    ]);
    expect(() => databaseNumbers(['main'], new Map())).toThrow(/--db-map/);
  });
});

test('the ends of the logs are found in INFO, as old and new versions write it', () => {
  const old =
    'role:slave\r\ndb0 binlog_offset=179 30537223,safety_purge=write2file169\r\ndb1 binlog_offset=0 0,safety_purge=none\r\n';
  expect([...endsIn(old)]).toEqual([
    ['db0', { filenum: 179, offset: 30_537_223 }],
    ['db1', { filenum: 0, offset: 0 }],
  ]);
  const young =
    'slave0:ip=10.0.0.1,port=9,conn_fd=7,lag=(db0:0)\r\ndb0:binlog_offset=14 5,safety_purge=none\r\n';
  expect([...endsIn(young)]).toEqual([['db0', { filenum: 14, offset: 5 }]]);
});
