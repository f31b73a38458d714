import { describe, expect, test } from 'vitest';
import {
  binlogSync,
  metaSync,
  readResponse,
  removeSlaveNode,
  trySync,
} from '../../../src/sources/pika/messages.ts';

// Frames as protoc reads them with Pika's own definition.
const NODE = { ip: '10.0.0.9', port: 9999 };
const START = { filenum: 0, offset: 0 };
const END = { filenum: 0, offset: 69 };

function message(hex: string): Buffer {
  return Buffer.from(hex.replaceAll(' ', ''), 'hex').subarray(4);
}

describe('requests to a Pika master', () => {
  test('MetaSync carries the node and the password', () => {
    expect(metaSync(NODE, 'pw').toString('hex')).toBe(
      '00000017080112130a0d0a0831302e302e302e39108f4e12027077',
    );
  });

  test('MetaSync without a password carries none', () => {
    expect(metaSync(NODE, undefined).toString('hex')).toBe('000000130801120f0a0d0a0831302e302e302e39108f4e');
  });

  test('TrySync carries the end of the last item', () => {
    expect(trySync(NODE, 'db0', END).toString('hex')).toBe(
      '0000002208021a1e0a0d0a0831302e302e302e39108f4e12070a0364623010001a0408001045',
    );
  });

  test('the first BinlogSync has the same place twice', () => {
    const frame = binlogSync(NODE, 'db0', { first: START, last: START, session: 0, begins: true });
    expect(frame.toString('hex')).toBe(
      '0000003208042a2e0a0d0a0831302e302e302e39108f4e12036462301800220808001000180020002a08080010001800200030003801',
    );
  });

  test('a ping is a BinlogSync of nothing', () => {
    const frame = binlogSync(NODE, 'db0', { first: START, last: START, session: 0, begins: false });
    expect(frame.toString('hex')).toBe(
      '0000003208042a2e0a0d0a0831302e302e302e39108f4e12036462301800220808001000180020002a08080010001800200030003800',
    );
  });

  test('an acknowledgement has the first and the last end, and the session', () => {
    const frame = binlogSync(NODE, 'db0', { first: END, last: END, session: 3, begins: false });
    expect(frame.toString('hex')).toBe(
      '0000003208042a2e0a0d0a0831302e302e302e39108f4e12036462301800220808001045180020002a08080010451800200030033800',
    );
  });

  test('several databases are left in one request', () => {
    const frame = removeSlaveNode(NODE, ['db0', 'db1']);
    expect(frame.toString('hex')).toBe(
      '00000036' +
        '080632180a0d0a0831302e302e302e39108f4e12070a036462301000' +
        '32180a0d0a0831302e302e302e39108f4e12070a036462311000',
    );
  });
});

describe('responses of a Pika master', () => {
  test('MetaSync names the databases and the log', () => {
    expect(
      readResponse(message('00000019 080110012213080112090a03646230100118031a0172220178')),
    ).toMatchObject({ kind: 'metaSync', outcome: 'ok', databases: ['db0'], runId: 'r', replicationId: 'x' });
  });

  test('a MetaSync of an older master, without ids, is read', () => {
    expect(readResponse(message('0000000f 0801100122090801 12050a03646230'))).toMatchObject({
      databases: ['db0'],
      runId: '',
      replicationId: '',
    });
  });

  test('TrySync gives the session and the end of the log', () => {
    expect(readResponse(message('00000019 080210013213080112070a0364623010001a04080010452000'))).toEqual({
      kind: 'trySync',
      outcome: 'accepted',
      text: '',
      db: 'db0',
      end: END,
      session: 0,
    });
  });

  test('the fields of a response may come in any order, with unknown ones in between', () => {
    const shuffled = '3213 2000 1a0408001045 12070a036462301000 0801 fa010568656c6c6f 1001 0802';
    expect(readResponse(message(`00000000 ${shuffled}`))).toMatchObject({ outcome: 'accepted', end: END });
  });

  test('items come with their ends, and a ping without bytes', () => {
    const item =
      '3d010000f153650000000001000000000000000000000000000000000000001b000000' +
      '2a330d0a24330d0a5345540d0a24310d0a610d0a24310d0a620d0a';
    const response = readResponse(
      message(`0000005a 080410013a540a070a03646230100012080800104518002001 1a${item}2000`),
    );
    expect(response).toEqual({
      kind: 'binlogSync',
      text: '',
      items: [{ db: 'db0', end: END, session: 0, bytes: Buffer.from(item.slice(2), 'hex') }],
    });
    const ping = readResponse(message('0000001d 080410013a170a070a036462301000120808001000180020001a002000'));
    expect(ping).toEqual({
      kind: 'binlogSync',
      text: '',
      items: [{ db: 'db0', end: START, session: 0, bytes: Buffer.alloc(0) }],
    });
  });

  test('what is no message is refused', () => {
    expect(() => readResponse(Buffer.from('2b4f4b0d0a', 'hex'))).toThrow();
  });
});
