import { describe, expect, test } from 'vitest';
import { escapeControl, formatBytes, formatCount, formatDuration } from '../../src/commands/format.ts';
import { ProgressMeter, renderProgress } from '../../src/commands/progress-view.ts';
import { startCommand } from '../../src/commands/start-command.ts';
import { renderStatus } from '../../src/commands/status-view.ts';
import { stopPlaceText } from '../../src/commands/stop-text.ts';
import { parseEndpoint } from '../../src/runtime/endpoint.ts';
import { laneStatus, pipelineStatus, stopped } from '../support/pipeline-status.ts';

const PLAIN = { colour: false, width: 100 };
const TIME = pipelineStatus().time;

describe('the status view', () => {
  test('shows a caught-up pipeline on a few lines', () => {
    expect(renderStatus(pipelineStatus(), PLAIN)).toBe(
      [
        'lanegate default: running',
        'source    redis-stream at 1712-4, connected',
        'journal   head at seq 1,200, everything applied through seq 1,200',
        'lag       none',
        'ingest    held by worker-1, epoch 3, generation 1-ab12',
        'gate      closed',
        '',
        'lane                            backlog  applied   tail  notes',
        '   0  ........................      0 B    1,200  1,200',
        '   1  ........................      0 B    1,200  1,200',
        '',
        'counters  81,234 commands applied, 12 gates',
        'workers   worker-1 on here, pid 4242: ingest, lanes, gate, lanes 0..1',
        '',
      ].join('\n'),
    );
  });

  test('names the command of an open gate and the lanes that it waits for', () => {
    const gate = { open: true, seq: 1_300, command: 'FLUSHDB', waitingFor: [1], stopped: null };
    const text = renderStatus(pipelineStatus({ gate, lagEntries: 44, lagMs: 3_240 }), PLAIN);
    expect(text).toContain('gate      open for `FLUSHDB` at seq 1,300, waiting for lane 1\n');
    expect(text).toContain('lag       44 entries, 3.2 s\n');
    expect(text).toMatch(/^ {3}1 .*the gate waits for it$/m);
    const both = renderStatus(pipelineStatus({ gate: { ...gate, waitingFor: [3, 5] } }), PLAIN);
    expect(both).toContain('waiting for lanes 3, 5\n');
    const none = renderStatus(pipelineStatus({ gate: { ...gate, waitingFor: [] } }), PLAIN);
    expect(none).toContain('open for `FLUSHDB` at seq 1,300, all its lanes have arrived\n');
  });

  test('gives the fullest lane the longest bar and never an empty one to a lane that is behind', () => {
    const lanes = [
      laneStatus(0, { backlogBytes: 1 }),
      laneStatus(1, { backlogBytes: 5 * 1024 }),
      laneStatus(2, { backlogBytes: 10 * 1024 }),
      laneStatus(3),
    ];
    const bars = renderStatus(pipelineStatus({ lanes }), PLAIN).match(/[#.]{4,}/g);
    expect(bars).toEqual([`#${'.'.repeat(23)}`, '############............', '#'.repeat(24), '.'.repeat(24)]);
  });

  test('says of a stopped lane what, where and why, and the command to type', () => {
    const lanes = [laneStatus(0), laneStatus(1, { stopped: stopped() })];
    const text = renderStatus(pipelineStatus({ state: 'stopped', lanes }), PLAIN);
    expect(text).toMatch(/^lanegate default: stopped$/m);
    expect(text).toMatch(/^ {3}1 .*stopped at seq 1,287$/m);
    expect(text).toContain('stopped: lane 1 at seq 1,287 (1712-4:2), LPUSH of key "cart:7"\n');
    expect(text).toContain('  reason: WRONGTYPE Operation against a key holding the wrong kind of value\n');
    expect(text).toContain('  type: lanegate lane resume 3\n');
  });

  test('says of what waits since when, why and what helps', () => {
    const waiting = { sinceMs: TIME - 125_000, code: 'NOAUTH', hint: 'give --target a password' };
    const text = renderStatus(
      pipelineStatus({ state: 'waiting', target: { waiting, guarantee: null } }),
      PLAIN,
    );
    expect(text).toContain('waiting for 2 min 5 s: the target, NOAUTH\n  give --target a password\n');
  });

  test('names a pipeline that nobody works on, and counters that ask for a look', () => {
    const counters = { ...pipelineStatus().counters, divergences: 2, retries: 7 };
    const ingest = { ...pipelineStatus().ingest, holder: null, paused: true, backpressure: true };
    const text = renderStatus(pipelineStatus({ workers: [], counters, ingest }), PLAIN);
    expect(text).toContain(
      'held by nobody, epoch 3, generation 1-ab12, paused by an operator, resting: the journal is\n          full\n',
    );
    expect(text).toContain('12 gates, 7 retries, 2 divergences\n');
    expect(text).toContain('see: lanegate errors\n');
    expect(text).toContain('workers   none\n');
  });

  test('says that no worker runs, and what to type', () => {
    const start = startCommand({
      name: 'p1',
      source: 'redis-stream://ada:tiger@src:6379?key=binlog',
      target: parseEndpoint('--target', 'redis://u:tiger@dst'),
      queue: parseEndpoint('--queue', 'redis://jobs:7000'),
    });
    const typed =
      "lanegate worker --name p1 --source 'redis-stream://src:6379?key=binlog' --target redis://dst:6379 --queue redis://jobs:7000";
    expect(start).toBe(typed);
    const idle = renderStatus(pipelineStatus({ state: 'waiting', workers: [] }), { ...PLAIN, start });
    expect(idle).toContain('lanegate default: waiting\n');
    expect(idle).toContain(`waiting: no worker runs, nothing is read or applied\n  type: ${typed}\n`);
    expect(renderStatus(pipelineStatus(), { ...PLAIN, start })).not.toContain('type:');
    const bare = { name: 'default', source: undefined, target: undefined, queue: undefined };
    expect(startCommand(bare)).toBe('lanegate run --source URL --target URL');
  });

  test('a stop says where it is as far as that is known', () => {
    const at = (changes: Parameters<typeof stopped>[0]) => stopPlaceText(stopped(changes));
    expect(at({})).toBe('at seq 1287 (1712-4:2), LPUSH of key "cart:7"');
    const lost = { seq: 0, position: '', command: 'SOURCE_LOST', key: null };
    expect(at(lost)).toBe('before its first command, SOURCE_LOST');
    expect(at({ ...lost, position: '0-0' })).toBe('at the beginning (0-0), SOURCE_LOST');
    expect(at({ ...lost, seq: 7, position: 'unknown..unknown', command: '-' })).toBe('at seq 7');
  });

  test('lets no key, reason or worker name steer the terminal', () => {
    const evil = '\u001b[2J\r\n\u009b31m\u202ekey';
    const stop = stopped({ key: evil, reason: evil, command: evil, position: evil, hint: evil });
    const status = pipelineStatus({
      lanes: [laneStatus(0, { stopped: stop, waiting: { sinceMs: TIME, code: evil, hint: evil } })],
      gate: { open: true, seq: 1, command: evil, waitingFor: [], stopped: null },
      workers: [{ id: evil, host: evil, pid: 1, roles: [evil], lanes: [] }],
      source: { kind: evil, position: evil, connected: true, waiting: null, snapshot: null },
      name: evil,
    });
    const text = renderStatus(status, PLAIN);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    expect(text.replaceAll('\n', '')).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202e]/);
    expect(text).toContain('\\x1b[2J\\x0d\\x0a\\x9b31m\\u202ekey');
  });

  test('keeps within the terminal, but never breaks a command that is to be copied', () => {
    const lanes = [
      laneStatus(0, {
        paused: true,
        stopped: stopped({ hint: `lanegate lane skip --seq 1287 ${'x'.repeat(60)}` }),
      }),
    ];
    const lines = renderStatus(pipelineStatus({ lanes }), { colour: false, width: 50 }).split('\n');
    const tooLong = lines.filter((line) => line.length > 50);
    expect(tooLong).toEqual([`  type: lanegate lane skip --seq 1287 ${'x'.repeat(60)}`]);
    expect(lines.join('\n')).toMatch(
      /\n {2}reason: WRONGTYPE Operation against a key\n {4}holding the wrong kind of value\n/,
    );
  });

  test('uses colours and blocks only where that is wanted', () => {
    const status = pipelineStatus({ lanes: [laneStatus(0, { backlogBytes: 9, paused: true })] });
    const coloured = renderStatus(status, { colour: true, width: 100 });
    expect(coloured).toContain('\u001b[32mlanegate default: running\u001b[0m');
    expect(coloured).toContain('█');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colour codes begin with one
    expect(renderStatus(status, PLAIN)).not.toMatch(/[\u001b█░]/);
  });

  test('shows a pipeline that has not begun', () => {
    const status = pipelineStatus({
      source: { kind: null, position: null, connected: false, waiting: null, snapshot: null },
      lowWaterMark: { seq: 0, position: null },
      lanes: [],
    });
    const text = renderStatus(status, PLAIN);
    expect(text).toContain('source    not known yet\n');
    expect(text).toContain('everything applied through not known');
  });
});

describe('progress', () => {
  const at = (ms: number, applied: number, lagEntries: number) =>
    pipelineStatus({ time: TIME + ms, lagEntries, counters: { ...pipelineStatus().counters, applied } });

  test('tells rate and time left from two statuses', () => {
    const meter = new ProgressMeter();
    expect(meter.update(at(0, 1_000, 4_000))).toEqual({
      applied: 0,
      commandsPerSecond: 0,
      lagEntries: 4_000,
      msLeft: undefined,
    });
    const progress = meter.update(at(500, 51_000, 3_000));
    expect(progress).toEqual({
      applied: 50_000,
      commandsPerSecond: 100_000,
      lagEntries: 3_000,
      msLeft: 1_500,
    });
    expect(renderProgress(progress, PLAIN)).toBe(
      '50,000 commands applied, 100,000 commands/s, 3,000 entries to go, 1.5 s left',
    );
  });

  test('counts what was applied between the beginning of a run and the first look at it', () => {
    const meter = new ProgressMeter(1_000);
    expect(meter.update(at(0, 1_200, 0)).applied).toBe(200);
  });

  test('knows no time left while the source is faster, and 0 at the end', () => {
    const meter = new ProgressMeter();
    meter.update(at(0, 0, 100));
    const slower = meter.update(at(1_000, 10, 200));
    expect(slower.msLeft).toBeUndefined();
    expect(renderProgress(slower, PLAIN)).toContain('time left not known');
    expect(meter.update(at(2_000, 500, 0)).msLeft).toBe(0);
  });

  test('follows a change of the rate gradually', () => {
    const meter = new ProgressMeter();
    meter.update(at(0, 0, 1_000));
    meter.update(at(1_000, 1_000, 900));
    const { commandsPerSecond } = meter.update(at(2_000, 1_000, 900));
    expect(commandsPerSecond).toBeGreaterThan(500);
    expect(commandsPerSecond).toBeLessThan(1_000);
  });

  test('bears a second look at the same status and a counter that began anew', () => {
    const meter = new ProgressMeter();
    meter.update(at(0, 500, 10));
    expect(meter.update(at(0, 500, 10)).commandsPerSecond).toBe(0);
    expect(meter.update(at(1_000, 5, 9))).toMatchObject({ applied: 0, commandsPerSecond: 0 });
  });

  test('never takes more than one line', () => {
    const line = renderProgress(
      { applied: 1e9, commandsPerSecond: 1e6, lagEntries: 1e9, msLeft: 1e9, snapshot: undefined },
      { colour: true, width: 30 },
    );
    expect(line).toHaveLength(30);
  });
});

describe('figures', () => {
  test('carry their unit', () => {
    expect([0, 1_023, 1_024, 1_536, 11_264, 5_000_000, 3e9].map(formatBytes)).toEqual([
      '0 B',
      '1023 B',
      '1 KiB',
      '1.5 KiB',
      '11 KiB',
      '4.8 MiB',
      '2.8 GiB',
    ]);
    expect([0, 4.4, 999.7, 1_500, 59_400, 125_000, 7_260_000, 2e8].map(formatDuration)).toEqual([
      '0 ms',
      '4 ms',
      '1.0 s',
      '1.5 s',
      '59 s',
      '2 min 5 s',
      '2 h 1 min',
      '2 d 7 h',
    ]);
    expect(formatCount(81_234)).toBe('81,234');
    expect(escapeControl('a'.repeat(600))).toHaveLength(503);
  });
});
